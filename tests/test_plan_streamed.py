# SPDX-License-Identifier: Apache-2.0
"""The plan where W_hh stays in memory: what no chip holds, and what the model says is faster so."""

import pytest
import torch

from ltlstm_kernels.plan import Shape, make_plan
from test_plan import DEVICES, H100, PERSISTENT, loops


@pytest.mark.parametrize(
    ("H", "dtype", "name"),
    [
        (2048, torch.float32, "H100"),
        (2048, torch.float16, "A100"),
        (2120, torch.bfloat16, "H100"),
        (4096, torch.bfloat16, "H100"),
        (1024, torch.float16, "MIG"),
    ],
)
def test_what_fits_on_no_chip_is_streamed(H: int, dtype: torch.dtype, name: str) -> None:
    for N, P in ((1, H), (16, H), (16, H // 2)):
        plan = make_plan(Shape(512, N, H, P, training=True), dtype, DEVICES[name])
        assert len(loops(plan, ("streamed",))) == 2
        forward, backward, lanes = plan.reason.splitlines()
        for line in (forward, backward):
            assert ": streamed, W_hh from memory in a product a step, modelled " in line
            assert "; not grid: " in line
        weights = (4 * H * P + (H * P if P < H else 0)) * dtype.itemsize
        assert plan.forward.us > 6 + weights / 1e7  # of 10 TB/s, and two launches


def test_streamed_where_the_model_says_so() -> None:
    """Passes over a large batch, each with all of the steps, against one product for all rows."""
    plan = make_plan(Shape(512, 512, 1024, 1024, training=True), torch.bfloat16, H100)
    persistent = make_plan(
        Shape(512, 512, 1024, 1024, training=True), torch.bfloat16, H100, regimes=PERSISTENT
    )
    for ours, other in zip(loops(plan, ("streamed",)), loops(persistent), strict=True):
        assert 1.25 * ours.us < other.us


def test_gpus_that_no_persistent_kernel_is_compiled_for() -> None:
    newer = H100._replace(capability=100)
    plan = make_plan(Shape(512, 16, 512, 512, training=True), torch.float16, newer)
    assert len(loops(plan, ("streamed",))) == 2
    assert plan.reason.count("no kernel is compiled for compute capability 10.0") == 6


@pytest.mark.parametrize("trajectory", [False, True])
def test_what_is_streamed_has_the_machine_to_itself_unless_asked(trajectory: bool) -> None:
    """One thread of the host launches all lanes, and one memory gives them their weights."""
    shape = Shape(512, 16, 4096, 4096, 4, training=True, trajectory=trajectory)
    lanes = make_plan(shape, torch.bfloat16, H100).lanes
    assert lanes.chunk == 512 and not lanes.overlap and lanes.time_sms == H100.sms
    asked = make_plan(shape, torch.bfloat16, H100, chunk=64, overlap=True)
    assert asked.lanes.overlap and asked.lanes.chunk == 64
    assert len(loops(asked, ("streamed",))) == 2
    recurrences = 1 if trajectory else asked.lanes.at_once
    assert recurrences * asked.lanes.time_sms + asked.lanes.layer_sms <= H100.sms
    assert asked.forward.us > make_plan(shape, torch.bfloat16, H100).forward.us
