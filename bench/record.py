# SPDX-License-Identifier: Apache-2.0
"""Results as JSON lines: one a row, with what is needed to trust it later."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

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
    # What a run itself writes is no change of what it measures.
    changes = _git("status", "--porcelain", "--", ".", ":!bench/results")
    return commit + ("+changes" if changes else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} x{len(names)}" if names else platform.processor() or platform.machine()


def _onnxruntime() -> str | None:
    try:
        return version("onnxruntime")
    except PackageNotFoundError:
        return None


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def facts() -> dict[str, Any]:
    """The machine, the versions and the commit, as every line carries them."""
    import torch  # here: what only keeps lines starts without it

    import ltlstm

    return {
        "time": now(),
        "commit": _commit(),
        "ltlstm": ltlstm.__version__,
        "torch": torch.__version__,
        "onnxruntime": _onnxruntime(),
        "python": platform.python_version(),
        "processor": _processor(),
        "load": round(os.getloadavg()[0], 2),  # before the run: of others
    }


def append(path: Path, row: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        cut = file.tell() > 0
        if cut:  # a run that was killed within a line leaves no end of it
            file.seek(-1, os.SEEK_END)
            cut = file.read() != b"\n"
        file.write(b"\n" * cut + json.dumps(row).encode() + b"\n")


def kept(folder: Path, gpu: bool) -> list[dict[str, Any]]:
    """The rows of a folder of results: those of GPUs have files of their own."""
    return load(
        path for path in sorted(folder.glob("*.jsonl")) if path.name.startswith("gpu") == gpu
    )


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["group"], row["name"], row["mode"], row["threads"]


def last(path: Path) -> dict[str, Any]:
    """The line that was appended last."""
    return json.loads(path.read_text().splitlines()[-1])


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """All lines of a file of results; what is no JSON is named on stderr and left out."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            print(f"{path}:{number}: left out, {error}", file=sys.stderr)


def load(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The newest line of each row, among those from the processor that ran last, in the order of
    the first run."""
    found = [line for path in paths for line in lines(path)]
    rows = [line for line in found if "case" in line and line["seconds"]]  # others have more
    rows.sort(key=lambda row: row["time"])  # stable: lines of one run keep their order
    newest = {_key(row): row for row in rows if row["processor"] == rows[-1]["processor"]}
    return list(newest.values())
