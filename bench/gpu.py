# SPDX-License-Identifier: Apache-2.0
"""`bench/gpu.sh OUTDIR [--quick] [--emulated]`: all that is to be known from one GPU, in 9 minutes.

Each stage is a process of its own, so that one that crashes, hangs or spoils its CUDA context stops
no other; in a dry run they share a process, and the emulated kernels that are built in it.
OUTDIR/gpu.jsonl keeps a line a result, and a line a stage with whether it passed; what a stage
printed lies beside it. The exit status is 0 where every stage passed. With --emulated our kernels
run on the CPU, at small sizes, and no time means anything.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from bench import gpu_checks, gpu_grid, gpu_hlstm, gpu_hops, gpu_report, record
from bench.gpu_target import Skipped, Target, emulated_kernels

BUDGET = 535.0  # seconds of all stages together
SKIPPED = 77  # exit status of a stage's process


class Stage(NamedTuple):
    run: Callable[[Target], None]
    seconds: float  # it may take
    dry: bool = True  # there is something of it to run without a GPU
    ours: bool = True  # it calls our operators in its own process


STAGES = {
    "library": Stage(gpu_checks.library, 240),
    "suite": Stage(gpu_checks.suite, 150, ours=False),
    "parity": Stage(gpu_checks.parity, 60),
    "wrappers": Stage(gpu_checks.wrappers, 60, ours=False),
    "ceilings": Stage(gpu_grid.ceilings, 30, ours=False),
    "hops": Stage(gpu_hops.hops, 60, ours=False),
    "grid": Stage(gpu_grid.grid, 200),
    "hlstm": Stage(gpu_hlstm.hlstm, 90),
    "graphs": Stage(gpu_grid.graphs, 40, dry=False),
    "trace": Stage(gpu_grid.trace, 40),
    "second": Stage(gpu_checks.second_device, 40),
    "memcheck": Stage(gpu_checks.memcheck, 60, dry=False),
    "racecheck": Stage(gpu_checks.racecheck, 60, dry=False),
    "synccheck": Stage(gpu_checks.synccheck, 60, dry=False),
}


def run_stage(name: str, target: Target, left: float) -> bool:
    """Runs it as a process and keeps a line on how it went."""
    stage = STAGES[name]
    line: dict[str, object] = {"stage": name, "seconds": 0.0, "error": None}
    if target.emulated and not stage.dry:
        target.write({**line, "ok": True, "skipped": "needs a GPU: nothing of it runs emulated"})
        return True
    limit = min(stage.seconds, left)
    start = time.monotonic()
    try:
        if limit <= 1:
            line["error"] = "no time left for it"
        elif target.emulated:
            line["error"] = _dry_error_of(stage, target)
        else:
            line["error"] = _error_of(name, target, limit)
    except Skipped as missing:
        line["skipped"] = str(missing)
    line["seconds"] = round(time.monotonic() - start, 1)
    target.write({**line, "ok": line["error"] is None})
    return line["error"] is None


def _dry_error_of(stage: Stage, target: Target) -> str | None:
    try:
        with emulated_kernels() if stage.ours else nullcontext():
            stage.run(target)
    except Skipped:
        raise
    except Exception as error:  # whatever it is, the other stages still run
        return f"{type(error).__name__}: {error}"
    return None


def _error_of(name: str, target: Target, limit: float) -> str | None:
    flags = ["--quick"] * target.quick
    command = [sys.executable, "-m", "bench.gpu", str(target.out), "--stage", name, *flags]
    log = target.out / f"{name}.log"
    with log.open("w") as file:
        try:
            run = subprocess.run(
                command, cwd=record.ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=limit
            )
        except subprocess.TimeoutExpired:
            return f"took more than {limit:.0f} s"
    if run.returncode == 0:
        return None
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = said[-1] if said else "no output"
    if run.returncode == SKIPPED:
        raise Skipped(last)
    return f"exit status {run.returncode}: {last}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bench/gpu.sh", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUTDIR")
    parser.add_argument("--quick", action="store_true", help="fewer sizes: about 3 minutes")
    parser.add_argument("--emulated", action="store_true", help="a dry run, without a GPU")
    parser.add_argument("--stage", choices=STAGES, help="only this one, in this process")
    options = parser.parse_args(arguments)
    target = Target(options.out.resolve(), options.quick, options.emulated)
    target.out.mkdir(parents=True, exist_ok=True)
    if options.stage:
        try:
            STAGES[options.stage].run(target)
        except Skipped as missing:
            print(missing)
            return SKIPPED
        return 0
    target.rows.unlink(missing_ok=True)  # nothing is resumed from before
    end = time.monotonic() + BUDGET
    passed = [run_stage(name, target, end - time.monotonic()) for name in STAGES]
    print()
    print(gpu_report.summary(target.rows))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
