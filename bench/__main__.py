# SPDX-License-Identifier: Apache-2.0
"""`python -m bench [BENCH ...]`: runs benchmarks, from the repository's root."""

import argparse
from pathlib import Path

import torch

from bench import record, time_lstm

BENCHES = {"time_lstm": time_lstm.run}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Checks and times our modules beside torch's; prints a line a case and appends "
        "it, with every sample, to a JSON lines file.",
    )
    parser.add_argument(
        "bench", nargs="*", default=[], help=f"which to run, of: {', '.join(BENCHES)} (default all)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name holds TEXT")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=[torch.get_num_threads()],
        help="CPU thread counts, each run over all cases (default torch's own)",
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="about how long to time a case")
    parser.add_argument("--out", type=Path, default=record.RESULTS, help="folder of the results")
    options = parser.parse_args()
    unknown = set(options.bench) - set(BENCHES)
    if unknown:
        parser.error(f"no benchmark named {', '.join(sorted(unknown))}")
    for name in options.bench or BENCHES:
        BENCHES[name](options)


if __name__ == "__main__":
    main()
