# SPDX-License-Identifier: Apache-2.0
"""The emulator of the CUDA kernels: each rule once, kept and broken, under every watcher.

A small kernel in its right form raises nothing; in its wrong form it is reported. The driver and
the kernels are in tests/emulator/cases, what must be said in tests/emulator/rules.py.
"""

from collections import defaultdict
from pathlib import Path

import pytest

from emulator.builds import HERE, WATCHERS, build, missing_sanitizer, run_program
from emulator.defects import essence
from emulator.rules import RULES

SOURCES = sorted((HERE / "cases").glob("*.cpp"))
# First and last: a process under ThreadSanitizer takes its time, and a race needs no luck.
SEEDS = {"plain": ("0", "3"), "memory": ("0", "2"), "threads": ("1", "1")}

Verdicts = dict[tuple[str, str], list[str]]  # by case and form, one for each seed


@pytest.fixture(scope="module", params=WATCHERS)
def built(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    watcher = request.param
    if reason := missing_sanitizer(watcher):
        pytest.skip(reason)
    return watcher, build(SOURCES, watcher, tmp_path_factory.mktemp(f"emulator-{watcher}"))


@pytest.fixture(scope="module")
def watched(built: tuple[str, Path]) -> tuple[str, Verdicts]:
    watcher, program = built
    done = run_program(program, *SEEDS[watcher])
    assert done.returncode == 0, done.stdout
    verdicts: Verdicts = defaultdict(list)
    for line in done.stdout.strip("\n").split("\n"):  # splitlines would split at the \v too
        name, form, _, said = line.split("\t")
        verdicts[name, form].append(essence(said.replace("\v", "\n")))
    return watcher, verdicts


def test_each_case_has_its_report(watched: tuple[str, Verdicts]) -> None:
    _, verdicts = watched
    assert {name for name, _ in verdicts} == set(RULES)


@pytest.mark.parametrize("name", RULES)
def test_a_rule(name: str, watched: tuple[str, Verdicts]) -> None:
    watcher, verdicts = watched
    assert set(verdicts[name, "right"]) == {"right"}
    texts, always = RULES[name]
    if watcher not in texts:
        return
    wrong = verdicts[name, "wrong"]
    caught = [said.startswith(texts[watcher]) for said in wrong]
    assert (all if always else any)(caught), wrong


def test_a_seed_decides_the_schedule(built: tuple[str, Path]) -> None:
    """The same seed repeats a run, in which so many threads are wrong; others make others."""
    watcher, program = built
    if watcher == "threads":
        return  # stops at the first race
    name = "copies waited for too laxly"
    once, again = (run_program(program, "1", "8", name).stdout for _ in range(2))
    assert once == again
    wrong = [line.split("\t")[3] for line in once.split("\n") if "\twrong\t" in line]
    assert len(wrong) == 8 and len(set(wrong)) > 2
