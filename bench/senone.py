# SPDX-License-Identifier: Apache-2.0
"""`python -m bench senone`: keeps what a run of the senone recipe found beside the benchmarks."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from bench import record
from ltlstm.files import write_atomically


def main(arguments: Sequence[str]) -> None:
    """Appends a line a model and seed, and one a way to run a model; copies the picture."""
    parser = argparse.ArgumentParser(prog="python -m bench senone", description=__doc__)
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("runs/hlstm"),
        metavar="FOLDER",
        help="the recipe's --out, on this machine (runs/hlstm)",
    )
    parser.add_argument(
        "--trained-at",
        metavar="COMMIT",
        help="the commit at which the models were trained (this one); latencies are of this one",
    )
    parser.add_argument(
        "--out", type=Path, default=record.RESULTS, metavar="FOLDER", help="where they are kept"
    )
    options = parser.parse_args(arguments)
    files = [options.results / name for name in ("results.json", "latencies.json")]
    if not all(path.exists() for path in files):
        parser.error(f"no results in {options.results}: run the recipe with --grow-prune first")
    results, measured = (json.loads(path.read_text()) for path in files)
    path = options.out / "senone_sparse.jsonl"
    facts = record.facts()
    shared = {name: results[name] for name in ("budget", "settings", "threads")}
    shared["trained_at"] = options.trained_at or facts["commit"]
    for score in results["scores"]:
        curve = results["curves"][score["model"]][score["seed"]]
        points = {name: curve[name] for name in ("dev_errors", "live")}
        record.append(path, {"group": "senone", **facts, **shared, **score, **points})
    for each in measured["latencies"]:
        row = {"group": "senone latency", **facts, "threads": measured["threads"], **each}
        record.append(path, row)
    picture = options.results / "sparsity.png"
    if picture.exists():  # not without matplotlib
        write_atomically(path.with_suffix(".png"), picture.read_bytes())
    print(f"{len(results['scores'])} models and {len(measured['latencies'])} latencies: {path}")
