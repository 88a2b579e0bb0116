# SPDX-License-Identifier: Apache-2.0
"""The trace of the lanes: complete, in the order that the layers need, and only when asked for."""

import threading
from itertools import pairwise

import pytest

import ltlstm_kernels
from cases import Case, arguments
from child import run_alone
from ltlstm_kernels.trace import LANES, MOST, Span, cpu_trace
from operators import F64, call, names, operator, run, threads

CASE = Case(T=40, N=2, D=8, H=32, L=5)
SMALL = Case(T=1, N=1, D=1, H=1, L=2)


def traced(lanes: bool) -> tuple[list[Span], list[Span]]:
    """The spans of a forward alone, and those of a forward and its backward."""
    made = arguments(CASE, F64, 2)
    with threads(2):
        with cpu_trace() as forward:
            call(CASE, made, side_by_side=lanes)
        with cpu_trace() as both:
            run(lambda *given: operator(*given, side_by_side=lanes), CASE, made, names(2))
    return forward, both[2 * CASE.L :]


def overlap(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end


def overlapping(spans: list[Span]) -> bool:
    return any(overlap(*pair) for pair in pairwise(spans))


@pytest.mark.parametrize("lanes", [False, True])
def test_spans_are_complete_and_in_the_order_that_the_layers_need(lanes: bool) -> None:
    up = list(range(CASE.L))
    for spans, leads, order in zip(traced(lanes), LANES, (up, up[::-1]), strict=True):
        assert spans == sorted(spans, key=lambda span: span.start)
        assert all(span.start < span.end for span in spans)
        lead, follow = (
            [span for span in spans if (span.lane == leads) is first] for first in (True, False)
        )
        for lane in (lead, follow):
            assert [span.layer for span in lane] == order
            assert all(one.end <= other.start for one, other in pairwise(lane))
        assert all(one.end <= other.start for one, other in zip(lead, follow, strict=True))
        if not lanes:
            assert not overlapping(spans)


def back_to_back() -> None:
    for _ in range(20):
        assert not any(map(overlapping, traced(lanes=True)))


def test_on_one_core_the_lanes_never_overlap() -> None:
    # That they do on two is for `python -m bench trace` to show: how far apart two threads start is
    # the machine's affair.
    run_alone(back_to_back, cores=1)


def test_nothing_is_recorded_without_asking() -> None:
    made = arguments(SMALL, F64, 2)
    with cpu_trace() as before:
        call(SMALL, made)
    kept = list(before)
    assert len(kept) == 2 * SMALL.L
    call(SMALL, made)
    with cpu_trace() as after:
        call(SMALL, arguments(SMALL, F64, 1))  # a stack has no lanes
    assert before == kept and after == []


def test_calls_on_several_threads_are_all_there() -> None:
    made, callers, calls = arguments(SMALL, F64, 2), 4, 50
    start = threading.Barrier(callers)

    def caller() -> None:
        start.wait()
        for _ in range(calls):
            call(SMALL, made, side_by_side=True)

    pool = [threading.Thread(target=caller) for _ in range(callers)]
    with cpu_trace() as spans:
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
    each = [(span.lane, span.layer) for span in spans]
    assert len(each) == callers * calls * 2 * SMALL.L
    assert {each.count(one) for one in each} == {callers * calls}


def test_a_block_that_raises_ends_its_trace() -> None:
    with pytest.raises(KeyError), cpu_trace():
        raise KeyError
    with cpu_trace() as spans:
        call(SMALL, arguments(SMALL, F64, 2))
    assert len(spans) == 2 * SMALL.L


def test_what_cannot_be_traced_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = arguments(SMALL, F64, 2)
    with cpu_trace() as spans:
        with pytest.raises(RuntimeError, match="block must be the only one at a time, got a secon"):
            with cpu_trace():
                pass
        call(SMALL, made)
    assert len(spans) == 2 * SMALL.L  # the first goes on
    count = MOST // (2 * SMALL.L) + 1
    with pytest.raises(RuntimeError, match=rf"spans must be {MOST} at most, got {MOST + 4}"):
        with cpu_trace() as spans:
            for _ in range(count):
                call(SMALL, made)
    assert spans == []
    missing = {"_ops_cpu": ltlstm_kernels.Library(None, "not built")}
    monkeypatch.setattr(ltlstm_kernels, "libraries", lambda: missing)
    with pytest.raises(RuntimeError, match="_ops_cpu must be loaded, got not built"):
        with cpu_trace():
            pass
