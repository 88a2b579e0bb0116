# SPDX-License-Identifier: Apache-2.0
"""ltlstm.explain: every reason, for each backend, and nothing computed on the way."""

import pytest
import torch
from torch import nn

import ltlstm
from ltlstm_kernels import backend as backends
from ltlstm_kernels import plan
from ltlstm_kernels.backend import Asked, notes
from operators import Calls
from test_backend_gpu import H100

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
