# SPDX-License-Identifier: Apache-2.0
"""Results as JSON lines: one a case, with what is needed to trust it later."""

import json
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

import ltlstm

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"


def _git(*arguments: str) -> str | None:
    try:
        run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return run.stdout.strip() if run.returncode == 0 else None


def _commit() -> str:
    commit = _git("rev-parse", "--short=12", "HEAD")
    if commit is None:
        return "unknown"
    return commit + ("+changes" if _git("status", "--porcelain") else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} x{len(names)}" if names else platform.processor() or platform.machine()


def facts(device: str) -> dict[str, Any]:
    """The machine, the versions and the commit, as every line carries them."""
    found = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "ltlstm": ltlstm.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
    }
    if device == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return found


def append(folder: Path, bench: str, row: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{bench}.jsonl", "a") as file:
        file.write(json.dumps({"bench": bench, **row}) + "\n")
