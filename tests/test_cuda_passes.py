# SPDX-License-Identifier: Apache-2.0
"""CUDA kernels around the recurrence, on the emulator: sums over rows, steps of packed input."""

from itertools import accumulate
from pathlib import Path

import pytest
import torch

from emulated_time_lstm import unwritten
from emulator.builds import CSRC, KERNELS, build
from emulator.records import launch
from tolerance import assert_all_close

STEPS, HALF_TO_FLOAT, FLOAT_TO_HALF, FLOAT = range(4)
SUMMED = 64  # rows of a thread: kSummedRows


@pytest.fixture(scope="module", params=["plain", "memory"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = [
        KERNELS / "passes.cpp",
        *(CSRC / "cuda" / f"{name}.cu" for name in ("sums", "steps")),
    ]
    return build(sources, request.param, tmp_path_factory.mktemp("passes"))


@pytest.mark.parametrize("rows, width", [(1, 1), (63, 5), (64, 130), (65, 300), (700, 17)])
@pytest.mark.parametrize("kernel", [HALF_TO_FLOAT, FLOAT_TO_HALF, FLOAT])
def test_sums_over_rows(kernel: int, rows: int, width: int, program: Path) -> None:
    from_half, to_half = kernel == HALF_TO_FLOAT, kernel == FLOAT_TO_HALF
    t = torch.randn(rows, width, generator=torch.Generator().manual_seed(0))
    t = t.bfloat16() if from_half else t
    pieces = -(-rows // SUMMED)
    out = unwritten(pieces, width, dtype=torch.bfloat16 if to_half else torch.float32)
    sizes = torch.tensor([kernel, rows, width])
    found = launch(program, {"t": t, "out": out, "sizes": sizes}, 1)["out"]
    truth = torch.stack([piece.double().sum(0) for piece in t.split(SUMMED)])
    plain = torch.stack([piece.float().sum(0) for piece in t.split(SUMMED)]).to(out.dtype)
    assert_all_close({"sums": found}, {"sums": truth}, {"sums": plain})


def steps_of(kind: str) -> list[int]:
    return {
        "one": [3],
        "equal": [4] * 700,
        "falling": list(range(500, 0, -1)),
        "with empty ones": [5, 5, 2, 0, 0],
        "long and ragged": sorted((n * n % 331 for n in range(1000)), reverse=True),
    }[kind]


@pytest.mark.parametrize("kind", ["one", "equal", "falling", "with empty ones", "long and ragged"])
def test_steps_of_packed_input(kind: str, program: Path) -> None:
    sizes = torch.tensor(steps_of(kind))
    T = len(sizes)
    offsets = torch.tensor([0, *accumulate(sizes.tolist())])
    given = {"sizes_in": sizes, "offsets_in": offsets, "sizes": torch.tensor([STEPS, T, 0])}
    outputs = {"batch_sizes": torch.full((T,), -1), "offsets": torch.full((T + 1,), -1)}
    found = launch(program, {**given, **outputs}, 1)
    assert torch.equal(found["batch_sizes"], sizes)
    assert torch.equal(found["offsets"], offsets)
