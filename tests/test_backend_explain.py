# SPDX-License-Identifier: Apache-2.0
"""ltlstm.explain: every reason, for each backend, and nothing computed on the way."""

import pytest
import torch
from torch import nn

import ltlstm
from ltlstm_kernels import backend as backends
from ltlstm_kernels import measured, plan
from ltlstm_kernels.backend import Asked, notes
from ltlstm_kernels.measured import Box, Sizes
from operators import Calls

T, N, D, H = 5, 3, 4, 6


def test_every_backend_with_every_reason() -> None:
    module, x = ltlstm.LTLSTM(D, H, 2, peephole=True), torch.ones(T, N, D)
    found = ltlstm.explain(module, x, reset=torch.ones(T, N).bool(), return_states=True)
    assert (found.backend, found.requested, found.source) == ("cpu", "auto", "default")
    assert list(found.reasons) == [name for name in backends.BACKENDS if name != "auto"]
    assert found.reasons["cpu"] == found.reasons["reference"] == [] == found.notes
    assert found.reasons["aten"] == [
        f"torch's own LSTM has no {what}" for what in ("peephole", "reset", "states of every step")
    ]
    assert "the input is on cpu" in found.reasons["cuda"]
    assert found.reasons["triton"] == ["no Triton kernel computes lt_lstm"]
    lines = str(found).splitlines()
    assert lines[0] == "cpu ('auto' by default)" and lines[-1] == "  not reference: could run"
    assert "  not triton: no Triton kernel computes lt_lstm" in lines


def test_what_would_raise_is_told() -> None:
    module, x = ltlstm.LSTM(D, H, backend="aten"), torch.ones(T, N, D)
    found = ltlstm.explain(module, x, return_states=True)
    assert (found.backend, found.requested, found.source) == (None, "aten", "the argument")
    with pytest.raises(RuntimeError) as error:
        module(x, return_states=True)
    assert str(error.value) == found.error and found.error in str(found)
    module.backend = "gpu"
    unknown = ltlstm.explain(module, x).error
    assert unknown is not None and "got 'gpu'" in unknown


def test_the_hx_it_is_given_counts() -> None:
    module, x = ltlstm.LSTM(D, H), torch.ones(T, N, D)
    with pytest.raises(RuntimeError, match="Expected hidden"):
        ltlstm.explain(module, x, (torch.ones(2, N, H), torch.ones(2, N, H)))
    hx = (torch.ones(1, N, H), torch.ones(1, N, H))
    assert ltlstm.explain(module, x, hx).backend == "cpu"


def test_nothing_is_computed_or_drawn() -> None:
    module, x = ltlstm.LTLSTM(D, H, 2, dropout=0.5), torch.ones(T, N, D)
    state = torch.get_rng_state()
    with Calls() as calls:
        ltlstm.explain(module, x)
    assert not calls.ours() and torch.equal(torch.get_rng_state(), state)
    assert module(x)[0].shape == (T, N, H)  # and the next call computes


def test_transforms_are_named() -> None:
    module, found = ltlstm.LSTM(D, H), []

    def called(x: torch.Tensor) -> torch.Tensor:
        found.append(ltlstm.explain(module, x))
        return x

    torch.func.vmap(called)(torch.ones(2, T, N, D))
    assert found[0].backend == "reference"
    assert found[0].reasons["cpu"] == ["a torch.func transform is active"]
    assert "plain torch loops" in found[0].notes[0]


def test_notes() -> None:
    half = ltlstm.LSTM(D, H, dtype=torch.float16)
    found = ltlstm.explain(half, torch.ones(T, N, D).half())
    assert found.notes == ["computed in torch.float32, returned in torch.float16"]
    with torch.autocast("cpu", torch.bfloat16):
        found = ltlstm.explain(ltlstm.LSTM(D, H), torch.ones(T, N, D))
        assert found.notes == ["computed in torch.float32, returned in torch.bfloat16"]
        assert str(found).endswith("\n  note: " + found.notes[0])
        on_aten = ltlstm.LSTM(D, H, backend="aten")
        assert ltlstm.explain(on_aten, torch.ones(T, N, D)).notes == []
    bare = Asked("lstm", "cuda", torch.float32, (), None)
    assert "copies the weights at each call" in notes("aten", bare)[-1]


def test_other_modules_are_refused() -> None:
    x = torch.ones(T, N, D)
    with pytest.raises(TypeError, match="explain: module must be one of ltlstm's, got LSTM"):
        ltlstm.explain(nn.LSTM(D, H), x)

    class Silent(ltlstm.LSTM):
        def forward(self, *args: object, **kwargs: object) -> tuple[()]:
            return ()

    with pytest.raises(TypeError, match="explain: the forward of Silent must call ltlstm's"):
        ltlstm.explain(Silent(D, H), x)


H100 = plan.assumed_facts(90, 132, 232_448, 65_536)


def on_gpu(dtype: torch.dtype = torch.bfloat16, **shape: int) -> Asked:
    """What an LSTM on a GPU would ask."""
    found = plan.Shape(**({"T": 200, "N": 16, "H": 512, "P": 512} | shape))
    sizes = Sizes(found.T, found.N, found.H, found.L, found.training)
    return Asked("lstm", "cuda", dtype, (), None, sizes=sizes, shape=found)


def test_the_plan_of_a_call_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backends.launch_plan(on_gpu()) is None or torch.cuda.is_available()
    monkeypatch.setattr(plan, "device_facts", lambda: H100)
    planned = backends.launch_plan(on_gpu())
    assert planned is not None
    assert planned.forward.regime == "cluster"
    for nothing in (on_gpu(N=0), on_gpu(torch.int8), on_gpu()._replace(shape=None)):
        assert backends.launch_plan(nothing) is None
    assert backends.launch_plan(on_gpu()._replace(device="cpu")) is None
    why = backends.reasons("cuda", on_gpu(torch.float64))[-1]
    assert why.startswith("no kernel for this shape: forward: aten; not block: no kernel computes")


def test_auto_leaves_a_gpu_to_aten_until_there_are_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backends._MISSING, "cuda", None)  # as if its library were there
    monkeypatch.setattr(plan, "device_facts", lambda: H100)
    assert backends.reasons("cuda", on_gpu()) == []
    assert backends.choose(None, on_gpu()) == "aten"
    assert backends.choose("cuda", on_gpu()) == "cuda"
    assert "not been measured faster" in backends.notes("aten", on_gpu())[0]
    beyond = on_gpu()._replace(beyond_torch=["peephole"])
    assert backends.choose(None, beyond) == "cuda"  # aten has none
    everywhere = ((1, 10**6),) * 4
    monkeypatch.setattr(measured, "CUDA_FASTER", (Box("lstm", *everywhere, False),))
    assert backends.choose(None, on_gpu()) == "cuda"
    assert backends.choose(None, on_gpu(torch.float32)) == "aten"
    assert backends.choose(None, on_gpu(training=True)) == "aten"


def test_explain_prints_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = ltlstm.LTLSTM(D, 64, 2), torch.ones(T, N, D)
    assert ltlstm.explain(module, x).plan is None
    shape = plan.Shape(T, N, 64, 64, 2, training=True, trajectory=True)

    def planned(question: Asked) -> plan.Plan | None:
        return plan.make_plan(shape, torch.bfloat16, H100)

    monkeypatch.setattr(backends, "launch_plan", planned)
    lines = str(ltlstm.explain(module, x)).splitlines()[-3:]
    for line, part in zip(lines, ("forward: block, ", "backward: block, ", "lanes: "), strict=True):
        assert line.startswith(f"  cuda would run {part}")
