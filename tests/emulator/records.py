# SPDX-License-Identifier: Apache-2.0
"""Runs the programs of tests/emulator/kernels: CUDA kernels on the CPU, on tensors from here.

A program reads named arrays from a file and writes them all back: kernels/records.h.
"""

import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from emulator.builds import run_program

NAME = 16  # bytes of a record's name


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
            raw, dtype = bytearray(data[at : at + size]), like[name].dtype
            flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
            found[name] = flat.reshape(like[name].shape)
        at += size
    return found


class Failed(AssertionError):
    """The program ended with an error, or a watcher saw one; the text is what it said."""


def launch(program: Path, arrays: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The arrays as the program leaves them."""
    given, left = program.parent / "in", program.parent / "out"
    write_records(given, arrays)
    left.unlink(missing_ok=True)
    done = run_program(program, given, left, seed=seed)
    if done.returncode != 0:
        raise Failed(done.stdout or f"case: ended by {done.returncode}")
    return read_records(left, arrays)
