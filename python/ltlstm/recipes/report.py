# SPDX-License-Identifier: Apache-2.0
"""The table at the end of a comparison: models in the order in which they were found."""

from __future__ import annotations

import dataclasses
import statistics

HEADER = ("", "model", "frame error %", "phone error %", "parameters", "kflop a frame", "ms a step")


@dataclasses.dataclass(frozen=True)
class Score:
    """One trained model on the test set."""

    model: str
    seed: int
    frame_error: float  # %
    phone_error: float  # %
    parameters: int  # that are not zero for good
    flops: int  # a frame, of the same
    step_ms: float  # median
    tuning: dict[str, float]  # the decoder's numbers, from the dev set


def table(scores: list[Score]) -> str:
    """One row a model, seeds averaged, the lowest mean frame error first."""
    by_model: dict[str, list[Score]] = {}
    for score in scores:
        by_model.setdefault(score.model, []).append(score)
    ranked = sorted(by_model.values(), key=lambda runs: _mean([run.frame_error for run in runs]))
    rows = [HEADER]
    for rank, runs in enumerate(ranked, start=1):
        rows.append(
            (
                str(rank),
                runs[0].model,
                _spread([run.frame_error for run in runs]),
                _spread([run.phone_error for run in runs]),
                f"{statistics.median_high(run.parameters for run in runs):,}",
                f"{statistics.median_high(run.flops for run in runs) / 1000:,.0f}",
                f"{statistics.median(run.step_ms for run in runs):.1f}",
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEADER))]
    return "\n".join(_line(row, widths) for row in rows)


def caution(steps: int, enough: int) -> str:
    """A line for the table of a run whose order of models means nothing; "" for a longer one."""
    if steps >= enough:
        return ""
    return (
        f"Too short to rank models: {steps:,} steps, not {enough:,}. "
        "This shows that they train, not which is better.\n"
    )


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    """Words to the left, numbers to the right."""
    cells = [
        cell.ljust(width) if k <= 1 else cell.rjust(width)
        for k, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _spread(values: list[float]) -> str:
    """The mean and, of several seeds, the sample standard deviation."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{_mean(values):.1f} +- {statistics.stdev(values):.1f}"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
