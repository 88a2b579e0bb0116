# SPDX-License-Identifier: Apache-2.0
"""The CPU kernels without torch, watched by the address, undefined-behaviour and thread sanitizers.

The driver in tests/sanitizers runs odd sizes, every option and every way in which threads share the
work, and compares the results bit for bit. Planted defects prove that each watcher sees.
"""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple

import pytest

from child import instruction_sets
from sanitizers.builds import COMPILER, CSRC, UNITS, compile_unit, link, run_driver, supported
from sanitizers.defects import DEFECTS, Defect

WATCHERS = {"memory": "address,undefined", "threads": "thread"}
# The memory sanitizers take longer to compile than to run what is not optimised; for threads it is
# the other way round.
OPTIMISE = {"memory": "-O0", "threads": "-O1"}
# Kernels that this machine only links.
CANNOT_RUN = {unit.name for unit in UNITS if unit.name.startswith("isa_")} - {
    f"isa_{isa}.cpp" for isa in instruction_sets()
}

Run = Future[CompletedProcess[str]]


class Runs(NamedTuple):
    """What becomes of every program; each starts as soon as a core is free."""

    clean: dict[tuple[str, str], Run]  # by watcher and instruction set
    planted: dict[str, Run]


def run_planted(defect: Defect, objects: list[Path], folder: Path) -> CompletedProcess[str]:
    """The driver with one object of the clean build replaced."""
    csrc = Path(shutil.copytree(CSRC, folder / "csrc"))
    defect.plant(csrc)
    (original,) = (unit for unit in UNITS if unit.name == defect.unit)
    unit = csrc / original.relative_to(CSRC) if original.is_relative_to(CSRC) else original
    target = folder / f"{unit.stem}.o"
    changed = compile_unit(unit, defect.symptom.sanitizers, target, csrc)
    kept = [each for each in objects if each.name != changed.name]
    program = link([*kept, changed], WATCHERS[defect.symptom.watcher], folder / "driver")
    return run_driver(program, "generic", defect.part)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    root = tmp_path_factory.mktemp("sanitizers")
    for watcher, sanitizers in WATCHERS.items():
        (root / watcher).mkdir()
        if not supported(sanitizers, root / watcher):
            pytest.skip(f"{COMPILER} has no -fsanitize={sanitizers}")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiling = {
            watcher: [
                pool.submit(
                    compile_unit,
                    unit,
                    "" if unit.name in CANNOT_RUN else sanitizers,
                    root / watcher / f"{unit.stem}.o",
                    optimise=OPTIMISE[watcher],
                )
                for unit in UNITS
            ]
            for watcher, sanitizers in WATCHERS.items()
        }
        objects = {watcher: [each.result() for each in all] for watcher, all in compiling.items()}
        programs = {
            watcher: link(objects[watcher], sanitizers, root / watcher / "driver")
            for watcher, sanitizers in WATCHERS.items()
        }
        clean = {
            (watcher, isa): pool.submit(run_driver, program, isa)
            for watcher, program in programs.items()
            for isa in instruction_sets()
        }
        planted = {
            name: pool.submit(
                run_planted, defect, objects[defect.symptom.watcher], root / f"defect-{number}"
            )
            for number, (name, defect) in enumerate(DEFECTS.items())
        }
        yield Runs(clean, planted)


@pytest.mark.parametrize("isa", instruction_sets())
@pytest.mark.parametrize("watcher", WATCHERS)
def test_nothing_is_reported(watcher: str, isa: str, runs: Runs) -> None:
    done = runs.clean[watcher, isa].result()
    assert done.returncode == 0, done.stdout
    assert done.stdout == f"{isa}\n"  # it ran to its end, and on the kernels that were asked for


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_reported(name: str, runs: Runs) -> None:
    done = runs.planted[name].result()
    assert done.returncode != 0
    assert any(text in done.stdout for text in DEFECTS[name].symptom.texts), done.stdout
