# SPDX-License-Identifier: Apache-2.0
"""How far a grow-and-prune training is, and what a state of it must agree with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ltlstm.sparsity.masks import check_granularity
from ltlstm.sparsity.schedule import Schedule
from ltlstm.sparsity.weights import Weight

FORMAT = 1
# What the first states of that format did not hold, as checkpoints that were kept do not.
SINCE = ("rank_by", "wake", "fast_sizes", "readers")


RANKINGS = ("sum", "abs")
WAKINGS = ("zero", "step")


def check_options(granularity: str, rank_by: str, wake: str, fast_sizes: Sequence[int]) -> None:
    """ValueError for what GrowPrune does not know."""
    check_granularity("GrowPrune", granularity)
    for name, value, known in (("rank_by", rank_by, RANKINGS), ("wake", wake, WAKINGS)):
        if value not in known:
            raise ValueError(f"GrowPrune: {name} must be one of {known}, got {value!r}")
    if fast_sizes and granularity not in ("row", "column"):
        raise ValueError(
            f"GrowPrune: fast_sizes must come with granularity row or column, got {granularity}"
        )


@dataclasses.dataclass
class Run:
    """What changes from step to step beside masks and sums; plain values, for any checkpoint."""

    steps: int = 0  # done
    growths: int = 0
    prunings: int = 0
    shifted: bool = False  # the activation
    stopped: bool = False  # masks change no more
    unjudged: bool = False  # pruned since accept was last asked
    bases: dict[str, int] = dataclasses.field(default_factory=dict)  # live groups before pruning
    log: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        return {**vars(self), "bases": dict(self.bases), "log": list(self.log)}


def facts(
    schedule: Schedule,
    granularity: str,
    weights: Mapping[str, Weight],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """What a state must agree with."""
    return {
        "format": FORMAT,
        "schedule": dataclasses.asdict(schedule),
        "granularity": granularity,
        "shapes": {name: list(weight.parameter.shape) for name, weight in weights.items()},
        **options,
    }


def check_state(state: Any, own: dict[str, Any]) -> None:
    """ValueError for a state whose facts about model and schedule are others than one's own."""
    for name, value in own.items():
        if name in SINCE and name not in state:
            continue
        if state.get(name) != value:
            raise ValueError(f"GrowPrune: state must have {name} {value}, got {state.get(name)}")
