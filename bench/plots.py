# SPDX-License-Identifier: Apache-2.0
"""Plots of the results, as PNG: speed-up over sizes and steps, time by depth, the lanes' trace."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from bench import trace
from bench.groups import CPU, LANES_OFF, LANES_ON, OUR_LSTM, TORCH
from bench.report import Row, ours_of, speed_up, step_us
from ltlstm import files
from ltlstm_kernels.trace import LANES

# Okabe and Ito's colours, told apart by all eyes.
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
_MARKERS = "osD^vP"
_DEPTH_NAMES = {
    CPU: "LTLSTM",
    LANES_ON: "LTLSTM, lanes on",
    LANES_OFF: "LTLSTM, lanes off",
    OUR_LSTM: "LSTM",
    TORCH: "nn.LSTM",
}


def _threads(rows: Sequence[Row]) -> list[int]:
    return sorted({row["threads"] for row in rows})


def _title(count: int) -> str:
    return f"{count} thread" + "s" * (count > 1)


def _log_ticks(axis, values: Sequence[float]) -> None:
    axis.set_major_locator(FixedLocator(values))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def sizes(rows: Sequence[Row]) -> Figure | None:
    """Speed-up over H and N, a panel a mode and thread count."""
    groups = ("forward", "training", "batch", "batch-training")
    rows = [r for r in rows if r["group"] in groups and TORCH in r["seconds"]]
    if not rows:
        return None
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    widths = sorted({row["case"]["H"] for row in rows})
    batches = sorted({row["case"]["N"] for row in rows})
    figure, panels = plt.subplots(
        len(modes), len(_threads(rows)), squeeze=False, layout="constrained",
        figsize=(1.2 + 4.4 * len(_threads(rows)), 0.8 + 2.8 * len(modes)),
    )  # fmt: skip
    norm = TwoSlopeNorm(1.0, 0.0, 3.0)
    for i, mode in enumerate(modes):
        for j, count in enumerate(_threads(rows)):
            panel = panels[i, j]
            grid = [[float("nan")] * len(widths) for _ in batches]
            for row in rows:
                if (row["mode"], row["threads"]) == (mode, count):
                    at = batches.index(row["case"]["N"]), widths.index(row["case"]["H"])
                    grid[at[0]][at[1]] = value = speed_up(row, TORCH)
                    dark = value > 2.4 or value < 0.3
                    panel.text(
                        at[1], at[0], f"{value:.2f}", ha="center", va="center",
                        color="white" if dark else "black",
                    )  # fmt: skip
            image = panel.imshow(grid, cmap="RdBu", norm=norm, origin="lower", aspect="auto")
            panel.set_facecolor("#dddddd")  # not measured
            panel.set_xticks(range(len(widths)), [str(w) for w in widths])
            panel.set_yticks(range(len(batches)), [str(n) for n in batches])
            panel.set_title(f"{mode}, {_title(count)}")
            panel.set_xlabel("hidden size H")
            panel.set_ylabel("batch N")
    bar = figure.colorbar(image, ax=panels, extend="max", ticks=[0, 0.5, 1, 2, 3])
    bar.set_label("speed-up over nn.LSTM (its time / ours)")
    figure.suptitle("ltlstm.LSTM, backend cpu, float32: T=200 for N=1, T=50 above; grey: no result")
    return figure


def steps(rows: Sequence[Row]) -> Figure | None:
    """Speed-up against T, a line a hidden size."""
    rows = [r for r in rows if r["group"] in ("steps", "forward") and TORCH in r["seconds"]]
    if not rows:
        return None
    counts = _threads(rows)
    figure, panels = plt.subplots(
        1, len(counts), squeeze=False, sharey=True, layout="constrained",
        figsize=(1 + 4.5 * len(counts), 4),
    )  # fmt: skip
    for panel, count in zip(panels[0], counts, strict=True):
        for i, width in enumerate(sorted({row["case"]["H"] for row in rows})):
            points = sorted(
                (row["case"]["T"], speed_up(row, TORCH))
                for row in rows
                if (row["threads"], row["case"]["H"]) == (count, width)
            )
            style = {"color": _COLOURS[i % 6], "marker": _MARKERS[i % 6]}
            if points:
                panel.plot(*zip(*points, strict=True), label=f"H={width}", **style)
        panel.axhline(1, color="black", linewidth=0.8, linestyle="--")
        panel.set_xscale("log")
        _log_ticks(panel.xaxis, sorted({row["case"]["T"] for row in rows}))
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        panel.set_title(_title(count))
        panel.set_xlabel("time steps T (log scale)")
    panels[0, 0].set_ylabel("speed-up over nn.LSTM (its time / ours)")
    panels[0, -1].legend()
    figure.suptitle("ltlstm.LSTM, backend cpu, forward, float32, N=1; dashed: nn.LSTM")
    return figure


def depth(rows: Sequence[Row]) -> Figure | None:
    """Time a step against L: LTLSTM (with lanes on and off, where both ran), LSTM and nn.LSTM."""
    rows = [row for row in rows if row["group"] == "lt_lstm"]
    if not rows:
        return None
    widths, counts = sorted({row["case"]["H"] for row in rows}), _threads(rows)
    names = [n for n in _DEPTH_NAMES if any(n in row["seconds"] for row in rows)]
    figure, panels = plt.subplots(
        len(widths), len(counts), squeeze=False, layout="constrained",
        figsize=(1 + 4.5 * len(counts), 0.6 + 3 * len(widths)),
    )  # fmt: skip
    for i, width in enumerate(widths):
        for j, count in enumerate(counts):
            panel = panels[i, j]
            for k, name in enumerate(names):
                points = sorted(
                    (row["case"]["L"], step_us(row, name))
                    for row in rows
                    if (row["case"]["H"], row["threads"]) == (width, count)
                    and name in row["seconds"]
                )
                style = {"color": _COLOURS[k % 6], "marker": _MARKERS[k % 6]}
                if points:
                    label = _DEPTH_NAMES[name]
                    panel.plot(*zip(*points, strict=True), label=label, **style)
            panel.set_xticks(sorted({row["case"]["L"] for row in rows}))
            panel.set_ylim(bottom=0)
            panel.grid(alpha=0.3)
            panel.set_title(f"H={width}, {_title(count)}")
            panel.set_xlabel("layers L")
            panel.set_ylabel("us a time step")
    panels[0, 0].legend()
    figure.suptitle("Forward by depth, float32, N=1, T=200 (LTLSTM and LSTM: backend cpu)")
    return figure


def gpu(rows: Sequence[Row]) -> Figure | None:
    """Time a step on a GPU against H, a panel a mode and batch: ours, nn.LSTM and the model."""
    rows = [row for row in rows if row["group"] in ("gpu-forward", "gpu-training")]
    rows = [row for row in rows if {ours_of(row), TORCH} <= row["seconds"].keys()]
    if not rows:
        return None
    modes = list(dict.fromkeys(row["mode"] for row in rows))
    batches = sorted({row["case"]["N"] for row in rows})
    figure, panels = plt.subplots(
        len(modes), len(batches), squeeze=False, sharey="row", layout="constrained",
        figsize=(1 + 3.2 * len(batches), 0.8 + 3 * len(modes)),
    )  # fmt: skip
    for i, mode in enumerate(modes):
        for j, batch in enumerate(batches):
            panel = panels[i, j]
            here = [r for r in rows if (r["mode"], r["case"]["N"]) == (mode, batch)]
            here.sort(key=lambda row: row["case"]["H"])
            widths = [row["case"]["H"] for row in here]
            lines = {
                "ltlstm, backend cuda": [step_us(row) for row in here],
                TORCH: [step_us(row, TORCH) for row in here],
                "modelled": [1e6 * (row["bound"] or math.nan) / row["case"]["T"] for row in here],
            }
            for k, (name, times) in enumerate(lines.items()):
                style = {"color": _COLOURS[k], "marker": _MARKERS[k]}
                panel.plot(widths, times, label=name, linestyle="-:"[k == 2], **style)
            panel.set_xscale("log")
            panel.set_yscale("log")
            _log_ticks(panel.xaxis, sorted({row["case"]["H"] for row in rows}))
            panel.grid(alpha=0.3)
            panel.set_title(f"{mode}, N={batch}")
            panel.set_xlabel("hidden size H")
        panels[i, 0].set_ylabel("us a time step")
    panels[0, 0].legend()
    figure.suptitle(f"One layer, bfloat16, on {rows[-1]['processor']}")
    return figure


def lanes(traced: Sequence[trace.Traced]) -> Figure | None:
    """When each layer of each lane ran, a panel a mode and setting; one scale for all."""
    if not traced:
        return None
    at = [(mode, on) for mode in trace.MODES for on in (False, True)]
    figure, panels = plt.subplots(
        len(at), 1, squeeze=False, sharex=True, layout="constrained", figsize=(11, 7)
    )
    for panel, place in zip(panels[:, 0], at, strict=True):
        for line in traced:
            if (line["mode"], line["lanes"]) != place:
                continue
            panel.set_title(trace.title(line), loc="left", fontsize=10)
            for span in line["spans"]:
                start, end = span["start"] / 1e6, span["end"] / 1e6
                row = LANES.index(span["lane"])
                panel.broken_barh(
                    [(start, end - start)], (row - 0.4, 0.8), color=_COLOURS[row], edgecolor="white"
                )
                style = {"ha": "center", "va": "center", "color": "white", "clip_on": True}
                panel.text((start + end) / 2, row, str(span["layer"]), **style)
        panel.set_yticks(range(len(LANES)), [f"{lane} lane" for lane in LANES])
        panel.set_ylim(len(LANES) - 0.5, -0.5)
    panels[-1, 0].set_xlabel("ms from the start of the first layer; in the bars the layer")
    figure.suptitle(trace.heading(traced), fontsize=9, wrap=True)
    return figure


def draw(rows: Sequence[Row], traced: Sequence[trace.Traced], folder: Path) -> list[Path]:
    """Every plot that the results have rows for."""
    figures = {"sizes": sizes(rows), "steps": steps(rows), "depth": depth(rows), "gpu": gpu(rows)}
    figures["lanes"] = lanes(traced)
    written = []
    for name, figure in figures.items():
        if figure is not None:
            written.append(folder / f"{name}.png")
            files.save_figure(written[-1], figure)
            plt.close(figure)
    return written
