# SPDX-License-Identifier: Apache-2.0
"""The short table at the end of bench/gpu.sh: stages, and every row that was measured."""

import json
from pathlib import Path
from typing import Any

from bench.groups import AUTO

Row = dict[str, Any]


def _stage(row: Row) -> str:
    said = row.get("skipped") or row["error"] or ""
    verdict = "skipped" if row.get("skipped") else "ok" if row["ok"] else "FAILED"
    return f"{row['stage']:<12} {verdict:<8} {row['seconds']:>6.1f} s  {said[:200]}"


def _measured(row: Row) -> str:
    name, us = f"{row['name']} {row['mode']}", row["ours"]
    if us not in row["seconds"]:
        return f"{name:<44} ours failed: {row['failed'].get(us, 'not timed')[:120]}"
    seconds, steps = row["seconds"], row["case"]["T"]
    ours = seconds[us]["median"]
    peers = [
        f"{peer} {seconds[peer]['median'] / ours:.2f}x"
        for peer in seconds
        if peer not in (us, AUTO)
    ]
    share = ""  # of a kernel that nothing models, or of which there is no other to choose
    if row.get("bound"):
        share = f"{100 * row['bound'] / ours:4.0f} % of the modelled rate  auto {row['auto']}  "
    errors = ", ".join(f"{n} {e:.0e}" for n, e in row["errors"].items())
    return (
        f"{name:<44} {1e6 * ours / steps:8.2f} us/step  {share}{'  '.join(peers)}  error {errors}"
    )


def summary(path: Path) -> str:
    """What the lines say, shortest first."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    stages = [row for row in rows if "stage" in row]
    measured = [row for row in rows if "case" in row]
    lines = [f"{rows[-1]['processor']}, commit {rows[-1]['commit']}, torch {rows[-1]['torch']}"]
    if any(row["emulated"] for row in rows):
        lines.append("a dry run: emulated kernels on the CPU; no time here means anything")
    lines += ["", *map(_measured, measured)] if measured else []
    failed = [row["stage"] for row in stages if not row["ok"]]
    lines += ["", *map(_stage, stages), ""]
    lines.append(f"failed: {', '.join(failed)}" if failed else "every stage passed")
    return "\n".join(lines)
