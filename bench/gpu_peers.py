# SPDX-License-Identifier: Apache-2.0
"""Other people's LSTMs on a GPU, where they are installed; CUDA graphs; what a profiler saw."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.contenders import Data, Results
from bench.groups import Row
from bench.timing import Call


class Absent(Exception):
    """A peer that is not installed, or that cannot compute the row."""


def _plain(row: Row) -> None:
    c = row.case
    if c.L > 1 or c.dirs > 1 or c.P or c.packed or row.module != "LSTM":
        raise Absent("it computes one plain layer")


def flashrnn(row: Row, d: Data) -> Call:
    """FlashRNN's fused kernel, with the input product beside it as in every other contender."""
    _plain(row)
    try:
        from flashrnn import flashrnn as compute
    except ImportError as error:
        raise Absent(str(error)) from error
    w_ih, w_hh, b_ih, b_hh = d.weights
    T, N, H = row.case.T, row.case.N, row.case.H
    leaf = d.padded.detach().requires_grad_(row.mode == "training")
    recurrent = w_hh.reshape(4, 1, H, H).requires_grad_(row.mode == "training")
    bias = (b_ih + b_hh).reshape(4, 1, H)
    d_output = torch.randn_like(d.padded[..., :1].expand(T, N, H))

    def call() -> Results:
        preact = torch.nn.functional.linear(leaf, w_ih).transpose(0, 1)  # (N, T, 4H)
        states = compute(
            preact.reshape(N, T, 4, 1, H), recurrent, bias, function="lstm", backend="cuda_fused"
        )
        output = states[0][0, :, :, 0].transpose(0, 1)
        if row.mode == "forward":
            return (output,)
        return torch.autograd.grad(output, [leaf, recurrent], d_output)

    return Call(call)


def haste(row: Row, d: Data) -> Call:
    """haste's LSTM, which has float32 only."""
    _plain(row)
    try:
        import haste_pytorch
    except ImportError as error:
        raise Absent(str(error)) from error
    if row.dtype != torch.float32:
        raise Absent("it has float32 only")
    module = haste_pytorch.LSTM(row.case.D, row.case.H).to(d.padded.device)
    leaf = d.padded.detach().requires_grad_(row.mode == "training")
    d_output = torch.randn_like(module(leaf)[0])

    def call() -> Results:
        output = module(leaf)[0]
        if row.mode == "forward":
            return (output,)
        return torch.autograd.grad(output, [leaf, *module.parameters()], d_output)

    return Call(call)


def graphed(call: Call) -> Callable[[], None]:
    """The replay of a CUDA graph of the call."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call.run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call.run()
    return graph.replay


def _profiled(call: Callable[[], Any], device: str) -> torch.profiler.profile:
    activity = torch.profiler.ProfilerActivity
    activities = [activity.CPU, *[activity.CUDA] * (device == "cuda")]
    call()
    with torch.profiler.profile(activities=activities) as profile:
        call()
        if device == "cuda":
            torch.cuda.synchronize()
    return profile


def kernels_of(call: Callable[[], Any], device: str) -> list[tuple[str, int]]:
    """The kernels that took the most time, with how often each ran."""
    events = _profiled(call, device).key_averages()
    if device == "cuda":
        events = sorted(events, key=lambda event: -event.self_device_time_total)
    return [(event.key[:80], event.count) for event in events[:5]]


def overlap(call: Callable[[], Any], file: Path, device: str) -> dict[str, float]:
    """Writes the trace; microseconds from its first kernel to its last, all kernels' time together,
    and the time in which two or more ran."""
    _profiled(call, device).export_chrome_trace(str(file))
    events = json.loads(file.read_text())["traceEvents"]
    kernels = [(e["ts"], e["ts"] + e["dur"]) for e in events if e.get("cat") == "kernel"]
    edges = sorted([(start, 1) for start, _ in kernels] + [(end, -1) for _, end in kernels])
    running, both, last = 0, 0.0, 0.0
    for at, change in edges:
        both += at - last if running > 1 else 0.0
        running, last = running + change, at
    span = edges[-1][0] - edges[0][0] if edges else 0.0
    return {"span_us": span, "kernels_us": sum(b - a for a, b in kernels), "both_us": both}
