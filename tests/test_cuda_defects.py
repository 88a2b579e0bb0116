# SPDX-License-Identifier: Apache-2.0
"""Defects planted in the kernels of the time-LSTM are caught, and the right ones raise no alarm."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emulated_time_lstm import (
    Problem,
    inputs,
    output_gradients,
    reference,
    run_backward,
    run_forward,
)
from emulator.builds import KERNELS, build, missing_sanitizer
from emulator.defects import NUMBERS, RIGHT, Judge, essence, run_planted
from emulator.records import Failed
from kernel_defects import PROGRAMS
from tolerance import assert_all_close

SEEDS = {"plain": range(2), "memory": range(1), "threads": range(2)}

Planted = dict[tuple[str, str, str], Future[list[str]]]  # by program, defect and watcher


def problems(program: str) -> list[Problem]:
    """Three slices of K on two warps, ragged rows, resets, units and columns beyond the last; or of
    the streamed loop, both directions, and a projection."""
    if program == "one_streamed":
        both = Problem("streamed", T=5, N=6, H=20, packed=True, reset=True, bidirectional=True)
        return [both, replace(both, P=8, packed=False)]
    regime = "cluster" if "cluster" in program else "grid"
    units = 24 if regime == "cluster" else 8
    return [Problem(regime, T=5, N=6, H=70, units=units, columns=8, k_splits=2,
                    held="held" in program, packed=True, reset=True)]  # fmt: skip


def judge_of(program: str, right: Path) -> Judge:
    judges = [judge_of_one(program, right, p) for p in problems(program)]

    def judge(built: Path, seed: int) -> str:
        said = (one(built, seed) for one in judges)
        return next((verdict for verdict in said if verdict != RIGHT), RIGHT)

    return judge


def judge_of_one(program: str, right: Path, p: Problem) -> Judge:
    """``right`` is a right program of the forward kernel, for what backward reads."""
    given, gradients = inputs(p), output_gradients(p)
    truth = reference(p, given, gradients, torch.float64)
    plain = reference(p, given, gradients, p.dtype)
    saved = run_forward(p, given, right, 0) if "backward" in program else {}

    def judge(built: Path, seed: int) -> str:
        try:
            if "backward" in program:
                found = run_backward(p, given, saved, gradients, built, seed)
            else:
                found = run_forward(p, given, built, seed)
                if program == "one_streamed":  # both passes
                    found |= run_backward(p, given, found, gradients, built, seed)
                for name in [name for name in found if name.startswith("gates")]:
                    del found[name]
        except Failed as failed:
            return essence(str(failed))
        try:
            names = list(found)
            assert_all_close(
                {name: found[name].to(p.dtype) for name in names},
                {name: truth[name] for name in names},
                {name: plain[name] for name in names},
            )
        except AssertionError:
            return NUMBERS
        return RIGHT

    return judge


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Judge]:
    folder = tmp_path_factory.mktemp("right")
    right = build([KERNELS / "one_grid_forward.cpp"], "plain", folder)
    return {program: judge_of(program, right) for program in PROGRAMS}


@pytest.fixture(scope="module")
def planted(
    pool: ThreadPoolExecutor, judges: dict[str, Judge], tmp_path_factory: pytest.TempPathFactory
) -> Planted:
    """What becomes of every program with a defect; each starts as soon as a core is free."""
    root = tmp_path_factory.mktemp("planted")
    runs = {}
    for program, defects in PROGRAMS.items():
        for number, (name, defect) in enumerate(defects.items()):
            for watcher in defect.seen_by:
                if reason := missing_sanitizer(watcher):
                    pytest.skip(reason)
                folder = root / f"{program}-{number}-{watcher}"
                folder.mkdir()
                runs[program, name, watcher] = pool.submit(
                    run_planted,
                    defect,
                    [KERNELS / f"{program}.cpp"],
                    watcher,
                    folder,
                    judge=judges[program],
                    seeds=SEEDS[watcher],
                )
    return runs


@pytest.mark.parametrize(
    ("program", "name"), [(program, name) for program in PROGRAMS for name in PROGRAMS[program]]
)
def test_a_planted_defect_is_caught(program: str, name: str, planted: Planted) -> None:
    defect = PROGRAMS[program][name]
    for watcher in defect.seen_by:
        said = planted[program, name, watcher].result()
        assert defect.is_caught(watcher, said), f"{watcher}: {said}"


@pytest.mark.parametrize("watcher", SEEDS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_right_kernel_raises_no_alarm(
    program: str, watcher: str, judges: dict[str, Judge], tmp_path: Path
) -> None:
    if reason := missing_sanitizer(watcher):
        pytest.skip(reason)
    right = build([KERNELS / f"{program}.cpp"], watcher, tmp_path)
    assert [judges[program](right, seed) for seed in range(3)] == [RIGHT] * 3
