# SPDX-License-Identifier: Apache-2.0
"""When each layer of the two lanes of `lt_lstm` ran on the CPU; kept only while asked for."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import ltlstm_kernels

LANES = ("time", "layer")  # in the order of csrc/binding/cpu_trace.h
MOST = 4096  # spans that the library keeps


class Span(NamedTuple):
    """One layer of one lane: when it ran, in ns of the steady clock."""

    lane: str  # "time" or "layer"
    layer: int  # from 0, the lowest
    start: int
    end: int


class _Span(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in Span._fields]


@contextmanager
def cpu_trace() -> Iterator[list[Span]]:
    """The spans of all `lt_lstm` calls of this process that end inside the block, forward and
    backward, from whichever thread: a list that is filled, by start, when the block ends.

    L layers give 2 L spans a pass. A list of more than `MOST` raises RuntimeError, as does a trace
    inside of another, or a build without `_ops_cpu`.
    """
    library = ltlstm_kernels.libraries()["_ops_cpu"]
    if not library.loaded:
        raise RuntimeError(f"cpu_trace: _ops_cpu must be loaded, got {library.error}")
    functions = ctypes.CDLL(str(library.path))
    start, end = functions.ltlstm_cpu_trace_start, functions.ltlstm_cpu_trace_end
    start.restype = end.restype = ctypes.c_int64
    end.argtypes = ctypes.POINTER(_Span), ctypes.c_int64
    if start() == 0:
        raise RuntimeError("cpu_trace: block must be the only one at a time, got a second")
    spans: list[Span] = []
    kept = (_Span * MOST)()
    try:
        yield spans
    finally:
        count = end(kept, MOST)
    if count > MOST:
        raise RuntimeError(f"cpu_trace: spans must be {MOST} at most, got {count}")
    found = [Span(LANES[s.lane], s.layer, s.start, s.end) for s in kept[:count]]
    spans += sorted(found, key=lambda span: span.start)
