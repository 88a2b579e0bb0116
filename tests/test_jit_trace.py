# SPDX-License-Identifier: Apache-2.0
"""torch.jit.trace: graphs that are checked, serve any T and N, train, and run without this package:
in a process that has loaded the operators' library only, and in a program of C++."""

import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import ltlstm
import ltlstm_kernels
from module_results import flat

D, H = 5, 3
MAKERS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: ltlstm.LSTM(D, H, 2),
    "bidirectional": lambda: ltlstm.LSTM(D, H, bidirectional=True, proj_size=2),
    "residual": lambda: ltlstm.ResidualLSTM(D, H, 2),
    "lt": lambda: ltlstm.LTLSTM(D, H, 2, peephole=True),
    "lookahead": lambda: ltlstm.LTLSTM(D, H, 2, lookahead=1),
    "gated": lambda: ltlstm.LTLSTM(D, H, 2, depth_unit="gated"),
    "max": lambda: ltlstm.LTLSTM(D, H, 2, depth_unit="max"),
    "hlstm": lambda: ltlstm.HLSTM(D, H, bidirectional=True),
}
CELLS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: ltlstm.LSTMCell(D, H),
    "lt": lambda: ltlstm.LTLSTMCell(D, H, 2),
    "hlstm": lambda: ltlstm.HLSTMCell(D, H),
}
EVERY = pytest.mark.parametrize("name", MAKERS)
CPU = str(ltlstm_kernels.libraries()["_ops_cpu"].path)

pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*deprecated")


def traced(module: nn.Module, *arguments: Tensor) -> torch.jit.ScriptModule:
    """With torch's own check, which traces again and compares graphs and numbers."""
    return torch.jit.trace(module, arguments)


def assert_same(found: object, want: object) -> None:
    for a, b in zip(flat(found).values(), flat(want).values(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("gradients", [True, False])
@EVERY
def test_other_sizes_and_gradients(name: str, gradients: bool) -> None:
    module = MAKERS[name]()
    with torch.set_grad_enabled(gradients):
        graph = traced(module, torch.randn(4, 2, D))
    x, gradient_of = torch.randn(6, 3, D), []
    assert_same(graph(x), module(x))
    for call in (graph, module):
        call(x)[0].square().sum().backward()
        gradient_of.append([p.grad for p in module.parameters()])
        module.zero_grad()
    assert_same(*gradient_of)


@pytest.mark.parametrize("name", CELLS)
def test_cells(name: str) -> None:
    cell = CELLS[name]()
    graph = traced(cell, torch.randn(4, D))
    x = torch.randn(6, D)
    assert_same(graph(x), cell(x))


class Given(nn.Module):
    """A module in a model: how its second argument is used is what is traced."""

    def __init__(self, module: nn.Module, kind: str) -> None:
        super().__init__()
        self.module, self.kind = module, kind

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        if self.kind in ("lengths", "reset"):
            return self.module(x, **{self.kind: given})[0]
        packed = pack_padded_sequence(x, given, enforce_sorted=self.kind == "sorted")
        return pad_packed_sequence(self.module(packed)[0])[0]


@pytest.mark.parametrize("kind", ["lengths", "reset", "sorted", "unsorted"])
@EVERY
def test_other_lengths_and_resets(name: str, kind: str) -> None:
    def given(T: int, lengths: list[int]) -> Tensor:
        if kind == "reset":
            return torch.rand(T, len(lengths)) < 0.4
        return torch.tensor(sorted(lengths, reverse=True) if kind == "sorted" else lengths)

    model = Given(MAKERS[name](), kind)
    graph = traced(model, torch.randn(4, 2, D), given(4, [2, 4]))
    x, other = torch.randn(6, 3, D), given(6, [3, 6, 1])
    assert_same(graph(x, other), model(x, other))


def test_an_inference_pass_keeps_nothing() -> None:
    # What a graph is traced for is inference; a gradient costs it a second pass.
    graph = traced(ltlstm.LSTM(D, H), torch.randn(4, 2, D))
    [node] = [n for n in graph.inlined_graph.nodes() if n.kind() == "ltlstm::lstm_stack_forward"]
    assert list(node.inputs())[-1].toIValue() is False


class Everything(nn.Module):
    """Each operator once."""

    def __init__(self) -> None:
        super().__init__()
        self.stacks = nn.ModuleDict({name: make() for name, make in MAKERS.items()})
        self.cells = nn.ModuleDict({name: make() for name, make in CELLS.items()})

    def forward(self, x: Tensor) -> Tensor:
        found = [stack(x)[0].sum((0, 2)) for stack in self.stacks.values()]
        found += [cell(x[0])[0].sum(-1) for cell in self.cells.values()]
        return torch.stack(found)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Tensor]:
    """A traced model on disk, and what it gives for ones (6, 3, D)."""
    model, path = Everything(), tmp_path / "model.pt"
    traced(model, torch.randn(4, 2, D)).save(str(path))
    return path, model(torch.ones(6, 3, D)).detach()


def numbers(text: str, like: Tensor) -> Tensor:
    return torch.tensor([float(word) for word in text.split()]).view_as(like)


def test_a_process_that_has_the_library_only(saved: tuple[Path, Tensor]) -> None:
    path, want = saved
    program = (
        "import sys, torch\n"
        f"torch.ops.load_library({CPU!r})\n"
        f"found = torch.jit.load({str(path)!r})(torch.ones(6, 3, {D}))\n"
        "assert 'ltlstm' not in sys.modules and 'ltlstm_kernels' not in sys.modules\n"
        "print(*found.flatten().tolist())\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    torch.testing.assert_close(numbers(run.stdout, want), want)


SOURCE = r"""
#include <dlfcn.h>
#include <torch/script.h>
#include <cstdio>
int main(int, char** arguments) {
  if (!dlopen(arguments[1], RTLD_NOW)) return std::fprintf(stderr, "%s\n", dlerror()), 1;
  torch::NoGradGuard inference;
  torch::jit::Module model = torch::jit::load(arguments[2]);
  const at::Tensor found = model.forward({torch::ones({6, 3, 5})}).toTensor().flatten();
  for (int64_t i = 0; i < found.numel(); ++i) std::printf("%.9g ", found[i].item<float>());
}
"""


def test_a_program_of_cpp(saved: tuple[Path, Tensor], tmp_path: Path) -> None:
    path, want = saved
    root = Path(torch.__file__).parent
    source, binary = tmp_path / "main.cpp", tmp_path / "main"
    source.write_text(SOURCE)
    include = [f"-I{root / 'include'}", f"-I{root / 'include/torch/csrc/api/include'}"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    libraries = [f"-L{root / 'lib'}", f"-Wl,-rpath,{root / 'lib'}", "-Wl,--no-as-needed"]
    libraries += ["-ltorch", "-ltorch_cpu", "-lc10", "-ldl"]
    compiler = (sysconfig.get_config_var("CXX") or "g++").split()[0]
    subprocess.run(
        [compiler, "-std=c++20", "-O0", abi, *include, str(source), "-o", str(binary), *libraries],
        check=True, timeout=600,
    )  # fmt: skip
    run = subprocess.run([binary, CPU, path], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    torch.testing.assert_close(numbers(run.stdout, want), want)
