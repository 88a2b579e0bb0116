# SPDX-License-Identifier: Apache-2.0
"""What a call on a GPU is given: decided by its plan, here on a machine without one."""

import pytest
import torch

import ltlstm
from ltlstm.functional import run
from ltlstm_kernels import backend as backends
from ltlstm_kernels import measured, plan
from ltlstm_kernels.backend import Asked
from ltlstm_kernels.measured import Box, Sizes
from operators import Calls

H100 = plan.assumed_facts(90, 132, 232_448, 65_536)


def on_gpu(dtype: torch.dtype = torch.bfloat16, **shape: int) -> Asked:
    """What an LSTM on a GPU would ask."""
    found = plan.Shape(**({"T": 200, "N": 16, "H": 512, "P": 512} | shape))
    sizes = Sizes(found.T, found.N, found.H, found.L, found.training)
    return Asked("lstm", "cuda", dtype, (), None, sizes=sizes, shape=found)


def on_an_h100(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were one, and the library of its operators."""
    monkeypatch.setitem(backends._MISSING, "cuda", None)
    monkeypatch.setattr(plan, "device_facts", lambda: H100)


def test_the_plan_of_a_call_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backends.launch_plan(on_gpu()) is None or torch.cuda.is_available()
    monkeypatch.setattr(plan, "device_facts", lambda: H100)
    planned = backends.launch_plan(on_gpu())
    assert planned is not None
    assert planned.forward.regime == "cluster"
    for nothing in (on_gpu(N=0), on_gpu(torch.int8), on_gpu()._replace(shape=None)):
        assert backends.launch_plan(nothing) is None
    assert backends.launch_plan(on_gpu()._replace(device="cpu")) is None
    assert backends.reasons("cuda", on_gpu(torch.float64))[-1] == (
        "it does not compute in torch.float64"
    )


def test_auto_leaves_a_gpu_to_aten_until_there_are_results(monkeypatch: pytest.MonkeyPatch) -> None:
    on_an_h100(monkeypatch)
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


def test_a_layer_trajectory_is_one_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "choose", lambda *_: "cuda")  # the CPU's operators answer
    for options, operator in (({}, "lt_lstm"), ({"lookahead": 1}, "lstm_stack")):
        module = ltlstm.LTLSTM(4, 6, 2, **options)
        with Calls() as calls:
            module(torch.ones(5, 3, 4))
        assert calls.ours()[0] == f"ltlstm::{operator}_forward", options


@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
def test_autocast_is_planned_and_computed_in_one_dtype(
    autocast: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_an_h100(monkeypatch)
    dtypes, make_plan = [], plan.make_plan

    def watched(shape: plan.Shape, dtype: torch.dtype, facts: plan.DeviceFacts) -> plan.Plan:
        dtypes.append(dtype)
        return make_plan(shape, dtype, facts)

    monkeypatch.setattr(plan, "make_plan", watched)
    asked = on_gpu(torch.float32)._replace(autocast=autocast)
    assert backends.choose("cuda", asked) == "cuda"
    assert dtypes == [backends.compute_dtype("cuda", asked)] == [autocast]
    assert backends.notes("cuda", asked) == []
    with monkeypatch.context() as patch:
        patch.setattr(backends, "cuda_is_faster", lambda *_: True)  # of half types
        assert backends.choose(None, asked) == "cuda"
