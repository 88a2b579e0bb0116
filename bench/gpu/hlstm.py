# SPDX-License-Identifier: Apache-2.0
"""The stage of bench/gpu.sh for the H-LSTM's Triton kernels.

Beside them: the same module in eager torch, a loop of cells in a CUDA graph, the same kernels on
dense weights and with no programs that share rows, and nn.LSTM of the same width. Each row is
checked against float64 before it is timed. In a dry run the CPU's kernels stand in, at small sizes.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import ltlstm
from bench import timing
from bench.gpu.device import peer_computes, without_tf32
from bench.gpu.target import Target
from bench.timing import Call
from tests.tolerance import assert_all_close, error

TRITON, ALONE, DENSE = "triton", "triton, rows not shared", "triton, dense"
EAGER, GRAPH, TORCH = "eager", "cell loop, graphed", "nn.LSTM"
BLOCK = 16  # whole blocks of this edge are zero
CHECKED_STEPS = 48  # of a row's T, where it is compared with float64


@dataclass(frozen=True)
class Row:
    """One layer, D = K = H; density: the share of the recurrent weights' blocks that are live."""

    T: int
    N: int
    H: int
    density: float
    mode: str  # "forward", or "training": forward and backward
    dtype: torch.dtype = torch.bfloat16

    @property
    def name(self) -> str:
        return f"T{self.T}N{self.N}H{self.H} {self.density:.0%} live"


def rows(target: Target) -> Iterator[Row]:
    if target.device == "cpu":
        for mode in ("forward", "training"):
            yield Row(3, 2, 32, 0.5, mode, torch.float32)
        return
    few = [(H, N) for H in (512,) for N in (1, 16)]
    more = [(H, N) for H in (512, 1024, 256) for N in (1, 16, 64, 512) if (H, N) not in few]
    for H, N in few if target.quick else few + more:
        for density in (0.03, 0.1) if H == 512 else (0.1,):
            yield Row(256, N, H, density, "forward")
        yield Row(256, N, H, 0.1, "training")
    if target.quick:
        return
    yield Row(256, 16, 512, 0.1, "forward", torch.float16)
    yield Row(256, 16, 512, 0.1, "forward", torch.float32)


