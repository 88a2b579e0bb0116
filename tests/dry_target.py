# SPDX-License-Identifier: Apache-2.0
"""Stages of bench/gpu.sh without a GPU, in which the CPU's kernels are not replaced."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.gpu.target import Target


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setattr(Target, "facts", lambda self: {"emulated": True, "processor": "none"})
    folders = [tmp_path / name for name in ("out", "logs", "scratch", "prepared")]
    for folder in folders:
        folder.mkdir()
    out, files, scratch, prepared = folders
    return Target(out, quick=True, emulated=True, files=files, scratch=scratch, prepared=prepared)


def lines(target: Target) -> list[dict[str, Any]]:
    """What a stage has kept."""
    return [json.loads(line) for line in target.rows.read_text().splitlines()]
