# SPDX-License-Identifier: Apache-2.0
"""`bench/gpu.sh OUTDIR`: all that is to be known from one GPU, in 9 minutes or in what is given.

OUTDIR/gpu.jsonl keeps a line a result, written when it is there, and a line a stage with whether it
passed. OUTDIR/logs.tar.gz has what the stages printed and the traces; it is renewed after each
stage. Nothing else is written there, and nothing is resumed from before. The exit status is 0 where
every stage passed. Nothing is compiled where `bench/gpu.sh --prepare` was run before, on any
machine with nvcc and g++, and what it made is there. With --emulated our kernels run on the CPU, at
small sizes, and no time means anything.
"""

import argparse
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from math import inf
from pathlib import Path

from bench import record
from bench.gpu import report
from bench.gpu.stages import STAGES
from bench.gpu.target import Target
from bench.gpu.worker import Runner, serve

BUDGET = 530.0  # seconds of all stages together
PREPARED = record.ROOT / "build" / "gpu"


def keep(files: Path, out: Path) -> None:
    """Everything in `files` as one archive in `out`, whole at any moment."""
    part = out / "logs.tar.gz.part"
    with tarfile.open(part, "w:gz", compresslevel=1) as archive:
        archive.add(files, "logs")
    os.replace(part, out / "logs.tar.gz")


def _stages(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in STAGES:
            raise argparse.ArgumentTypeError(f"no stage {name!r}; there are {', '.join(STAGES)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/gpu.sh", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", metavar="OUTDIR")
    parser.add_argument(
        "--stages", type=_stages, default=list(STAGES), metavar="A,B",
        help=f"only these, in this order; there are\n{', '.join(STAGES)}",
    )  # fmt: skip
    parser.add_argument(
        "--budget", type=float, metavar="SECONDS",
        help=f"of all stages together: {BUDGET:.0f}; a dry run has no limit",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="fewer sizes")
    parser.add_argument("--emulated", action="store_true", help="a dry run, without a GPU")
    parser.add_argument(
        "--prepare", action="store_true",
        help="instead: builds what else would be compiled on the machine with the GPU",
    )  # fmt: skip
    parser.add_argument(
        "--arch", default="90a", metavar="NUMBER", help="what --prepare builds for: 90a"
    )
    parser.add_argument(
        "--prepared", type=Path, default=PREPARED, metavar="FOLDER", help="of it: build/gpu"
    )
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str]) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    prepared = options.prepared.resolve()
    if options.prepare:
        from bench.gpu import programs, wrappers

        programs.prepare(prepared, options.arch)
        wrappers.prepare(prepared)
        return 0
    if options.out is None:
        parser.error("the following arguments are required: OUTDIR")
    out = options.out.resolve()

    def target_in(folder: Path) -> Target:
        files, scratch = folder / "logs", folder / "scratch"
        return Target(out, options.quick, options.emulated, files, scratch, prepared)

    if options.worker is not None:
        serve(target_in(options.folder), options.worker)
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as name:
        target = target_in(Path(name))
        for folder in (target.out, target.files, target.scratch):
            folder.mkdir(parents=True, exist_ok=True)
        passed = _run(target, options.stages, options.budget)
    print()
    print(report.summary(target.rows))
    return 0 if passed else 1


def _run(target: Target, stages: Sequence[str], budget: float | None) -> bool:
    target.rows.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "bench.gpu",
        str(target.out),
        "--prepared",
        str(target.prepared),
    ]
    command += ["--folder", str(target.files.parent)]
    command += ["--quick"] * target.quick + ["--emulated"] * target.emulated
    if budget is None:
        budget = inf if target.emulated else BUDGET
    passed = []
    with Runner(target, command, time.monotonic() + budget) as runner:
        for name in stages:
            passed.append(runner.run(name, inf if target.emulated else STAGES[name].seconds))
            print(report.of_stage(record.last(target.rows)), flush=True)
            keep(target.files, target.out)
    return all(passed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
