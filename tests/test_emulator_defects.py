# SPDX-License-Identifier: Apache-2.0
"""How planted defects are caught, shown on a sample of a persistent kernel.

The harness is tests/emulator/defects.py; the kernels of csrc/cuda have defects of their own.
"""

from pathlib import Path

import pytest

from emulator.builds import HERE, WATCHERS, build, missing_sanitizer
from emulator.defects import (
    DEADLOCK,
    NUMBERS,
    OVERFLOW,
    RACE,
    RIGHT,
    Defect,
    own_verdict,
    run_planted,
)

SAMPLE = HERE / "sample"
SOURCES = [SAMPLE / "driver.cpp"]


def waves(old: str, new: str, seen_by: dict[str, tuple[str, ...]], **where: int) -> Defect:
    return Defect("waves.cuh", old, new, seen_by, **where)


DEFECTS = {
    "one buffer for both steps": waves("(step + 1) % 2 *", "step % 2 *", {"plain": (NUMBERS,)}),
    "waiting for one group too few": waves(
        "wait<0>", "wait<1>", {"plain": (NUMBERS, "emulator: the thread ends with cp.async")}
    ),
    "too little shared memory": waves(
        " + shared_bytes(kThreads * 4)", "", {"plain": ("emulator: shared_array: ",)}
    ),
    "a barrier for one block more": waves(
        "* gridDim.x)", "* (gridDim.x + 1))", {"plain": (DEADLOCK,)}
    ),
    "not cooperative": waves("cooperative = true", "cooperative = false", {"plain": (DEADLOCK,)}),
    "a step past the input": waves("&x.in[step *", "&x.in[(step + 1) *", {"memory": OVERFLOW}),
    "past a shared array": waves("(mine + 1) % kState", "mine + 1", {"memory": OVERFLOW}),
    "a relaxed publication": waves("add_release(", "atomicAdd(", {"threads": (RACE,)}),
    "no barrier before the publication": waves(
        "__syncthreads();", "", {"threads": (RACE,)}, nth=1, of=3
    ),
}


@pytest.mark.parametrize("watcher", WATCHERS)
def test_the_sample_is_right(watcher: str, tmp_path: Path) -> None:
    if reason := missing_sanitizer(watcher):
        pytest.skip(reason)
    program = build(SOURCES, watcher, tmp_path)
    assert [own_verdict(program, seed) for seed in range(4)] == [RIGHT] * 4


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_caught(name: str, tmp_path: Path) -> None:
    defect = DEFECTS[name]
    for watcher in defect.seen_by:
        if reason := missing_sanitizer(watcher):
            pytest.skip(reason)
        said = run_planted(defect, SOURCES, watcher, tmp_path, tree=SAMPLE)
        assert defect.is_caught(watcher, said), said


def test_a_defect_whose_text_is_not_there_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="0 times, not 1"):
        run_planted(waves("no such text", "", {}), SOURCES, "plain", tmp_path, tree=SAMPLE)
