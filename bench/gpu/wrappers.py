# SPDX-License-Identifier: Apache-2.0
"""Each wrapper of a PTX instruction on the GPU against its emulation: one program, built twice."""

import json
import struct
import tempfile
from pathlib import Path

from bench.gpu import programs
from bench.gpu.target import Target

SOURCE = programs.HERE / "wrappers.cu"
# The tensor cores do not round their sums as the CPU does: of sums of 16 products below 1.
SUMS = 2.0**-18
CAPABILITY = 90  # of the emulator

Results = dict[str, list[str]]


def parsed(line: str) -> tuple[str, list[str]]:
    """A wrapper's name, and its words in hexadecimal; none where it failed."""
    words = line.split(" ")
    count = next((i for i, w in enumerate(words) if len(w) == 8 and _is_word(w)), len(words))
    return " ".join(words[:count]), words[count:]


def _is_word(text: str) -> bool:
    return all(c in "0123456789abcdef" for c in text)


def _differs(name: str, a: str, b: str) -> bool:
    if not name.startswith("mma"):
        return a != b
    x, y = (struct.unpack(">f", bytes.fromhex(word))[0] for word in (a, b))
    return not abs(x - y) <= SUMS


def differences(one: Results, other: Results) -> list[str]:
    """A line for each wrapper that gave two results."""
    found = [f"{name} ran on one only" for name in sorted(one.keys() ^ other.keys())]
    for name in one.keys() & other.keys():
        if len(one[name]) != len(other[name]):
            found.append(f"{name} failed")
            continue
        pairs = list(zip(one[name], other[name], strict=True))
        wrong = [i for i, (a, b) in enumerate(pairs) if _differs(name, a, b)]
        if wrong:
            a, b = pairs[wrong[0]]
            found.append(f"{name}: {len(wrong)} words differ, word {wrong[0]}: {a} and {b}")
    return sorted(found)


def _results(
    program: Path, capability: int, seconds: float, **environment: str
) -> tuple[Results, str | None]:
    found: list[tuple[str, list[str]]] = []
    wrong = programs.measurements(
        program, (capability,), seconds, lambda line: found.append(parsed(line)), **environment
    )
    return dict(found), wrong


def _expected(folder: Path, seed: int) -> Results:
    program = programs.for_emulator(SOURCE, folder)
    found, wrong = _results(program, CAPABILITY, 300, EMULATOR_SEED=str(seed))
    if wrong:
        raise RuntimeError(wrong)
    return found


def _file(prepared: Path) -> Path:
    return prepared / f"wrappers-{programs.digest(SOURCE)}.json"


def prepare(prepared: Path) -> None:
    """Writes what the emulator says, for a machine that is not to compile it."""
    prepared.mkdir(parents=True, exist_ok=True)
    for older in prepared.glob("wrappers-*.json"):
        older.unlink()
    with tempfile.TemporaryDirectory() as folder:
        _file(prepared).write_text(json.dumps(_expected(Path(folder), seed=0)))
    print(_file(prepared), flush=True)


def wrappers(target: Target) -> None:
    """Raises RuntimeError where the device and the emulation differ; in a dry run the emulation
    under another order of events stands for the device."""
    target.need_device()
    capability = CAPABILITY if target.emulated else target.plan_facts().capability
    prepared = target.scratch if target.emulated else target.prepared
    if not _file(prepared).exists():
        prepare(prepared := target.scratch)
    emulated: Results = json.loads(_file(prepared).read_text())
    left = target.left() - programs.MARGIN
    program = programs.built(SOURCE, target)
    seed = {"EMULATOR_SEED": "3"} if target.emulated else {}
    found, wrong = _results(program, capability, left, **seed)
    if capability < CAPABILITY:  # there are no clusters
        emulated = {name: words for name, words in emulated.items() if name in found}
    differ = differences(emulated, found)
    target.write({"group": "wrappers", "wrappers": sorted(found), "differ": differ, "error": wrong})
    if differ or wrong:
        raise RuntimeError(f"{len(differ)} wrappers differ: {(differ or [wrong])[0]}")
