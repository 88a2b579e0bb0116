# SPDX-License-Identifier: Apache-2.0
"""Environment variables that both Python and the compiled operators go by: one of them reads each,
so that no value means one thing here and another there."""

import re

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ltlstm_kernels import ops, plan, triton_plan
from ltlstm_kernels.plan import Settings, Shape, assumed_facts

H100 = assumed_facts(90, 132, 232_448, 65_536)
RECOMPUTE, REGIME, CHUNK = "LTLSTM_CUDA_RECOMPUTE", "LTLSTM_CUDA_REGIME", "LTLSTM_CUDA_CHUNK"
BAD = [
    (RECOMPUTE, "yes", "cuda: LTLSTM_CUDA_RECOMPUTE must be 0 or 1, got yes"),
    (RECOMPUTE, "01", "cuda: LTLSTM_CUDA_RECOMPUTE must be 0 or 1, got 01"),
    (RECOMPUTE, "1 ", "cuda: LTLSTM_CUDA_RECOMPUTE must be 0 or 1, got 1 "),
    (REGIME, "warp", "plan: LTLSTM_CUDA_REGIME must be block, cluster, grid or streamed, got warp"),
    (REGIME, "aten", "plan: LTLSTM_CUDA_REGIME must be block, cluster, grid or streamed, got aten"),
    (CHUNK, "many", "plan: LTLSTM_CUDA_CHUNK must be a positive number of steps, got many"),
    (CHUNK, "0", "plan: LTLSTM_CUDA_CHUNK must be a positive number of steps, got 0"),
    (CHUNK, "-3", "plan: LTLSTM_CUDA_CHUNK must be a positive number of steps, got -3"),
    (CHUNK, "4x", "plan: LTLSTM_CUDA_CHUNK must be a positive number of steps, got 4x"),
    (CHUNK, "9" * 30, "plan: LTLSTM_CUDA_CHUNK must be a positive number of steps, got 9"),
]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (RECOMPUTE, REGIME, CHUNK):
        monkeypatch.delenv(name, raising=False)


def test_not_set_and_empty_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan.settings() == Settings(recompute=False, regimes=(), chunk=0)
    for name in (RECOMPUTE, REGIME, CHUNK):
        monkeypatch.setenv(name, "")
    assert plan.settings() == Settings(recompute=False, regimes=(), chunk=0)


def test_they_are_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    for regime in ("block", "cluster", "grid", "streamed"):
        monkeypatch.setenv(REGIME, regime)
        assert plan.settings().regimes == (regime,)
    monkeypatch.setenv(CHUNK, "12")
    for value in ("1", "0"):
        monkeypatch.setenv(RECOMPUTE, value)
        assert plan.settings() == Settings(value == "1", ("streamed",), 12)


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_what_has_no_meaning_is_refused(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(plan, "device_facts", lambda index=None: H100)
    for ask in (
        plan.settings,
        lambda: plan.plan_here(None, torch.float32, Shape(5, 3, 8, 8)),
        fake_training,
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            ask()


def fake_training() -> tuple[int, ...]:
    """The shape of the gates that training keeps on a GPU, as the compiler is told."""
    with FakeTensorMode():
        sizes = ((5, 3, 6), (1, 3, 8), (1, 3, 8), (32, 6), (32, 8))
        x, h0, c0, *weights = (torch.empty(size, device="cuda") for size in sizes)
        flags = dict.fromkeys(("bias", "projected", "peephole", "bidirectional"), False)
        return tuple(ops.lstm_stack_forward(x, h0, c0, weights, save=True, **flags).gates.shape)


def test_the_compiler_is_told_what_the_operator_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fake_training() == (1, 5, 3, 32)
    monkeypatch.setenv(RECOMPUTE, "1")
    assert fake_training() == (0, 5, 3, 32)


def test_the_plan_that_is_told_is_the_one_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """`explain` and the choice of a backend see what the operator is narrowed to."""
    monkeypatch.setattr(plan, "device_facts", lambda index=None: H100)
    shape = Shape(512, 16, 512, 512, L=4)

    def told() -> plan.Plan:
        found = plan.plan_here(None, torch.bfloat16, shape)
        assert found is not None
        return found

    assert told().forward.regime == "cluster"
    monkeypatch.setenv(REGIME, "grid")
    monkeypatch.setenv(CHUNK, "100")
    assert told().forward.regime == "grid" and told().lanes.chunk == 100
    monkeypatch.setenv(REGIME, "block")
    assert told().forward.regime == "aten"
    why = plan.no_kernel(None, torch.bfloat16, *shape)
    assert why is not None and "not grid: not asked for" in why


@pytest.mark.parametrize("value", ["", "1", "0", "no", "2"])
def test_sharing_in_triton_is_allowed_or_not(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTLSTM_TRITON_SHARED", value)

    def parts() -> int:
        return triton_plan.plan(4, 512, 512, torch.float32, True, processors=64).parts

    if value in ("", "0", "1"):
        assert (parts() > 1) == (value != "0")
        return
    with pytest.raises(ValueError, match="h_lstm: LTLSTM_TRITON_SHARED must be 0 or 1, got ."):
        parts()