def module(row: Row, density: float, device: str, dtype: torch.dtype | None = None) -> nn.Module:
    """An HLSTM with whole blocks at zero, the same for a row in every dtype."""
    g = torch.Generator().manual_seed(0)
    made = ltlstm.HLSTM(row.H, row.H, dtype=row.dtype)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g) * 2 * row.H**-0.5)
            if "weight" in name and "weight_ih" not in name:
                matrix = parameter.view(-1, parameter.shape[-1])
                edges = [-(-n // BLOCK) for n in matrix.shape]
                live = (torch.rand(edges, generator=g) < density).to(matrix.dtype)
                live = live.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
                matrix *= live[: matrix.shape[0], : matrix.shape[1]]
    return made.to(device, dtype)


def _input(row: Row, steps: int, device: str) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.randn(row.T, row.N, row.H, generator=g)[:steps].to(device, row.dtype)


def _call(row: Row, of: nn.Module, x: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """Its output and, in training, the gradients of input and parameters."""
    if row.mode == "forward":
        return torch.no_grad()(lambda: (of(x)[0],))
    leaf = x.detach().requires_grad_()
    wanted = [leaf, *of.parameters()]
    d_output = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).to(x)

    def training() -> tuple[Tensor, ...]:
        output = of(leaf)[0]
        return (output, *torch.autograd.grad(output, wanted, d_output))

    return training


def _named(of: nn.Module, backend: str) -> nn.Module:
    of.backend = backend  # type: ignore[assignment]
    return of


@contextmanager
def _alone() -> Iterator[None]:
    os.environ["LTLSTM_TRITON_SHARED"] = "0"
    try:
        yield
    finally:
        del os.environ["LTLSTM_TRITON_SHARED"]


def _cell_loop(row: Row, device: str) -> Call:
    """The reference's cell over the steps: on a GPU, the replay of a CUDA graph of it."""
    of, x = module(row, row.density, device), _input(row, row.T, device)
    cell = ltlstm.HLSTMCell(row.H, row.H, device=device, dtype=row.dtype, backend="reference")
    cell.load_state_dict({k.replace("_l0", ""): v for k, v in of.state_dict().items()})

    def loop() -> Tensor:
        state = (x.new_zeros(row.N, row.H),) * 2
        outputs = []
        for x_t in x:
            state = cell(x_t, state)
            outputs.append(state[0])
        return torch.stack(outputs)

    if device == "cpu":
        return Call(torch.no_grad()(loop))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side), torch.no_grad():
        loop()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.no_grad():
        loop()
    return Call(graph.replay)


def contenders(row: Row, device: str) -> dict[str, Callable[[], Call]]:
    """Makers, for one that fails must not stop the others."""
    ours = "triton" if device == "cuda" else "cpu"

    def hlstm(density: float, backend: str) -> Call:
        of = _named(module(row, density, device), backend)
        return Call(_call(row, of, _input(row, row.T, device)))

    def lstm() -> Call:
        of = nn.LSTM(row.H, row.H, device=device, dtype=row.dtype)
        return Call(_call(row, of, _input(row, row.T, device)))

    found = {
        TRITON: lambda: hlstm(row.density, ours),
        ALONE: lambda: Call(hlstm(row.density, ours).run, _alone),
        DENSE: lambda: hlstm(1.0, ours),
        EAGER: lambda: hlstm(row.density, "reference"),
        TORCH: lstm,
    }
    if row.mode == "forward":
        found[GRAPH] = lambda: _cell_loop(row, device)
    return found


def errors(row: Row, device: str) -> dict[str, float]:
    """Largest errors of ours and of eager torch against float64, on the row's first steps; raises
    where ours breaks the rule of the tests."""
    ours = "triton" if device == "cuda" else "cpu"
    x = _input(row, CHECKED_STEPS, device)
    with without_tf32():
        found, plain, truth = (
            _call(row, _named(module(row, row.density, device, dtype), backend), x.to(dtype))()
            for dtype, backend in (
                (row.dtype, ours), (row.dtype, "reference"), (torch.float64, "reference")
            )
        )  # fmt: skip
    named = [{f"result {i}": t for i, t in enumerate(r)} for r in (found, truth, plain)]
    assert_all_close(*named)
    return {
        name: max(error(r, t) for r, t in zip(results, truth, strict=True))
        for name, results in {TRITON: found, EAGER: plain}.items()
    }


def _finished(call: Call, device: str) -> Call:
    """The call, until the GPU is done: what a user waits for, launches included."""
    if device == "cpu":
        return call

    def run() -> None:
        call.run()
        torch.cuda.synchronize()

    return Call(run, call.around)


def _same(call: Call) -> None:
    one, other = call.run(), call.run()
    same = [torch.equal(a, b) for a, b in zip(one, other, strict=True)]
    assert all(same), f"result {same.index(False)} has other bits in the second of two runs"


def measure(row: Row, target: Target) -> dict[str, Any]:
    """One line; what fails stands in it, and the rest is measured."""
    failed: dict[str, str] = {}
    calls: dict[str, Call] = {}
    checked: dict[str, float] = {}
    for name, make in contenders(row, target.device).items():
        try:
            if name == TRITON:
                checked = errors(row, target.device)
                _same(make())
            call = _finished(make(), target.device)
            with call.around():
                call.run()
            calls[name] = call
        except Exception as problem:  # a row with one contender less is still a row
            failed[name] = f"{type(problem).__name__}: {problem}"
    seconds = 0.05 if target.device == "cpu" else 0.25
    timings = timing.measure(calls, (), seconds, rest=lambda _: None) or {}
    return {
        "group": "gpu-hlstm", "name": row.name, "module": "HLSTM", "mode": row.mode,
        "dtype": str(row.dtype).removeprefix("torch."), "threads": 0, "ours": TRITON,
        "case": {k: v for k, v in asdict(row).items() if k in ("T", "N", "H", "density")},
        "errors": checked, "failed": failed,
        "seconds": {name: t.line for name, t in timings.items()},
        "computes": {TORCH: peer_computes(row.dtype, target.device)},
        "error": failed.get(TRITON),
    }  # fmt: skip


def hlstm(target: Target) -> None:
    """Every row; those that matter most first."""
    target.each(
        "gpu-hlstm",
        {
            f"{row.name} {row.mode} {row.dtype}": partial(measure, row, target)
            for row in rows(target)
        },
    )
