# SPDX-License-Identifier: Apache-2.0
"""`python -m ltlstm.sparsity.profile`: latency over hidden sizes on this device; the fast sizes.

Latency is not monotonic in the size: a few units fewer may cost more. A size is fast where no
larger one takes less time; pruning by rows aims at those (GrowPrune's ``fast_sizes``).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from ltlstm import files
from ltlstm.arguments import positive, share
from ltlstm.modules import HLSTM, LSTM

MODULES: dict[str, Callable[..., nn.Module]] = {"lstm": LSTM, "nn_lstm": nn.LSTM, "hlstm": HLSTM}


class Point(NamedTuple):
    """What a step of one hidden size takes, in microseconds."""

    size: int
    median: float
    minimum: float


def profile(
    make: Callable[[int], nn.Module],
    sizes: Sequence[int],
    *,
    T: int = 50,
    N: int = 1,
    rounds: int = 11,
    device: str = "cpu",
) -> list[Point]:
    """The latency of ``make(size)`` in eval mode on (T, N, its input_size), by size, a step.

    All sizes are timed in turns, so that what disturbs the machine disturbs them alike; the first
    turn warms up and does not count.
    """
    if not sizes or min(sizes) < 1:
        raise ValueError(f"profile: sizes must be positive integers, got {list(sizes)}")
    if rounds < 1:
        raise ValueError(f"profile: rounds must be at least 1, got {rounds}")
    modules = [make(size).to(device).eval() for size in sizes]
    inputs = [torch.randn(T, N, int(module.input_size), device=device) for module in modules]  # type: ignore[arg-type]
    seconds: list[list[float]] = [[] for _ in sizes]
    with torch.no_grad():
        for _ in range(rounds + 1):
            for times, module, x in zip(seconds, modules, inputs, strict=True):
                times.append(_timed(module, x))
    found = [[1e6 * t / T for t in times[1:]] for times in seconds]
    return [
        Point(size, statistics.median(times), min(times))
        for size, times in zip(sizes, found, strict=True)
    ]


def _timed(module: nn.Module, x: torch.Tensor) -> float:
    _wait(x)
    began = time.perf_counter()
    module(x)
    _wait(x)
    return time.perf_counter() - began


def _wait(x: torch.Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)


def fast_sizes(points: Sequence[Point], tolerance: float = 0.0) -> list[int]:
    """The sizes that no larger one matches: those of the points, by their minimum, which is what
    noise disturbs least. A larger size within ``tolerance``, a share, counts as no slower."""
    fast = []
    least = float("inf")  # of the larger sizes
    for point in sorted(points, reverse=True):
        if point.minimum * (1 + tolerance) < least:
            fast.append(point.size)
        least = min(least, point.minimum)
    return fast[::-1]


def table(points: Sequence[Point], fast: Sequence[int]) -> str:
    """A line a size."""
    lines = ["  size  us a step  fastest"]
    for point in points:
        mark = "  fast" if point.size in fast else ""
        lines.append(f"{point.size:6}  {point.median:9.2f}  {point.minimum:7.2f}{mark}")
    return "\n".join(lines)


def plot(points: Sequence[Point], fast: Sequence[int], title: str, path: pathlib.Path) -> None:
    """A PNG; ImportError without matplotlib."""
    from matplotlib.figure import Figure  # type: ignore[import-not-found]

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    sizes = [point.size for point in points]
    axes.plot(sizes, [point.minimum for point in points], marker=".", label="fastest")
    axes.plot(sizes, [point.median for point in points], lw=0.8, alpha=0.6, label="median")
    chosen = [point for point in points if point.size in fast]
    axes.scatter(
        [p.size for p in chosen],
        [p.minimum for p in chosen],
        color="C3",
        zorder=3,
        label="fast size",
    )
    axes.set(xlabel="hidden size", ylabel="us a step", title=title, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    files.save_figure(path, figure)


def sizes_from(text: str) -> list[int]:
    """``first:last:step``, the last included, or sizes with commas between them."""
    try:
        if ":" in text:
            first, last, step = map(int, text.split(":"))
            found = list(range(first, last + 1, step))
        else:
            found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"must be first:last:step or a,b,c, got {text}")
    return found


def device(text: str) -> str:
    """One that this machine has."""
    try:
        torch.empty(0, device=text)
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        # torch's own words: the first line, without what follows it.
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(
            f"must be a device of this machine, got {text}: {reason}"
        ) from error
    return text


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ltlstm.sparsity.profile",
        description="Time a recurrent module over hidden sizes on this device and name the fast "
        "sizes, which row and column pruning aims at.",
    )
    add = parser.add_argument
    add("--module", choices=tuple(MODULES), default="lstm", help="what is timed (lstm)")
    add(
        "--sizes",
        type=sizes_from,
        default=sizes_from("32:512:16"),
        metavar="A:B:STEP",
        help="hidden sizes (32:512:16), or a list with commas",
    )
    add("--input", type=positive, metavar="D", help="inputs (as many as the hidden size)")
    add("--batch", type=positive, default=1, metavar="N", help="rows at a time (1)")
    add("--steps", type=positive, default=50, metavar="T", help="time steps in a call (50)")
    add("--rounds", type=positive, default=11, metavar="R", help="calls of each size (11)")
    add("--threads", type=positive, metavar="N", help="threads (torch's default)")
    add(
        "--device",
        type=device,
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="cpu or cuda",
    )
    add(
        "--tolerance",
        type=share,
        default=0.02,
        metavar="SHARE",
        help="a larger size this much slower counts as no slower (0.02)",
    )
    add(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/profile"),
        metavar="DIR",
        help="where profile.json and profile.png go (runs/profile)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)

    def make(size: int) -> nn.Module:
        return MODULES[options.module](options.input or size, size)

    points = profile(
        make,
        options.sizes,
        T=options.steps,
        N=options.batch,
        rounds=options.rounds,
        device=options.device,
    )
    fast = fast_sizes(points, options.tolerance)
    title = (
        f"{options.module}, N={options.batch}, T={options.steps}, {options.device}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"{title}\n{table(points, fast)}\nfast sizes: {', '.join(map(str, fast))}")
    facts: dict[str, Any] = {"title": title, "fast_sizes": fast}
    facts["points"] = [point._asdict() for point in points]
    try:
        files.write_atomically(options.out / "profile.json", json.dumps(facts, indent=1).encode())
        plot(points, fast, title, options.out / "profile.png")
    except ImportError:
        print(f"no plot: matplotlib is not installed ({sys.executable} -m pip install matplotlib)")
    except OSError as error:
        print(f"profile: {error}", file=sys.stderr)
        return 1
    print(f"written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
