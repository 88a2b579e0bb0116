# SPDX-License-Identifier: Apache-2.0
"""Planted defects of kernels: a checker that is never seen to catch anything proves nothing.

defect = Defect("cuda/exchange.cuh", "store_release(", "store_relaxed(", {"threads": (RACE,)})
said = run_planted(defect, [driver], "threads", folder)
assert defect.is_caught("threads", said), said
"""

import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from emulator.builds import CSRC, build_changed, run_program
from sanitizers.planting import replace

RIGHT = "right"
NUMBERS = "wrong numbers"
RACE = "ThreadSanitizer: data race"
DEADLOCK = "emulator: deadlock"
OVERFLOW = ("AddressSanitizer: heap-", "AddressSanitizer: use-after-poison")

MARK = re.compile(f"(emulator: |{NUMBERS}|ThreadSanitizer: |AddressSanitizer: |runtime error: ).*")


def essence(said: str) -> str:
    """The first line that says what is wrong."""
    found = MARK.search(said)
    return found[0] if found else said or RIGHT


class Defect(NamedTuple):
    """The source in which occurrence `nth` of the text `old` becomes `new`."""

    source: str  # under the folder of sources
    old: str
    new: str
    seen_by: dict[str, Sequence[str]]  # by watcher that must catch it: one of these is said
    nth: int = 0
    of: int = 1  # occurrences, so that a new one is noticed

    def is_caught(self, watcher: str, said: Iterable[str]) -> bool:
        """Whether under some seed one of the texts was said."""
        return any(verdict.startswith(tuple(self.seen_by[watcher])) for verdict in said)


# Runs the program under a seed and returns RIGHT, NUMBERS, or the essence of what it said.
Judge = Callable[[Path, int], str]


def own_verdict(program: Path, seed: int) -> str:
    """For a program that says itself whether its results are right."""
    done = run_program(program, seed=seed)
    return RIGHT if done.returncode == 0 else essence(done.stdout)


def run_planted(
    defect: Defect,
    sources: Sequence[Path],
    watcher: str,
    folder: Path,
    tree: Path = CSRC,
    judge: Judge = own_verdict,
    seeds: Iterable[int] = range(4),
) -> list[str]:
    """What is said, under each seed, of `sources` built on a copy of `tree` with the defect.

    Sources that lie in `tree` are taken from the copy too. `folder` serves once for each watcher.
    """
    copy = Path(shutil.copytree(tree, folder / f"tree-{watcher}"))
    replace(copy / defect.source, defect.old, defect.new, defect.nth, defect.of)
    moved = [copy / s.relative_to(tree) if s.is_relative_to(tree) else s for s in sources]
    program = build_changed(moved, watcher, folder, copy)
    return [judge(program, seed) for seed in seeds]
