# SPDX-License-Identifier: Apache-2.0
"""Each wrapper of a PTX instruction on the GPU against its emulation: one program, built twice."""

import os
import struct
import subprocess
import tempfile
from pathlib import Path

from bench import record
from bench.gpu_target import Target

SOURCE = record.ROOT / "bench" / "gpu_wrappers.cu"
EMULATOR = record.ROOT / "tests" / "emulator"
INCLUDES = [f"-I{record.ROOT / 'csrc'}"]
# The tensor cores do not round their sums as the CPU does: of sums of 16 products below 1.
SUMS = 2.0**-18

Results = dict[str, list[str]]


def _results(program: Path, older: bool, seed: int = 0) -> Results:
    """Words in hexadecimal, by the name of the wrapper."""
    run = subprocess.run(
        [str(program), *["older"] * older],
        capture_output=True, text=True, timeout=60,
        env={**os.environ, "EMULATOR_SEED": str(seed)},
    )  # fmt: skip
    if run.returncode != 0:
        raise RuntimeError(f"{program.name}: exit status {run.returncode}: {run.stderr[-400:]}")
    found = {}
    for line in run.stdout.splitlines():
        words = line.split(" ")
        count = next(i for i, word in enumerate(words) if len(word) == 8 and _is_word(word))
        found[" ".join(words[:count])] = words[count:]
    return found


def _is_word(text: str) -> bool:
    return all(c in "0123456789abcdef" for c in text)


def _build_emulated(folder: Path) -> Path:
    program = folder / "emulated"
    flags = ["-std=c++17", "-O1", "-w", "-pthread", "-DLTLSTM_EMULATED", f"-I{EMULATOR}"]
    sources = ["-x", "c++", str(SOURCE), *map(str, sorted(EMULATOR.glob("*.cpp")))]
    compiler = os.environ.get("CXX", "g++")
    subprocess.run([compiler, *flags, *INCLUDES, *sources, "-o", str(program)], check=True)
    return program


def _build_for_gpu(folder: Path, capability: str) -> Path:
    program = folder / "on_gpu"
    number = capability.replace(".", "")
    arch = f"sm_{number}a" if int(number) >= 90 else f"sm_{number}"
    nvcc = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin", "nvcc")
    subprocess.run(
        [str(nvcc), "-std=c++17", "-O2", *INCLUDES, f"-arch={arch}", str(SOURCE), "-o",
         str(program)],
        check=True,
    )  # fmt: skip
    return program


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
        emulated = _results(_build_emulated(folder), older)
        if target.emulated:
            other = _results(folder / "emulated", older, seed=3)
        else:
            other = _results(_build_for_gpu(folder, capability), older)
    wrong = differences(emulated, other)
    target.write({"group": "wrappers", "wrappers": sorted(emulated), "differ": wrong})
    if wrong:
        raise RuntimeError(f"{len(wrong)} wrappers differ: {wrong[0]}")
