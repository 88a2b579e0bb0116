# SPDX-License-Identifier: Apache-2.0
"""Threads as users have them: too many, on too few cores, several callers, forks, other pools.

Each test is a Python of its own under a watchdog, since what goes wrong with threads is a hang.

A fork copies the calling thread and not the pool. libgomp, which the pip builds of torch use, then
waits for ever for threads that are gone: after a parallel region in the parent any parallel region
in the child hangs, torch's own operators included. With one thread there is no region, so that is
what a child may count on (and what DataLoader sets in its workers).
"""

import ctypes
import os
import re
import threading
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from cases import EVERYTHING, TOGETHER, arguments
from child import run_alone
from operators import (
    F64,
    Named,
    assert_identical,
    call,
    names,
    operator,
    oracle,
    run,
    threads,
)
from test_operators_robust import WIDE
from tolerance import assert_all_close

F32 = torch.float32
CASES = [EVERYTHING, WIDE, *TOGETHER]


# lstm_stack; lt_lstm with its lanes one after the other, and side by side
WAYS = [(1, None), (2, False), (2, True)]


def results() -> list[Named]:
    """Values and gradients of every case; with enough threads some of them share a layer."""
    return [
        run(partial(operator, side_by_side=how), case, arguments(case, F32, lanes), names(lanes))
        for case in CASES
        for lanes, how in WAYS
    ]


@cache
def references(dtype: torch.dtype) -> list[Named]:
    with threads(1):  # plain torch's many small operators are slow where threads are too many
        return [
            run(oracle, case, arguments(case, dtype, lanes), names(lanes))
            for case in CASES
            for lanes, _ in WAYS
        ]


def assert_right(found: list[Named]) -> None:
    for actual, truth, plain in zip(found, references(F64), references(F32), strict=True):
        assert_all_close(actual, truth, plain)


def assert_all_identical(actual: list[Named], expected: list[Named]) -> None:
    for found, wanted in zip(actual, expected, strict=True):
        assert_identical(found, wanted)


def threads_started(work: Callable[[], object]) -> int:
    tasks = Path("/proc/self/task")
    before = len(list(tasks.iterdir()))
    work()
    return len(list(tasks.iterdir())) - before


def cell_over_many_rows() -> None:
    R, H = 4096, 64
    # Not zeros, which torch would fill with threads of its own.
    torch.ops.ltlstm.cell_forward(torch.empty(R, 4 * H), torch.empty(R, H), None)


def obeys(count: int, processors: int) -> None:
    torch.set_num_threads(count)
    assert threads_started(cell_over_many_rows) == min(count, processors) - 1
    if count > processors:
        results()  # torch's own operators start those that ours do not
    assert threads_started(results) == 0  # the same threads again
    assert torch.get_num_threads() == count  # to all but our operators


PROCESSORS = len(os.sched_getaffinity(0))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_number_of_threads_is_the_one_set_or_that_of_processors(count: int) -> None:
    run_alone(obeys, count, PROCESSORS)
    run_alone(obeys, count, 1, cores=1)


def test_threads_that_openmp_has_bound_still_share_the_work() -> None:
    run_alone(obeys, 2, PROCESSORS, OMP_PROC_BIND="true")


def repeated(count: int) -> None:
    torch.set_num_threads(count)
    first = results()
    assert_right(first)
    for _ in range(3):
        assert_all_identical(results(), first)


@pytest.mark.parametrize(("count", "cores"), [(8, None), (32, None), (2, 1), (8, 1)])
def test_more_threads_than_cores(count: int, cores: int | None) -> None:
    run_alone(repeated, count, cores=cores)


def several_callers(callers: int, count: int) -> None:
    torch.set_num_threads(count)
    expected = results()
    found: dict[int, list[list[Named]]] = {}
    start = threading.Barrier(callers)

    def call(caller: int) -> None:
        start.wait()
        found[caller] = [results() for _ in range(2)]

    pool = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    assert len(found) == callers
    for rounds in found.values():
        for each in rounds:
            assert_all_identical(each, expected)


@pytest.mark.parametrize("count", [1, 2])
def test_several_python_threads_at_once(count: int) -> None:
    run_alone(several_callers, 3, count)


def fork(before: int, after: int) -> None:
    torch.set_num_threads(before)
    assert_right(results())
    child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(after)
            assert_right(results())
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert_right(results())  # the parent goes on


@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 2), (2, 1)])
def test_a_fork_after_use(before: int, after: int) -> None:
    run_alone(fork, before, after)


class Results(Dataset[list[Named]]):
    """What the operators give, computed in a worker."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> list[Named]:
        return [{k: v.detach() for k, v in found.items()} for found in results()]


def workers(context: str) -> None:
    torch.set_num_threads(2)
    results()  # the pool has its threads by the time of the fork
    with threads(1):
        expected = results()
    loader = DataLoader(Results(), batch_size=None, num_workers=2, multiprocessing_context=context)
    rounds = list(loader)
    assert len(rounds) == 4
    for found in rounds:
        assert_all_identical(found, expected)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_data_loader_workers(context: str) -> None:
    run_alone(workers, context)


def lanes_side_by_side_without_gradients() -> None:
    """By the rule, not bit for bit: a library's product may depend on where its operands lie."""
    torch.set_num_threads(2)
    in_turn, truth = (
        [call(case, arguments(case, dtype, 2), side_by_side=False) for case in CASES]
        for dtype in (F32, F64)
    )
    for save in (True, False):
        made = names(2) if save else names(2)[:3]
        for mode in (torch.no_grad, torch.inference_mode):
            for case, *expected in zip(CASES, truth, in_turn, strict=True):
                with mode():
                    found = call(case, arguments(case, F32, 2), save=save, side_by_side=True)
                assert_all_close(
                    *(dict(zip(made, outputs, strict=False)) for outputs in (found, *expected))
                )


def test_lanes_side_by_side_without_gradients() -> None:
    # The second lane's thread is in nobody's inference mode.
    run_alone(lanes_side_by_side_without_gradients)


def openmp() -> ctypes.CDLL:
    """The OpenMP runtime that torch runs on."""
    maps = Path("/proc/self/maps").read_text()
    (path,) = set(re.findall(r"/\S*/lib(?:g|i|)omp\S*", maps))
    return ctypes.CDLL(path)


def inside_a_region(count: int) -> None:
    torch.set_num_threads(count)
    assert_right(results())
    library = openmp()
    outcomes: list[BaseException | int] = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def body(_: int | None) -> None:
        try:
            assert library.omp_in_parallel() == 1
            assert_right(results())
            outcomes.append(threading.get_ident())
        except BaseException as error:
            outcomes.append(error)

    library.GOMP_parallel(body, None, count, 0)
    assert len(set(outcomes)) == count and all(isinstance(each, int) for each in outcomes), outcomes
    assert_right(results())


def test_called_inside_a_parallel_region() -> None:
    run_alone(inside_a_region, 3)
