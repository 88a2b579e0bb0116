# SPDX-License-Identifier: Apache-2.0
"""Which backend serves a call, who may say it, and what `explain` tells about it."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.nn.utils.rnn import pack_padded_sequence

import ltlstm
from ltlstm_kernels import backend as backends
from ltlstm_kernels.measured import Box, Sizes, aten_is_faster
from package_copy import copy_packages, run_python

T, N, D, H = 5, 3, 4, 6


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LTLSTM_BACKEND", "LTLSTM_STRICT"):
        monkeypatch.delenv(name, raising=False)


def x(**kwargs: Any) -> Tensor:
    return torch.ones(T, N, D, **kwargs)


def runs_on(module: nn.Module, **kwargs: Any) -> str | None:
    return ltlstm.explain(module, x(), **kwargs).backend


def test_argument_then_context_then_environment_then_auto(monkeypatch: Any) -> None:
    said, unsaid = ltlstm.LSTM(D, H, backend="aten"), ltlstm.LSTM(D, H)
    assert (runs_on(said), runs_on(unsaid)) == ("aten", "cpu")
    monkeypatch.setenv("LTLSTM_BACKEND", "reference")
    assert (runs_on(said), runs_on(unsaid)) == ("aten", "reference")
    with ltlstm.use_backend("cpu"):
        assert (runs_on(said), runs_on(unsaid)) == ("aten", "cpu")
    monkeypatch.setenv("LTLSTM_BACKEND", "")
    assert runs_on(unsaid) == "cpu"
    with ltlstm.use_backend("reference"):
        said.backend = "auto"  # named, too: it is not None
        assert runs_on(said) == "cpu"


def test_contexts_nest_and_end_with_an_error() -> None:
    module = ltlstm.LSTM(D, H)
    with ltlstm.use_backend("aten"):
        with pytest.raises(KeyError), ltlstm.use_backend("reference"):
            assert runs_on(module) == "reference"
            raise KeyError
        assert runs_on(module) == "aten"
        with ltlstm.use_backend("auto"):
            assert runs_on(module) == "cpu"
    assert runs_on(module) == "cpu"


def test_a_context_is_of_its_thread() -> None:
    module, found = ltlstm.LSTM(D, H), []
    with ltlstm.use_backend("reference"):
        thread = threading.Thread(target=lambda: found.append(runs_on(module)))
        thread.start()
        thread.join()
    assert found == ["cpu"]


@pytest.mark.parametrize("make", [ltlstm.LSTM, ltlstm.LTLSTM, ltlstm.ResidualLSTM])
def test_it_reaches_every_stack_and_cell(make: Any) -> None:
    module, cell = make(D, H, 2), ltlstm.LSTMCell(D, H)
    for name in ("aten", "reference", "cpu"):
        with ltlstm.use_backend(name):
            assert runs_on(module) == name
            assert ltlstm.explain(cell, x()[0]).backend == name
    with ltlstm.use_backend("triton"):
        with pytest.raises(RuntimeError, match="'triton', named by use_backend, cannot run: no Tr"):
            module(x())


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"use_backend: backend must be one of \('auto', .*'gpu'"):
        with ltlstm.use_backend("gpu"):
            pass
    with pytest.raises(ValueError, match="lstm: backend must be one of .*, got 'gpu'"):
        ltlstm.LSTM(D, H, backend="gpu")(x())


def test_environment_that_cannot_be_served(monkeypatch: Any) -> None:
    monkeypatch.setenv("LTLSTM_BACKEND", "gpu")
    with pytest.raises(ValueError, match="lstm: LTLSTM_BACKEND: backend must be one of .* 'gpu'"):
        ltlstm.LSTM(D, H)(x())
    monkeypatch.setenv("LTLSTM_BACKEND", "cuda")
    with pytest.raises(RuntimeError, match="'cuda', named by LTLSTM_BACKEND, cannot run: .* cpu"):
        ltlstm.LSTM(D, H)(x())


def meta(make: Any) -> Callable[[], Any]:
    return lambda: make(D, H, device="meta")(x(device="meta"))


FALLBACKS: dict[str, tuple[Callable[[], Any], str]] = {
    "vmap": (
        lambda: torch.func.vmap(ltlstm.LSTM(D, H))(x()[None]),
        "fallback to 'reference'; backend 'cpu' cannot run: a torch.func transform is active",
    ),
    "forward mode": (
        lambda: torch.func.jvp(lambda v: ltlstm.LTLSTM(D, H)(v)[0], (x(),), (x(),)),
        "fallback to 'reference'; backend 'cpu' cannot run: a torch.func transform is active",
    ),
    "another device": (meta(ltlstm.LSTM), "fallback to 'aten'; .* the input is on meta"),
}


@pytest.mark.parametrize("name", FALLBACKS)
def test_strict_makes_a_fallback_an_error(name: str, monkeypatch: Any) -> None:
    call, words = FALLBACKS[name]
    call()
    monkeypatch.setenv("LTLSTM_STRICT", "1")
    with pytest.raises(RuntimeError, match=f"LTLSTM_STRICT forbids the {words}"):
        call()
    with ltlstm.use_backend("reference"):  # what is named is no fallback
        call()
    monkeypatch.setenv("LTLSTM_STRICT", "0")
    call()


def test_strict_is_0_or_1(monkeypatch: Any) -> None:
    monkeypatch.setenv("LTLSTM_STRICT", "false")
    with pytest.raises(ValueError, match="LTLSTM_STRICT must be 0 or 1, got 'false'"):
        FALLBACKS["another device"][0]()


def test_strict_leaves_what_the_kernel_serves(monkeypatch: Any) -> None:
    monkeypatch.setenv("LTLSTM_STRICT", "1")
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        module = ltlstm.LTLSTM(D, H, 2, lookahead=1, dtype=dtype)
        module(x(dtype=dtype), reset=torch.ones(T, N, dtype=torch.bool))[0].sum().backward()


WITHOUT_OPERATORS = """
import os, warnings
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    import ltlstm, torch
    module, x = ltlstm.LSTM(4, 3), torch.randn(5, 2, 4)
    module(x), module(x)
