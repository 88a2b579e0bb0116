# SPDX-License-Identifier: Apache-2.0
"""What a call on a GPU is given: decided by its plan, here on a machine without one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import ltlstm
from ltlstm import functional, reference
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
    monkeypatch.setattr(plan, "device_facts", lambda index=None: H100)


def test_the_plan_of_a_call_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backends.launch_plan(on_gpu()) is None or torch.cuda.is_available()
    monkeypatch.setattr(plan, "device_facts", lambda index=None: H100)
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


def test_no_shape_and_no_newer_gpu_is_left_to_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_an_h100(monkeypatch)
    for facts in (H100, H100._replace(capability=120, sms=4)):
        monkeypatch.setattr(plan, "device_facts", lambda index=None, facts=facts: facts)
        for dtype, H in ((torch.float32, 2048), (torch.bfloat16, 4096)):
            asked = on_gpu(dtype, H=H, P=H)._replace(beyond_torch=["peephole"])
            assert backends.choose(None, asked) == "cuda"
            planned = backends.launch_plan(asked)
            assert planned is not None and planned.forward.regime == "streamed"


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

    def watched(shape: plan.Shape, dtype: torch.dtype, *rest: Any, **wanted: Any) -> plan.Plan:
        dtypes.append(dtype)
        return make_plan(shape, dtype, *rest, **wanted)

    monkeypatch.setattr(plan, "make_plan", watched)
    asked = on_gpu(torch.float32)._replace(autocast=autocast)
    assert backends.choose("cuda", asked) == "cuda"
    assert dtypes == [backends.compute_dtype("cuda", asked)] == [autocast]
    assert backends.notes("cuda", asked) == []
    with monkeypatch.context() as patch:
        patch.setattr(backends, "cuda_is_faster", lambda *_: True)  # of half types
        assert backends.choose(None, asked) == "cuda"


def traced(dynamic: bool, H: int = 6, dtype: Any = None, **options: Any) -> list[str]:
    """The operators of ours in the graph of a call on a GPU, traced with fakes."""
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, example: object) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    with FakeTensorMode():
        x = torch.empty(5, 3, 4, device="cuda", dtype=dtype)
        weights = [torch.empty(4 * H, width, device="cuda", dtype=dtype) for width in (4, H)]
        call = torch.compile(functional.lstm, fullgraph=True, backend=keep, dynamic=dynamic)
        call(x, None, weights, bias=False, **options)
    return [str(node.target) for node in graphs[0].graph.nodes if "ltlstm" in str(node.target)]


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_code_runs_no_kernel_that_does_not_exist(
    dynamic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_an_h100(monkeypatch)
    asked, make_plan = [], plan.make_plan
    none_from = 7  # as if wider layers had no kernel

    def narrow(shape: plan.Shape, *rest: Any, **wanted: Any) -> plan.Plan:
        asked.append(shape)
        found = make_plan(shape, *rest, **wanted)
        regime = "aten" if none_from <= shape.H else found.forward.regime
        return found._replace(forward=found.forward._replace(regime=regime))

    def stub(input: Tensor, h0: Tensor, c0: Tensor, *_: Any, **__: Any) -> tuple[Tensor, ...]:
        return input + 1, h0, c0, input, input  # the reference indexes, which takes a device

    monkeypatch.setattr(plan, "make_plan", narrow)
    monkeypatch.setattr(reference, "lstm", stub)
    assert traced(dynamic) == ["ltlstm.lstm_stack_forward.default"]
    assert traced(dynamic, H=none_from) == []
    with pytest.raises(RuntimeError, match="'cuda' cannot run: no kernel for this shape"):
        traced(dynamic, H=none_from, backend="cuda")
    assert [(shape.H, shape.P) for shape in asked] == [(6, 6), (7, 7), (7, 7)]
    assert traced(dynamic, dtype=torch.float64) == []


def test_a_device_too_old_for_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    on_an_h100(monkeypatch)
    monkeypatch.setattr(plan, "device_facts", lambda index=None: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for asked in (on_gpu(), on_gpu()._replace(op="lstm_cell", shape=None)):
        assert backends.reasons("cuda", asked) == ["the device is older than sm_80"]
        assert backends.choose(None, asked._replace(beyond_torch=["peephole"])) == "reference"


def test_the_plan_is_of_the_device_that_the_input_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    on_an_h100(monkeypatch)
    devices: list[int | None] = []
    monkeypatch.setattr(plan, "device_facts", lambda index=None: devices.append(index) or H100)
    with FakeTensorMode():
        x = torch.empty(5, 3, 4, device="cuda:1")
        weights = [torch.empty(24, width, device="cuda:1") for width in (4, 6)]
        asking = backends.question(lambda: functional.lstm(x, None, weights, bias=False))
    assert asking is not None
    backends.choose(None, asking[1])
    assert devices == [1]
