# SPDX-License-Identifier: Apache-2.0
"""The pictures of a comparison: learning curves, how much gradient reaches each layer, sparsity."""

from __future__ import annotations

import pathlib
from typing import Any

from ltlstm import files
from ltlstm.recipes.checkpoint import Progress

Runs = dict[str, list[Progress]]  # by model, one for each seed
SMOOTHED = 25  # steps over which the training loss is averaged


def write_plots(runs: Runs, folder: pathlib.Path) -> list[pathlib.Path]:
    """ImportError without matplotlib, OSError when they cannot be written."""
    written = []
    pictures = {"learning_curves": _curves, "gradient_norms": _gradients}
    if any(progress.live for seeds in runs.values() for progress in seeds):
        pictures["sparsity"] = _sparsity
    for name, draw in pictures.items():
        path = folder / f"{name}.png"
        files.save_figure(path, draw(runs))
        written.append(path)
    return written


def _figure(columns: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # type: ignore[import-not-found]

    figure = Figure(figsize=(3.6 * columns, 4.2), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _curves(runs: Runs) -> Any:
    figure, (loss_axes, error_axes) = _figure(2)
    for k, (name, seeds) in enumerate(runs.items()):
        for n, progress in enumerate(seeds):
            style = {"color": f"C{k}", "label": name if n == 0 else None, "alpha": 0.85}
            steps, losses = _smooth(progress.losses)
            loss_axes.plot(steps, losses, **style)
            error_axes.plot(*zip(*progress.dev_errors, strict=True), marker="o", ms=3, **style)
    loss_axes.set(xlabel="step", ylabel=f"training loss (nats, mean of {SMOOTHED} steps)")
    error_axes.set(xlabel="step", ylabel="frame error on the dev voices (%)")
    error_axes.legend()
    for axes in (loss_axes, error_axes):
        axes.grid(alpha=0.3)
    return figure


def _sparsity(runs: Runs) -> Any:
    """Live weights over the run, and the error beside them; dense models for comparison."""
    figure, (live_axes, error_axes) = _figure(2)
    for k, (name, seeds) in enumerate(runs.items()):
        for n, progress in enumerate(seeds):
            style = {"color": f"C{k}", "label": name if n == 0 else None, "alpha": 0.85}
            steps, errors = zip(*progress.dev_errors, strict=True)
            error_axes.plot(steps, errors, marker="o", ms=3, **style)
            if progress.live:
                at, live = zip(*progress.live, strict=True)
                live_axes.step((*at, progress.step), (*live, live[-1]), where="post", **style)
    live_axes.set(xlabel="step", ylabel="live weights", yscale="log")
    error_axes.set(xlabel="step", ylabel="frame error on the dev voices (%)")
    for axes in (live_axes, error_axes):
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    return figure


def _smooth(losses: list[float]) -> tuple[list[int], list[float]]:
    ends = range(min(SMOOTHED, len(losses)), len(losses) + 1)
    means = [sum(losses[max(0, end - SMOOTHED) : end]) / min(SMOOTHED, end) for end in ends]
    return list(ends), means


def _gradients(runs: Runs) -> Any:
    """A panel a model that was probed, on one scale; the first seed stands for all."""
    probed = {name: seeds for name, seeds in runs.items() if seeds[0].gradient_norms}
    figure, panels = _figure(len(probed))
    for axes, (name, seeds) in zip(panels, probed.items(), strict=True):
        axes.sharey(panels[0])
        for step, norms in seeds[0].gradient_norms:
            layers = range(1, len(norms) + 1)
            axes.plot(layers, norms, marker="o", ms=4, label=f"after step {step}")
        axes.set(title=name, xlabel="layer (1 reads the input)", yscale="log", xticks=list(layers))
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    panels[0].set_ylabel("||dL/dh|| a frame (nats, L summed over frames)")
    return figure
