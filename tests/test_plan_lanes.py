# SPDX-License-Identifier: Apache-2.0
"""The plan of a whole stack: lanes side by side where the model gains, chunks that pay."""

from typing import Any

import pytest
import torch

from ltlstm_kernels.plan import Shape, assumed_facts, make_plan

H100 = assumed_facts(90, 132, 232_448, 65_536)


# Overlap while the recurrence leaves SMs idle, else back to back.
@pytest.mark.parametrize(
    ("H", "N", "overlap"),
    [(512, 16, True), (1024, 16, True), (512, 64, True), (1024, 64, False)],
)
def test_lanes_side_by_side_where_the_model_gains(H: int, N: int, overlap: bool) -> None:
    plan = make_plan(Shape(512, N, H, H, 4, trajectory=True), torch.bfloat16, H100)
    assert plan.lanes.overlap == overlap
    # Within the model's error the rule H^2 N <= 2.5e7 decides.
    assert plan.lanes.us <= 1.1 * plan.lanes.other_us
    assert ("back to back" in plan.reason) and (plan.lanes.chunk < 512) == overlap
    assert (plan.lanes.layer_sms > 0) == overlap


def test_a_deep_stack_is_a_wavefront_of_narrow_layers() -> None:
    plan = make_plan(Shape(512, 16, 512, 512, 4), torch.bfloat16, H100)
    assert plan.lanes.overlap and plan.lanes.at_once * plan.lanes.time_sms <= 132
    assert plan.lanes.us < plan.lanes.other_us / 1.5
    assert ", in chunks of " in plan.reason and f" {plan.lanes.at_once} at once, " in plan.reason
    both = make_plan(Shape(512, 16, 512, 512, 4, directions=2), torch.bfloat16, H100)
    assert not both.lanes.overlap  # the next layer needs both ends of this one
    one = make_plan(Shape(512, 16, 512, 512), torch.bfloat16, H100)
    assert not one.lanes.overlap and one.reason.endswith("nothing to run beside the recurrence")


def test_chunks_are_long_enough_to_pay_for_their_launches() -> None:
    def chunk(T: int, **shape: Any) -> int:
        lanes = make_plan(Shape(T, 16, 512, 512, 4, **shape), torch.bfloat16, H100).lanes
        return lanes.chunk if lanes.overlap else T

    found = [chunk(T) for T in (100, 500, 4000)]
    assert found == sorted(found) and 16 <= found[0] < 100 and 32 <= found[-1] < 4000
    assert chunk(8) == 8
    assert chunk(8, trajectory=True) == 8


def test_chunks_can_be_asked_for() -> None:
    stack, trajectory = Shape(9, 3, 16, 16, 3), Shape(9, 3, 16, 16, 3, trajectory=True)
    for steps, expected in ((2, 2), (8, 8), (9, 9), (100, 9)):
        lanes = make_plan(stack, torch.float32, H100, chunk=steps).lanes
        assert lanes.chunk == expected and lanes.overlap == (expected < 9)
        lanes = make_plan(trajectory, torch.float32, H100, chunk=steps, overlap=True).lanes
        assert lanes.chunk == expected and lanes.overlap and lanes.at_once == 2
        lanes = make_plan(trajectory, torch.float32, H100, chunk=steps, overlap=False).lanes
        assert lanes.chunk == 9 and not lanes.overlap
    both = trajectory._replace(directions=2)
    lanes = make_plan(both, torch.float32, H100, chunk=2, overlap=True).lanes
    assert lanes.overlap and lanes.chunk == 9
    with pytest.raises(ValueError, match="plan: chunk must not be negative, got -1"):
        make_plan(stack, torch.float32, H100, chunk=-1)
