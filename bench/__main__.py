# SPDX-License-Identifier: Apache-2.0
"""`python -m bench`: runs the benchmarks, from the root; `report` and `table` read them."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from bench import measured, record, report, run, senone, trace
from bench.groups import GROUPS

COMMANDS = {
    "report": report.main,
    "table": measured.main,
    "senone": senone.main,
    "trace": trace.main,
}


def _parser() -> argparse.ArgumentParser:
    groups = "\n".join(
        f"  {name:<15} {group.title} ({len(group.rows)} rows)" for name, group in GROUPS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Checks and times our modules beside their peers: prints a line a row, and "
        "appends\nit, with every sample, to a JSON lines file.",
        epilog=f"groups:\n{groups}\n\ncommands on what was kept (--help tells more):\n"
        "  report          tables, and plots as PNG\n"
        "  table           where auto leaves a call to aten: ltlstm_kernels/measured.py\n"
        "  senone          keeps the results of a run of the senone recipe\n"
        "and one of its own:\n"
        "  trace           when each layer of LTLSTM's lanes ran",
    )
    parser.add_argument("group", nargs="*", help="which to run (default all), or a command")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name holds TEXT")
    parser.add_argument(
        "--quick", action="store_true", help="few rows, most threads, short: under a minute"
    )
    parser.add_argument(
        "--threads", type=int, nargs="+", metavar="COUNT", help="default: 1 and torch's own number"
    )
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="about how long to time a row (default 0.5)"
    )
    parser.add_argument(
        "--out", type=Path, default=record.RESULTS, metavar="FOLDER", help="of the results"
    )
    return parser


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] and arguments[0] in COMMANDS:
        COMMANDS[arguments[0]](arguments[1:])
        return
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = set(options.group) - set(GROUPS)
    if unknown:
        parser.error(f"no group named {', '.join(sorted(unknown))}; --help lists them")
    most = torch.get_num_threads()
    asked = run.Options(
        groups=options.group or list(GROUPS),
        only=options.only,
        quick=options.quick,
        threads=options.threads or sorted({most} if options.quick else {1, most}),
        seconds=options.seconds or (0.1 if options.quick else 0.5),
        path=options.out / "cpu.jsonl",
    )
    if not any(asked.asks_for(row) for name in asked.groups for row in GROUPS[name].rows):
        parser.error(f"no row of {', '.join(asked.groups)} has {asked.only!r} in its name")
    kept = run.run(asked)
    if kept:
        print()
        report.show(kept)


if __name__ == "__main__":
    main(sys.argv[1:])
