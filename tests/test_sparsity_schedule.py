# SPDX-License-Identifier: Apache-2.0
"""Schedules: what makes no sense is refused, and the others reach their target in time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltlstm.sparsity import Schedule


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"seed": 1.5}, r"seed must be a number in \[0, 1\], got 1.5"),
        ({"prune": -0.1}, r"prune must be a number in \[0, 1\], got -0.1"),
        ({"grow": True}, r"grow must be a number in \[0, 1\], got True"),
        ({"floor": math.nan}, r"floor must be .* got nan"),
        ({"grow_from": 5, "grow_until": 4}, "grow_until must be an integer >= grow_from = 5, got"),
        ({"prune_from": 9, "prune_until": 3}, "prune_until must be an integer >= prune_from = 9"),
        ({"prune_every": 0}, "prune_every must be an integer >= 1, got 0"),
        ({"prune_from": 1.0}, "prune_from must be an integer >= 0, got 1.0"),
        ({"prune": 0.1, "prune_until": 9}, "prune_from must be an integer >= 1, got 0"),
        ({"shift_at": -1}, "shift_at must be an integer >= 0, got -1"),
        ({"grow": 0.1, "grow_until": 9}, "seed must be less than 1 where growth follows"),
        (
            {"seed": 0.5, "grow": 0.1, "grow_until": 9, "prune": 0.1, "prune_until": 9},
            "prune_from must be an integer >= grow_until = 9, got 0",
        ),
        (
            {"seed": 0.5, "grow": 0.1, "grow_from": 4, "grow_until": 5, "grow_every": 2},
            "grow_until must leave time for a growth after grow_from [+] grow_every = 6, got 5",
        ),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(arguments, text):
    with pytest.raises(ValueError, match=f"Schedule: {text}"):
        Schedule(**arguments)


@pytest.mark.parametrize("arguments", [{"target": 0}, {"target": 0.5, "grown": 0.4, "seed": 0.3}])
def test_a_schedule_without_a_way_to_its_target_is_refused(arguments):
    with pytest.raises(ValueError, match="Schedule.over: target and seed must be in"):
        Schedule.over(100, **arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"steps": -5}, "steps must be an integer >= 1, got -5"),
        ({"steps": 10.5}, "steps must be an integer >= 1, got 10.5"),
        ({"growths": 0}, "growths must be an integer >= 1, got 0"),
        ({"prunings": 2.0}, "prunings must be an integer >= 1, got 2.0"),
        ({"prune_share": (0.75, 0.35)}, r"prune_share must be .first, last. .* got .0.75, 0.35."),
        ({"prune_share": (0.5, 2.0)}, r"prune_share must be .* <= 1, got .0.5, 2.0."),
        ({"prune_share": (0.5, 0.5)}, "prune_share must be .* first < last"),
        ({"prune_share": (0.5,)}, r"prune_share must be .* got .0.5,."),
        ({"prune_share": (math.nan, 0.5)}, "prune_share must be .* got .nan, 0.5."),
        ({"grow_share": (0.5, 0.1), "seed": 0.3}, r"grow_share must be .* got .0.5, 0.1."),
        ({"grow_share": (-0.1, 0.1), "seed": 0.3}, r"grow_share must be .* got .-0.1, 0.1."),
        (
            {"grow_share": (0.1, 0.5), "seed": 0.3},
            r"prune_share must begin after grow_share .0.1, 0.5., got .0.35, 0.75.",
        ),
    ],
)
def test_a_schedule_over_no_part_of_a_training_is_refused(arguments, text):
    with pytest.raises(ValueError, match=f"Schedule.over: {text}"):
        Schedule.over(**{"steps": 100, "target": 0.1} | arguments)


@given(
    st.integers(1, 60), st.integers(1, 12), st.integers(1, 12), st.booleans(),
    st.lists(st.floats(0, 1), min_size=4, max_size=4, unique=True).map(sorted),
)  # fmt: skip
def test_every_schedule_over_a_training_reaches_its_target_within_it(
    steps, growths, prunings, growing, shares
):
    schedule = Schedule.over(
        steps, 0.1, seed=0.3 if growing else 0.6, grown=0.6, growths=growths, prunings=prunings,
        grow_share=tuple(shares[:2]), prune_share=tuple(shares[2:]),
    )  # fmt: skip
    grown = [step for step in range(1, steps + 1) if schedule.grows(step)]
    pruned = [step for step in range(1, steps + 1) if schedule.prunes(step)]
    assert bool(grown) == growing and 1 <= len(pruned) == schedule.prunings <= prunings
    assert math.isclose(0.6 - len(grown) * schedule.grow, 0.3 if growing else 0.6)
    assert math.isclose(0.6 * (1 - schedule.prune) ** len(pruned), 0.1)
    assert pruned[-1] == schedule.end <= steps


@pytest.mark.parametrize("steps", [20, 300, 1500])
def test_a_schedule_over_a_training_reaches_its_target_in_time(steps):
    schedule = Schedule.over(steps, 0.05, seed=0.3, grown=0.5)
    grown = [step for step in range(steps + 1) if schedule.grows(step)]
    pruned = [step for step in range(steps + 1) if schedule.prunes(step)]
    assert math.isclose(0.3 + len(grown) * schedule.grow, 0.5)
    assert math.isclose(0.5 * (1 - schedule.prune) ** len(pruned), 0.05)
    assert grown[-1] <= pruned[0] and pruned[-1] == schedule.end < steps
    assert len(pruned) == schedule.prunings
    phases = [schedule.phase(step) for step in range(steps)]
    order = [phase for k, phase in enumerate(phases) if k == 0 or phases[k - 1] != phase]
    assert [p for p in ("seed", "grow", "train", "prune", "done") if p in order] == order
