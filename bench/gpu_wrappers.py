# SPDX-License-Identifier: Apache-2.0
"""Each wrapper of a PTX instruction on the GPU against its emulation: one program, built twice."""

import struct
import tempfile
from pathlib import Path

from bench import gpu_programs, record
from bench.gpu_target import Target

SOURCE = record.ROOT / "bench" / "gpu_wrappers.cu"
# The tensor cores do not round their sums as the CPU does: of sums of 16 products below 1.
SUMS = 2.0**-18

Results = dict[str, list[str]]


def _results(program: Path, older: bool, seed: int = 0) -> Results:
    """Words in hexadecimal, by the name of the wrapper."""
    said = gpu_programs.output(program, *["older"] * older, EMULATOR_SEED=str(seed))
    found = {}
    for line in said.splitlines():
        words = line.split(" ")
        count = next(i for i, word in enumerate(words) if len(word) == 8 and _is_word(word))
        found[" ".join(words[:count])] = words[count:]
    return found


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
        pairs = list(zip(one[name], other[name], strict=True))
        wrong = [i for i, (a, b) in enumerate(pairs) if _differs(name, a, b)]
        if wrong:
            a, b = pairs[wrong[0]]
            found.append(f"{name}: {len(wrong)} words differ, word {wrong[0]}: {a} and {b}")
    return sorted(found)


def compare(target: Target) -> None:
    """Raises RuntimeError where the device and the emulation differ; in a dry run the emulation
    under two orders of events stands for both."""
    capability = str(target.facts().get("capability", "9.0"))
    older = int(capability.partition(".")[0]) < 9
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = gpu_programs.for_emulator(SOURCE, folder)
        emulated = _results(program, older)
        if target.emulated:
            other = _results(program, older, seed=3)
        else:
            other = _results(gpu_programs.for_gpu(SOURCE, folder, target), older)
    wrong = differences(emulated, other)
    target.write({"group": "wrappers", "wrappers": sorted(emulated), "differ": wrong})
    if wrong:
        raise RuntimeError(f"{len(wrong)} wrappers differ: {wrong[0]}")
