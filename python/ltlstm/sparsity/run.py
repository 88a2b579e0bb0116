# SPDX-License-Identifier: Apache-2.0
"""How far a grow-and-prune training is: what changes from step to step, beside masks and sums."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass
class Run:
    """Plain values only, so that it goes through any checkpoint."""

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


def check_state(state: Any, own: dict[str, Any]) -> None:
    """ValueError for a state whose facts about model and schedule are others than one's own."""
    for name, value in own.items():
        if state.get(name) != value:
            raise ValueError(f"GrowPrune: state must have {name} {value}, got {state.get(name)}")
