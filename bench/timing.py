# SPDX-License-Identifier: Apache-2.0
"""The one timer: calls take turns, so that what disturbs one disturbs its peer, and every sample
is kept. A case disturbed too much is measured again, and after three tries not reported.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

ATTEMPTS = 3
MIN_ROUNDS, MAX_ROUNDS = 7, 200
# Above this ratio of the peer's median to its minimum the machine was busy with something else.
STEADY = 1.5


@dataclass(frozen=True)
class Timing:
    """Seconds a call, every sample in the order taken."""

    samples: list[float]

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def minimum(self) -> float:
        return min(self.samples)

    @property
    def steady(self) -> bool:
        return self.median <= STEADY * self.minimum


def measure(
    calls: Mapping[str, Callable[[], object]],
    peer: str,
    seconds: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing] | None:
    """Times the calls in turn for about `seconds`; None where the peer was never steady."""
    for _ in range(ATTEMPTS):
        timings = _interleave(calls, seconds, clock)
        if timings[peer].steady:
            return timings
    return None


def _interleave(
    calls: Mapping[str, Callable[[], object]], seconds: float, clock: Callable[[], float]
) -> dict[str, Timing]:
    def sample(name: str) -> float:
        start = clock()
        calls[name]()
        return clock() - start

    order = list(calls)
    for name in order:
        sample(name)  # the first call allocates and packs
    cost = sum(sample(name) for name in order)
    rounds = max(MIN_ROUNDS, min(MAX_ROUNDS, int(seconds / max(cost, 1e-9))))
    samples: dict[str, list[float]] = {name: [] for name in order}
    for _ in range(rounds):
        for name in order:
            samples[name].append(sample(name))
        order.reverse()  # neither is always the one that finds the other's data in the cache
    return {name: Timing(samples[name]) for name in calls}
