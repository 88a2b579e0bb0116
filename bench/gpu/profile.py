# SPDX-License-Identifier: Apache-2.0
"""What a profiler saw of a call: the kernels' own times, and what ran beside what."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

# In a dry run there are no kernels: an operator stands for them.
RECURRENCE = {"cuda": ("time_lstm_kernel", "_step_kernel"), "cpu": ("ltlstm::",)}
WIDTH = 160  # of a kernel's name, where it is kept


class Kernel(NamedTuple):
    name: str
    count: int
    us: float  # of all of them


def profiled(call: Callable[[], Any], device: str) -> torch.profiler.profile:
    activity = torch.profiler.ProfilerActivity
    activities = [activity.CPU, *[activity.CUDA] * (device == "cuda")]
    call()
    with torch.profiler.profile(activities=activities) as profile:
        call()
        if device == "cuda":
            torch.cuda.synchronize()
    return profile


def kernels_of(call: Callable[[], Any], device: str) -> list[Kernel]:
    """Every kernel of a call, that which took the most time first; on the CPU every operator."""
    which = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    events = profiled(call, device).key_averages()
    found = [Kernel(event.key, event.count, getattr(event, which)) for event in events]
    return sorted((kernel for kernel in found if kernel.us > 0), key=lambda k: -k.us)


def shown(kernels: Sequence[Kernel], most: int = 6) -> list[tuple[str, int, float]]:
    return [(k.name[:WIDTH], k.count, round(k.us, 2)) for k in kernels[:most]]


def recurrence(
    long: Sequence[Kernel], short: Sequence[Kernel], steps: tuple[int, int], device: str
) -> list[dict[str, Any]]:
    """Of each kernel of the recurrence in both calls: us a step, and us that no step takes, such as
    loading the weights. `steps`: of the long call and of the short one."""
    wanted = RECURRENCE[device]
    of_short = {kernel.name: kernel.us for kernel in short}
    found = []
    for name, count, us in long:
        if name in of_short and any(part in name for part in wanted):
            step = (us - of_short[name]) / (steps[0] - steps[1])
            line = {"kernel": name[:WIDTH], "count": count, "us": us, "step_us": step}
            found.append(line | {"start_us": of_short[name] - steps[1] * step})
    return found


def overlap(call: Callable[[], Any], file: Path, device: str) -> dict[str, float]:
    """Writes the trace; microseconds from its first kernel to its last, all kernels' time together,
    and the time in which two or more ran."""
    profiled(call, device).export_chrome_trace(str(file))
    events = json.loads(file.read_text())["traceEvents"]
    kernels = [(e["ts"], e["ts"] + e["dur"]) for e in events if e.get("cat") == "kernel"]
    edges = sorted([(start, 1) for start, _ in kernels] + [(end, -1) for _, end in kernels])
    running, both, last = 0, 0.0, 0.0
    for at, change in edges:
        both += at - last if running > 1 else 0.0
        running, last = running + change, at
    span = edges[-1][0] - edges[0][0] if edges else 0.0
    return {"span_us": span, "kernels_us": sum(b - a for a, b in kernels), "both_us": both}
