# SPDX-License-Identifier: Apache-2.0
"""`python -m bench report`: tables and plots of what the benchmarks kept.

Prints every table, and writes them as markdown (report.md), with the plots, beside the results.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench import record, trace
from bench import tables as printed
from bench.gpu import rows as gpu_rows
from bench.groups import AUTO, CPU, GROUPS
from bench.tables import Table
from ltlstm import files

Row = dict[str, Any]


def ours_of(row: Row) -> str:
    """The name of our kernels in the row."""
    return row.get("ours", CPU)


def step_us(row: Row, name: str | None = None, which: str = "median") -> float:
    return 1e6 * row["seconds"][name or ours_of(row)][which] / row["case"]["T"]


def speed_up(row: Row, peer: str, which: str = "median") -> float:
    """The peer's time over ours."""
    return row["seconds"][peer][which] / row["seconds"][ours_of(row)][which]


def _ratio(row: Row, peer: str) -> str:
    if peer not in row["seconds"]:
        return ""
    return f"{speed_up(row, peer):.2f} ({speed_up(row, peer, 'minimum'):.2f})"


def _auto(row: Row) -> str:
    """What auto chose; where that is not our kernel, what it gives."""
    if AUTO not in row["seconds"]:
        return row["auto"]
    return f"{row['auto']}, {_ratio(row, AUTO)}"


def _error(row: Row, name: str) -> str:
    return f"{row['errors'][name]:.0e}" if name in row["errors"] else ""


def _bound(row: Row) -> str:
    return f"{1e6 * row['bound'] / row['case']['T']:.2f}" if row["bound"] is not None else ""


def _label(row: Row) -> str:
    return row["name"] + ("" if row["mode"] == "forward" else f" {row['mode']}")


def group_table(title: str, rows: Sequence[Row]) -> Table:
    """All rows of a group: time, bound, ratios and errors."""
    names = dict.fromkeys(name for row in rows for name in row["seconds"])
    ours = ours_of(rows[0])
    peers = [name for name in names if name not in (ours, AUTO)]
    compared = list(dict.fromkeys(p for row in rows for p in row["errors"] if p in peers))
    header = ["case", "threads", "auto", f"{ours} us/step", "bound", *peers]
    header += ["error", *(f"error {peer}" for peer in compared)]
    body = [
        [_label(row), str(row["threads"]), _auto(row), f"{step_us(row):.2f}"]
        + [_bound(row), *(_ratio(row, peer) for peer in peers)]
        + [_error(row, name) for name in (ours, *compared)]
        for row in rows
    ]
    return Table(title, header, body)


def target_table(rows: Iterable[Row]) -> Table:
    """Every target: how fast our kernels are, and whether that is enough."""
    body = []
    for row in rows:
        for target in row["targets"]:
            ratio, peer = target["ratio"], target["peer"]
            verdict = "not measured" if ratio is None else "yes" if ratio >= 1 else "no"
            if row["auto"] != ours_of(row):
                verdict += f", served by {row['auto']}"
            theirs = f"{step_us(row, peer):.2f}" if peer in row["seconds"] else ""
            found = "" if ratio is None else f"{ratio:.2f}"
            body.append(
                [_label(row), target["text"], f"{step_us(row):.2f}", theirs, found, verdict]
            )
    header = ["case", "target", "our us/step", "peer us/step", "limit over ours", "reached"]
    return Table("Targets: our kernels, named (on the CPU on two threads), medians", header, body)


def tables(rows: Sequence[Row]) -> list[Table]:
    """One a group, and the targets last."""
    made = []
    for name, group in {**GROUPS, **gpu_rows.GROUPS}.items():
        found = [row for row in rows if row["group"] == name]
        if found:
            made.append(group_table(f"{name}: {group.title}", found))
    return [*made, target_table(rows)]


def heading(rows: Sequence[Row]) -> str:
    """Where and of what: a table without it says nothing."""

    def of(name: str) -> str:
        return ", ".join(sorted({str(row[name]) for row in rows}))

    if "ours" in rows[0]:
        return (
            f"{of('processor')}; driver {of('driver')}, CUDA {of('cuda')}, cuDNN {of('cudnn')}, "
            f"torch {of('torch')}; commit {of('commit')}; `bench/gpu.sh`, "
            f"{max(row['time'] for row in rows)}. Times are us a time step (median, by CUDA "
            "events); bound is what the plan models; under a peer's name stands its time over that "
            "of backend cuda, ratio of medians (of minima); errors are the largest against float64."
        )
    return (
        f"{of('processor')}; torch {of('torch')}, onnxruntime {of('onnxruntime')}; commit "
        f"{of('commit')}; `python -m bench`, {max(row['time'] for row in rows)}. Times are us a "
        "time step (median); under a peer's name stands its time over that of backend cpu, ratio "
        "of medians (of minima); errors are the largest against float64."
    )


def show(rows: Sequence[Row]) -> None:
    printed.show(heading(rows), tables(rows))


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench report", description=__doc__)
    parser.add_argument("--results", type=Path, default=record.RESULTS, metavar="FOLDER")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: that of the results")
    options = parser.parse_args(arguments)
    out = options.out or options.results
    text = []
    loaded = [record.kept(options.results, gpu) for gpu in (False, True)]
    traced = trace.kept(options.results)
    if not any(loaded) and not traced:
        parser.error(f"no results in {options.results}: run python -m bench first")
    for rows in filter(None, loaded):
        show(rows)
        text += [heading(rows), *(table.markdown() for table in tables(rows))]
    if traced:
        found = [trace.table(line) for line in traced]
        printed.show(trace.heading(traced), found)
        text += [trace.heading(traced), *(table.markdown() for table in found)]
    files.write_atomically(out / "report.md", ("\n\n".join(text) + "\n").encode())

    from bench import plots  # needs matplotlib, which the tables do not

    for path in plots.draw([row for rows in loaded for row in rows], traced, out):
        print(f"wrote {path}")