assert [str(w.message) for w in seen] == ["ltlstm_kernels: _ops_cpu not built"], seen
assert ltlstm.available_backends() == ["aten", "reference"]
print(ltlstm.explain(module, x))
os.environ["LTLSTM_STRICT"] = "1"
try:
    module(x)
except RuntimeError as error:
    print(error)
"""


def test_a_missing_library_warns_once_and_is_named(tmp_path: Any) -> None:
    printed = run_python(copy_packages(tmp_path, "_ops_*"), "-c", WITHOUT_OPERATORS).stdout
    assert printed.splitlines()[0] == "aten ('auto' by default)"
    assert "  not cpu: the library _ops_cpu is missing: not built\n" in printed
    assert printed.splitlines()[-1] == (
        "lstm: LTLSTM_STRICT forbids the fallback to 'aten'; backend 'cpu' cannot run: "
        "the library _ops_cpu is missing: not built"
    )


def test_compiled_code_follows_the_context() -> None:
    torch._dynamo.reset()
    counter = CompileCounter()
    module = ltlstm.LSTM(D, H)
    compiled = torch.compile(module, fullgraph=True, backend=counter)
    want = module(x())[0]
    for _ in range(2):
        torch.testing.assert_close(compiled(x())[0], want)
        with ltlstm.use_backend("reference"):
            torch.testing.assert_close(compiled(x())[0], want)
    assert counter.frame_count == 2
    with pytest.raises(Exception, match="cannot trace torch's own LSTM"):
        with ltlstm.use_backend("aten"):
            compiled(x())


def test_the_table_of_measurements(monkeypatch: Any) -> None:
    table = (Box("lstm", T=(1, 9), N=(2, 4), H=(6, 6), L=(1, 2), gradients=False),)
    at = Sizes(T, N, H, 1, gradients=False)
    assert aten_is_faster("lstm", at, table) and not aten_is_faster("lt_lstm", at, table)
    for change in ({"T": 10}, {"N": 1}, {"N": 5}, {"H": 7}, {"L": 3}, {"gradients": True}):
        assert not aten_is_faster("lstm", at._replace(**change), table)
    monkeypatch.setattr(backends, "aten_is_faster", lambda *a: aten_is_faster(*a, table))
    monkeypatch.setenv("LTLSTM_STRICT", "1")  # a choice is no fallback
    module = ltlstm.LSTM(D, H)
    assert runs_on(module) == "cpu"  # it needs gradients
    with torch.no_grad():
        assert runs_on(module) == "aten"
        assert "measured faster" in ltlstm.explain(module, x()).notes[0]
        assert runs_on(module, return_states=True) == "cpu"
        assert runs_on(ltlstm.LTLSTM(D, H)) == "cpu"
        packed = pack_padded_sequence(x(), torch.tensor([5, 2, 1]))
        assert ltlstm.explain(module, packed).backend == "aten"
        with torch.autocast("cpu", torch.bfloat16):
            assert runs_on(module) == "cpu"
        module.backend = "cpu"
        assert runs_on(module) == "cpu"
        compiled = torch.compile(ltlstm.LSTM(D, H), fullgraph=True, backend="eager")
        compiled(x())  # what cannot be traced is not chosen


def test_available_backends() -> None:
    expected = ["cpu", "aten", "reference"]
    on_gpu = [name for name in ("cuda", "triton") if not backends.missing(name)]
    expected = [*on_gpu, *expected]
    assert ltlstm.available_backends() == expected
