# SPDX-License-Identifier: Apache-2.0
"""The lanes of the CUDA operators over emulated streams: one result in whatever order the streams
run and in whatever chunks of time, for which every wait of one lane for another is needed."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from cases import Case, arguments
from child import run_alone
from emulated_library import emulated, library
from ltlstm_kernels.plan import DeviceFacts, Shape, make_plan, told_facts
from operators import Named, assert_identical, call, names, operator, poisoned_memory, run

DEEP = Case(T=5, N=3, D=6, H=24, L=3, dropout=True)
IN_CHUNKS = [
    DEEP,
    Case(T=7, N=6, D=5, H=16, L=2, packed=True, peephole=True, reset=True),
    Case(T=4, N=3, D=5, H=24, L=5, P=9, peephole=True, reset=True, dropout=True),
]
EMULATED = DeviceFacts(90, 132, 232_448, 65_536, (132, 66, 33, 15, 7))
ORDERS = (1, 2, 0, 3, 6)  # seeds: each another order of the streams, within what the events allow


@pytest.fixture(scope="module")
def calls() -> Iterator[Counter[str]]:
    with emulated() as found:
        yield found


def result(
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
    lanes: int,
    seed: int = 0,
    side_by_side: bool = False,
    chunk: int = 0,
    way: str = "",
    dropped: int = -1,
) -> Named:
    """Outputs and gradients; wait number `dropped` is left out of the pass `way`. Side by side in
    chunks of so many steps, or back to back."""

    def how(case: Case, made: dict[str, Any]) -> Named:
        monkeypatch.setenv("EMULATOR_DROP_WAIT", str(dropped if way == "forward" else -1))
        found = operator(case, made, side_by_side)
        monkeypatch.setenv("EMULATOR_DROP_WAIT", str(dropped if way == "backward" else -1))
        return found

    monkeypatch.setenv("LTLSTM_CUDA_CHUNK", str(chunk if side_by_side else case.T))
    monkeypatch.setenv("EMULATOR_SEED", str(seed))
    return run(how, case, arguments(case, torch.float32, lanes), names(lanes))


# Two rows or more in each chunk: the product of a single one sums in another order.
@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize(
    ("case", "chunk"), [*((case, 2) for case in IN_CHUNKS), (DEEP, 3)], ids=str
)
def test_whatever_order_the_streams_run_in(
    case: Case, lanes: int, chunk: int, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = result(monkeypatch, case, lanes)  # back to back, all steps at once
    for seed in ORDERS:
        assert_identical(result(monkeypatch, case, lanes, seed, True, chunk), expected)


@pytest.mark.parametrize("regime", ["block", "cluster", "grid", "streamed"])
def test_chunks_in_each_regime(
    regime: str, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LTLSTM_CUDA_REGIME", regime)
    case = Case(T=4, N=9, D=6, H=40, L=2, reset=True)
    expected = result(monkeypatch, case, lanes=1)
    assert_identical(result(monkeypatch, case, 1, seed=3, side_by_side=True, chunk=2), expected)


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("case", IN_CHUNKS, ids=str)
def test_chunks_of_what_is_streamed(
    case: Case, lanes: int, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LTLSTM_CUDA_REGIME", "streamed")
    expected = result(monkeypatch, case, lanes)
    for seed in ORDERS:
        assert_identical(result(monkeypatch, case, lanes, seed, True, 2), expected)


def agrees(found: Named, expected: Named) -> bool:
    try:
        assert_identical(found, expected)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(("lanes", "layers", "steps"), [(2, 2, 4), (2, 2, 2), (1, 3, 2)])
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_a_wait_left_out_is_seen(
    way: str,
    lanes: int,
    layers: int,
    steps: int,
    calls: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case(T=4, N=3, D=6, H=16, L=layers)
    expected = result(monkeypatch, case, lanes)
    shape = Shape(case.T, case.N, case.H, case.H, layers, training=True, trajectory=lanes == 2)
    planned = make_plan(shape, torch.float32, EMULATED, chunk=steps, overlap=True).lanes
    assert planned.overlap and planned.chunk == steps
    streams = planned.at_once  # the first waits are for the caller, a lane each
    waits = (layers if lanes == 2 else layers - 1) * (case.T // steps)
    with poisoned_memory():
        for wait in range(streams, streams + waits):
            found = (
                result(monkeypatch, case, lanes, seed, True, steps, way, wait) for seed in ORDERS
            )
            assert not all(agrees(one, expected) for one in found), wait


def leave_out(wait: int) -> None:
    os.environ["EMULATOR_DROP_WAIT"] = str(wait)
    with emulated():
        call(DEEP, arguments(DEEP, torch.float32, lanes=2), side_by_side=True)


def test_a_join_left_out_is_seen() -> None:
    layer_lane = 3 + DEEP.L  # the last wait; what the time lane ends with comes before that end
    with pytest.raises(AssertionError, match="emulator: an operator leaves work behind"):
        run_alone(leave_out, layer_lane, EMULATOR_SEED="2")  # the caller goes on as soon as it can


def test_python_plans_with_the_facts_of_the_library(calls: Counter[str]) -> None:
    assert told_facts(library(), 0) == EMULATED


def test_a_chunk_is_a_number_of_steps(calls: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ("0", "-1", "many", "3s"):
        monkeypatch.setenv("LTLSTM_CUDA_CHUNK", bad)
        with pytest.raises(ValueError, match=f"CHUNK must be a positive .* steps, got {bad}"):
            call(DEEP, arguments(DEEP, torch.float32))
