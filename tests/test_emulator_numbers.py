# SPDX-License-Identifier: Apache-2.0
"""The emulator's __half and __nv_bfloat16, bit for bit against torch's."""

from pathlib import Path

import torch

from emulator.builds import HERE, build, run_program

DTYPES = (torch.float16, torch.bfloat16)
PATTERNS = torch.arange(65536, dtype=torch.int32).to(torch.int16)


def inputs() -> torch.Tensor:
    """Floats at and beside every value of both formats and every midpoint between two."""
    values = [PATTERNS.view(dtype).float().sort().values for dtype in DTYPES]
    finite = [v[v.isfinite()] for v in values]
    middle = [(v[1:].double() + v[:-1].double()).div(2).float() for v in finite]
    exact = torch.cat([*values, *middle]).view(torch.int32)
    random = torch.randint(-(2**31), 2**31 - 1, (100_000,), dtype=torch.int32)
    return torch.cat([exact, exact + 1, exact - 1, random]).view(torch.float32)


def same(ours: torch.Tensor, torchs: torch.Tensor) -> torch.Tensor:
    """Equal bits, except that any NaN is like any other: the hardware makes but one."""
    bits = {4: torch.int32, 2: torch.int16}[ours.element_size()]
    return (ours.view(bits) == torchs.view(bits)) | (ours.isnan() & torchs.isnan())


def test_conversions(tmp_path: Path) -> None:
    program = build([HERE / "numbers" / "driver.cpp"], "plain", tmp_path)
    given = inputs()
    (tmp_path / "in").write_bytes(given.numpy().tobytes())
    done = run_program(program, tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0, done.stdout
    out = bytearray((tmp_path / "out").read_bytes())
    wide = torch.frombuffer(out, dtype=torch.float32, count=2 * 65536).view(2, -1)
    narrow = torch.frombuffer(out, dtype=torch.int16, offset=2 * 65536 * 4).view(2, -1)
    for k, dtype in enumerate(DTYPES):
        assert same(wide[k], PATTERNS.view(dtype).float()).all()
        assert same(narrow[k].view(dtype), given.to(dtype)).all()
    assert (narrow[:, given.isnan()] == 0x7FFF).all()
