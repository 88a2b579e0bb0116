# SPDX-License-Identifier: Apache-2.0
"""Runs rows: each contender is checked against float64 and timed in turn; a line is kept."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bench import bounds, contenders, onnx_lstm, record, timing
from bench.contenders import Contender, Results
from bench.groups import CPU, GROUPS, OURS, TARGET_THREADS, TORCH, Row
from tests.tolerance import assert_all_close, error

# A peer further off than this, as a share of the largest true value, computes something else.
_PEER_ERROR = 0.05


@dataclass
class Options:
    groups: Sequence[str]
    only: str
    quick: bool
    threads: Sequence[int]
    seconds: float
    path: Path

    def asks_for(self, row: Row) -> bool:
        return self.only in f"{row.name} {row.mode}" and self.quick <= row.quick


def _named(results: Results) -> dict[str, Any]:
    return {f"result {i}": t for i, t in enumerate(results)}


def _errors(found: dict[str, Contender], truth: Results, expected: Results) -> dict[str, float]:
    """Largest error of each contender that computes the row's problem; raises for a wrong one."""
    errors = {}
    for name, (call, comparable) in found.items():
        if not comparable:
            continue
        with call.around():
            results = call.run()
        results = tuple(r.reshape(t.shape) for r, t in zip(results, truth, strict=True))
        if name in OURS:
            assert_all_close(_named(results), _named(truth), _named(expected))
        errors[name] = max(error(r, t) for r, t in zip(results, truth, strict=True))
        largest = max(t.abs().max().item() for t in truth)
        assert errors[name] <= _PEER_ERROR * largest, f"{name} computes something else"
    return errors


def measure(row: Row, threads: Sequence[int], seconds: float) -> Iterator[dict[str, Any]]:
    """One line for each thread count, with `seconds` empty where the machine was too busy."""
    with torch.set_grad_enabled(row.mode == "training"):
        truth = contenders.plain(row, torch.float64)
        expected = contenders.plain(row, row.dtype)
        d = contenders.data(row, row.dtype)
        if row.crowd:
            threads = threads[-1:]
        for count in threads:
            torch.set_num_threads(count)
            found = contenders.contenders(row, d, count)
            errors = _errors(found, truth, expected)
            calls = {name: contender.call for name, contender in found.items()}
            steady = [name for name in row.steady if name in calls]
            timings = timing.measure(calls, steady, seconds) or {}
            yield {
                "name": row.name,
                "module": row.module,
                "mode": row.mode,
                "dtype": str(row.dtype).removeprefix("torch."),
                "case": asdict(row.case),
                "threads": count,
                "auto": contenders.chosen(row, d),
                "bound": bounds.bound(row, count),
                "errors": errors,
                "seconds": {name: t.line for name, t in timings.items()},
                "targets": _targets(row, count, timings),
            }


def _targets(row: Row, threads: int, timings: dict[str, timing.Timing]) -> list[dict[str, Any]]:
    """Each target with how far ours is from it: limit / ours, reached from 1 on; None unknown."""
    if threads != TARGET_THREADS:
        return []
    medians = {name: t.median for name, t in timings.items()}
    found = []
    for target in row.targets:
        known = CPU in medians and (target.peer is None or target.peer in medians)
        ratio = target.limit(medians) / medians[CPU] if known else None
        found.append({"text": target.text, "peer": target.peer, "ratio": ratio})
    return found


def line(row: dict[str, Any]) -> str:
    """A row as it is printed: us a step, and each peer's time over ours."""
    label = f"{row['name']:<34} {row['mode']:<8} threads {row['threads']}"
    seconds = row["seconds"]
    if not seconds:
        return f"{label}  not reported: the machine was busy"
    ours, steps = seconds[CPU], row["case"]["T"]
    parts = [f"cpu {1e6 * ours['median'] / steps:9.2f} us/step"]
    parts.append(f"bound {1e6 * row['bound'] / steps:.2f}")
    parts.append(f"auto {row['auto']}")
    for name, peer in seconds.items():
        if name != CPU:
            median, least = (peer[k] / ours[k] for k in ("median", "minimum"))
            parts.append(f"{name} {median:.2f}x (minima {least:.2f}x)")
    errors = {name: row["errors"][name] for name in (CPU, TORCH) if name in row["errors"]}
    parts.append("error " + ", ".join(f"{name} {e:.0e}" for name, e in errors.items()))
    for target in row["targets"]:
        ratio = target["ratio"]
        verdict = "unknown" if ratio is None else "reached" if ratio >= 1 else "not reached"
        parts.append(f"target {target['text']}: {verdict}")
    return f"{label}  {'; '.join(parts)}"


def run(options: Options) -> list[dict[str, Any]]:
    """Measures what the options ask for; prints and appends a line a row and thread count."""
    facts = record.facts()
    print(
        f"{facts['processor']}, torch {facts['torch']}, commit {facts['commit']}, load "
        f"{facts['load']}; us a time step, ratios are a peer's time over that of backend cpu"
    )
    if onnx_lstm.missing is not None:
        print(f"no rows of onnxruntime: {onnx_lstm.missing}")
    before, kept = torch.get_num_threads(), []
    try:
        for group in options.groups:
            print(f"\n{group}: {GROUPS[group].title}")
            for row in GROUPS[group].rows:
                if not options.asks_for(row):
                    continue
                for found in measure(row, options.threads, options.seconds):
                    print(line(found), flush=True)
                    if found["seconds"]:
                        kept.append({"group": group, **facts, **found})
                        record.append(options.path, kept[-1])
    finally:
        torch.set_num_threads(before)
    return kept
