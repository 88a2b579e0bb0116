# SPDX-License-Identifier: Apache-2.0
"""The one timer: calls take turns, so that what disturbs one disturbs its peers, and every sample
is kept. What was disturbed too much is measured again, and after three tries not reported.
"""

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

ATTEMPTS = 3
MIN_TURNS, MAX_TURNS = 5, 20
# A turn is a burst of so many samples, or of so many seconds.
BURST, BURST_SECONDS = 10, 0.02
# Before a turn all rest until the last one's idle threads no longer spin: for about 4 ms after a
# product in torch's libgomp, 20 ms in onnxruntime (CPU time burnt in a sleep, 2-core Xeon).
REST = 0.025
# A call this long is not warmed before each turn: it outlasts what it finds cold.
LONG = 0.05
# Above this ratio of a peer's median to its minimum the machine was busy with something else.
STEADY = 1.5


class Call(NamedTuple):
    """What is timed, and what must hold meanwhile: entered before a turn, outside of the timing."""

    run: Callable[[], Any]
    around: Callable[[], AbstractContextManager] = nullcontext


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

    @property
    def line(self) -> dict[str, Any]:
        """As a result keeps it."""
        samples = [float(f"{s:.4g}") for s in self.samples]
        return {"median": self.median, "minimum": self.minimum, "samples": samples}


def measure(
    calls: Mapping[str, Call],
    peers: Collection[str],
    seconds: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], object] = time.sleep,
    stopwatch: Callable[[Callable[[], Any]], float] | None = None,
) -> dict[str, Timing] | None:
    """Times the calls in turn for about `seconds`; None where some peer was never steady.

    stopwatch: runs what it is given and says how long it took; without it the clock does.
    """
    for _ in range(ATTEMPTS):
        timings = _interleave(calls, seconds, clock, rest, stopwatch)
        if all(timings[peer].steady for peer in peers):
            return timings
    return None


def _interleave(
    calls: Mapping[str, Call],
    seconds: float,
    clock: Callable[[], float],
    rest: Callable[[float], object],
    stopwatch: Callable[[Callable[[], Any]], float] | None,
) -> dict[str, Timing]:
    samples: dict[str, list[float]] = {name: [] for name in calls}
    cost: dict[str, float] = {}

    def sample(name: str) -> float:
        if stopwatch is not None:
            return stopwatch(calls[name].run)
        start = clock()
        calls[name].run()
        return clock() - start

    def turn(name: str) -> None:
        rest(REST)
        with calls[name].around():
            if cost[name] < LONG:
                sample(name)  # finds its threads asleep and its data out of the cache
            start = clock()
            for _ in range(BURST):
                samples[name].append(sample(name))
                if clock() - start >= BURST_SECONDS:
                    break

    for name, call in calls.items():
        with call.around():
            sample(name)  # the first call allocates and packs
            cost[name] = sample(name)
    round_cost = sum(REST + max(c, min(BURST * c, BURST_SECONDS)) for c in cost.values())
    order = list(calls)
    for _ in range(max(MIN_TURNS, min(MAX_TURNS, int(seconds / round_cost)))):
        for name in order:
            turn(name)
        order.reverse()  # none always follows the same other
    return {name: Timing(found) for name, found in samples.items()}
