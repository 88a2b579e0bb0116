# SPDX-License-Identifier: Apache-2.0
"""The short table at the end of bench/gpu.sh: stages, and every row that was measured."""

from pathlib import Path
from typing import Any

from bench import record

Row = dict[str, Any]


def of_stage(row: Row) -> str:
    said = row.get("skipped") or row["error"] or ""
    verdict = "skipped" if row.get("skipped") else "ok" if row["ok"] else "FAILED"
    return f"{row['stage']:<12} {verdict:<8} {row['seconds']:>6.1f} s  {said[:200]}".rstrip()


def _measured(row: Row) -> str:
    name, us = f"{row['name']} {row['mode']}", row["ours"]
    if us not in row["seconds"]:
        return f"{name:<44} ours failed: {row['failed'].get(us, 'not timed')[:120]}"
    seconds, steps = row["seconds"], row["case"]["T"]
    ours = seconds[us]["median"]
    parts = [f"{name:<44} {1e6 * ours / steps:8.2f} us/step"]
    if row.get("bound"):
        parts.append(f"{100 * row['bound'] / ours:4.0f} % of the modelled rate")
    parts += [f"{p} {seconds[p]['median'] / ours:.2f}x" for p in seconds if p != us]
    steps_of = [f"{kernel['step_us']:.2f}" for kernel in row.get("recurrence", ())]
    if steps_of:
        parts.append(f"recurrence {' + '.join(steps_of)} us/step")
    parts.append("error " + ", ".join(f"{n} {e:.0e}" for n, e in row["errors"].items()))
    return "  ".join(parts)


def summary(path: Path) -> str:
    """What the lines say: rows first, stages last, for the end is what is always seen."""
    rows = list(record.lines(path))
    stages = [row for row in rows if "stage" in row]
    measured = [row for row in rows if "case" in row]
    first = next((row for row in rows if "processor" in row), {})
    of = [first.get(name, "unknown") for name in ("processor", "commit", "torch")]
    lines = ["{}, commit {}, torch {}".format(*of)]
    if any(row["emulated"] for row in rows):
        lines.append("a dry run: emulated kernels on the CPU; no time here means anything")
    lines += ["", *map(_measured, measured)] if measured else []
    late = [f"{row['group']}: {len(row['late'])}" for row in rows if row.get("late")]
    if late:
        lines += ["", f"left out for want of time: {', '.join(late)}"]
    failed = [row["stage"] for row in stages if not row["ok"]]
    lines += ["", *map(of_stage, stages), ""]
    lines.append(f"failed: {', '.join(failed)}" if failed else "every stage passed")
    return "\n".join(lines)
