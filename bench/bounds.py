# SPDX-License-Identifier: Apache-2.0
"""What the machine allows: bytes over measured bandwidth, operations over measured product rate.

Both rates are the best of a short probe in the same run, on as many threads as the row has.
"""

import time
from collections.abc import Callable
from functools import cache

import torch

from bench.groups import MEAN_LENGTH, Row

_PROBE_SECONDS = 0.1
_READ = 16_000_000  # bytes a probe reads at least, so that its start does not count


def _best(call: Callable[[], object], threads: int) -> float:
    """The fewest seconds of a call, within a short while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    call()
    found, stop = float("inf"), time.perf_counter() + _PROBE_SECONDS
    while True:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        found = min(found, now - start)
        if now >= stop:
            torch.set_num_threads(before)
            return found


@cache
def bandwidth(size: int, threads: int) -> float:
    """Bytes a second at which the threads, each its share, read so many bytes again and again:
    from the cache or the memory that holds them."""
    share = max(size // 4 // threads, 1)
    repeats = max(_READ // (4 * share * threads), 1)
    data = torch.randn(threads, 1, share).expand(threads, repeats, share)
    rate = 4 * data.numel() / _best(lambda: data.sum(2), threads)
    # On a busy machine threads wait for each other: what one can do alone, several can.
    return max(rate, bandwidth(size, 1)) if threads > 1 else rate


@cache
def product_rate(dtype: torch.dtype, threads: int) -> float:
    """Operations a second of a product large enough for its best rate."""
    size = 768
    a = torch.randn(size, size).to(dtype)
    rate = 2 * size**3 / _best(lambda: torch.mm(a, a), threads)
    return max(rate, product_rate(dtype, 1)) if threads > 1 else rate


def bound(row: Row, threads: int) -> float:
    """Seconds below which the row cannot come with the rates as measured: each step reads W_hh
    from where it lies; all else is products over all steps."""
    c, size = row.case, row.dtype.itemsize
    rate = product_rate(row.dtype, threads)
    training = row.mode == "training"
    rows = c.T * c.N * (MEAN_LENGTH if c.packed else 1.0)
    # Entries of W_hh, and of the H-LSTM's second layer.
    recurrent = round((8 if row.module == "HLSTM" else 4) * c.H * c.H * row.density)

    def product(entries: int) -> float:
        """All rows times a matrix; with gradients the same again for the input's and its own."""
        read = entries * size / bandwidth(entries * size, threads)
        return (3 if training else 1) * max(2 * rows * entries / rate, read)

    # One step of a stack reads all there is; of many steps each layer reads its own, again.
    inputs = [c.D, *[c.H] * (c.L - 1)]
    held = recurrent if c.T > 1 else 4 * c.H * sum(width + c.H for width in inputs)
    step_bytes = recurrent * size / bandwidth(held * size, threads)
    scan = max(c.T * step_bytes, 2 * rows * recurrent / rate) * (2 if training else 1)
    if training:
        scan += 2 * rows * recurrent / rate  # the gradient of W_hh
    seconds = c.L * scan + sum(product(round(4 * c.H * width * row.density)) for width in inputs)
    if row.module == "LTLSTM":
        seconds += c.L * product(recurrent) + (c.L - 1) * product(recurrent)
    return seconds
