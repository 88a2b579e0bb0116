# SPDX-License-Identifier: Apache-2.0
"""Builds and runs the programs of tests/emulator/kernels: CUDA kernels, emulated on the CPU."""

import os
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
EMULATOR = ROOT / "tests" / "emulator"
COMPILER = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++17", "-O1", "-g1", "-Wall", "-pthread", "-DLTLSTM_EMULATED"]
QUIET = ["-Wno-unknown-pragmas", "-Wno-maybe-uninitialized"]
NAME = 16  # bytes of a record's name

# By mode: what the kernels, and what the emulator's runtime are compiled with, and the link.
ASAN = ["-fsanitize=address,undefined", "-fno-sanitize=null", "-fno-sanitize-recover=all"]
MODES = {
    "plain": ([], [], []),
    "asan": (ASAN, ["-fsanitize=address"], ["-fsanitize=address,undefined"]),
    "tsan": (["-fsanitize=thread"], ["-DEMULATOR_TSAN"], ["-fsanitize=thread"]),
}


def _must(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def build(
    case: str, mode: str, folder: Path, csrc: Path = ROOT / "csrc", units: tuple[str, ...] = ()
) -> Path:
    """The program of tests/emulator/kernels/<case>.cpp; headers and ``units`` are from ``csrc``."""
    kernels, runtime, link = MODES[mode]
    includes = [f"-I{csrc}", f"-I{EMULATOR}"]
    objects = []
    for source in sorted(EMULATOR.glob("*.cpp")):
        target = folder / f"{source.stem}-{mode}.o"
        objects.append(str(target))
        if not target.exists():
            # The copies stand for accesses of the kernel: its sanitizers must see them.
            flags = kernels if source.stem == "copy" else runtime
            _must(
                [COMPILER, *FLAGS, *QUIET, *flags, *includes, "-c", str(source), "-o", objects[-1]]
            )
    program = folder / f"{case}-{mode}"
    sources = [str(EMULATOR / "kernels" / f"{case}.cpp"), *(str(csrc / unit) for unit in units)]
    inputs = ["-x", "c++", *sources, "-x", "none", *objects]
    _must([COMPILER, *FLAGS, *QUIET, *kernels, *includes, *link, *inputs, "-o", str(program)])
    return program


def write_records(path: Path, arrays: Mapping[str, Tensor]) -> None:
    with path.open("wb") as file:
        for name, array in arrays.items():
            data = bytes(array.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
            file.write(name.encode().ljust(NAME, b"\0") + struct.pack("q", len(data)) + data)


def read_records(path: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arrays that ``like`` has, in its shapes and dtypes."""
    data = path.read_bytes()
    found = {}
    at = 0
    while at < len(data):
        name = data[at : at + NAME].rstrip(b"\0").decode()
        (size,) = struct.unpack_from("q", data, at + NAME)
        at += NAME + 8
        if name in like:
            flat = torch.frombuffer(bytearray(data[at : at + size]), dtype=like[name].dtype)
            found[name] = flat.reshape(like[name].shape)
        at += size
    return found


def run(
    program: Path, folder: Path, arrays: Mapping[str, Tensor], seed: int = 0
) -> subprocess.CompletedProcess[str]:
    """Runs a case on ``arrays``; its results are in folder/out."""
    write_records(folder / "in", arrays)
    (folder / "out").unlink(missing_ok=True)
    return subprocess.run(
        [str(program), str(folder / "in"), str(folder / "out")],
        capture_output=True,
        text=True,
        env={**os.environ, "EMULATOR_SEED": str(seed), "TSAN_OPTIONS": "halt_on_error=1"},
    )
