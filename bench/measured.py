# SPDX-License-Identifier: Apache-2.0
"""`python -m bench table`: writes, from the results, what `auto` takes where.

The tables stand in ltlstm_kernels/measured.py. On the CPU each size at which nn.LSTM was faster
becomes a box, on a GPU each at which our kernels were. A box reaches half way (in ratio) to the
next sizes measured; past the last of them only that of a CPU.
"""

import argparse
import math
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from bench import record
from bench.groups import CPU, TORCH
from ltlstm import files
from ltlstm_kernels.measured import Box, Sizes, Span

FILE = record.ROOT / "ltlstm_kernels" / "measured.py"
# Slower than this share over aten's time: less is noise, and our kernel does more than aten.
MARGIN = 0.05
_NO_END = 2**62


def _span(value: int, measured: Collection[int], gpu: bool, single_apart: bool = False) -> Span:
    """The box around a value on one axis; `single_apart`: 1 is a path of its own."""
    below = max((v for v in measured if v < value), default=None)
    above = min((v for v in measured if v > value), default=None)
    first, last = (value, value) if gpu else (1, _NO_END)
    low = first if below is None else math.isqrt(below * value) + 1
    high = last if above is None else math.isqrt(value * above)
    if single_apart:
        low, high = (1, 1) if value == 1 else (max(low, 2), high)
    return low, high


def _comparable(row: dict[str, Any], gpu: bool) -> bool:
    case = row["case"]
    plain = not (case["packed"] or case["bidirectional"] or case["P"])
    # With another input size the product is another: the boxes know only H.
    square = case["D"] == case["H"]
    kind = row["module"] == "LSTM" and row["dtype"] == ("bfloat16" if gpu else "float32")
    ours = row.get("ours", CPU)
    return plain and square and kind and {TORCH, ours} <= row["seconds"].keys()


def boxes(rows: Sequence[dict[str, Any]], gpu: bool) -> list[Box]:
    """Judged at the most threads measured, by medians and minima both."""
    rows = [row for row in rows if _comparable(row, gpu)]
    most = max((row["threads"] for row in rows), default=0)
    faster: dict[Sizes, bool] = {}
    for row in rows:
        if row["threads"] == most:
            c, seconds = row["case"], row["seconds"]
            sizes = Sizes(c["T"], c["N"], c["H"], c["L"], row["mode"] == "training")
            ours, aten = seconds[row.get("ours", CPU)], seconds[TORCH]
            slow, fast = (aten, ours) if gpu else (ours, aten)
            faster[sizes] = all(
                slow[which] > (1 + MARGIN) * fast[which] for which in ("median", "minimum")
            )
    found = []
    for sizes in sorted(size for size, wins in faster.items() if wins):
        same = [s for s in faster if s.gradients == sizes.gradients]
        beside = [s for s in same if (s.N > 1) == (sizes.N > 1)]  # these have T of their own
        found.append(
            Box(
                "lstm",
                T=_span(sizes.T, {s.T for s in beside}, gpu, single_apart=True),
                N=_span(sizes.N, {s.N for s in same}, gpu, single_apart=True),
                H=_span(sizes.H, {s.H for s in beside}, gpu),
                L=_span(sizes.L, {s.L for s in same}, gpu),
                gradients=sizes.gradients,
            )
        )
    return found


def source(name: str, found: Sequence[Box], text: str) -> str:
    """The file's text with this table of it."""

    def span(s: Span) -> str:
        return f"({s[0]}, {'2**62' if s[1] == _NO_END else s[1]})"

    lines = [
        f"    Box({box.op!r}, {', '.join(span(s) for s in box[1:5])}, {box.gradients}),".replace(
            "'", '"'
        )
        for box in found
    ]
    body = "".join(f"{line}\n" for line in lines)
    start = f"{name}: tuple[Box, ...] = ("
    table = f"{start}{chr(10)}{body})" if body else f"{start})"
    replaced, count = re.subn(
        rf"^{re.escape(start)}.*?\)$", lambda _: table, text, flags=re.DOTALL | re.MULTILINE
    )
    if count != 1:
        raise ValueError(f"measured.py: must hold one table {name}, got another form")
    return replaced


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench table", description=__doc__)
    parser.add_argument("--results", type=Path, default=record.RESULTS, metavar="FOLDER")
    parser.add_argument("--file", type=Path, default=FILE, help="default: the package's")
    options = parser.parse_args(arguments)
    text = FILE.read_text()
    for gpu, name in ((False, "ATEN_FASTER"), (True, "CUDA_FASTER")):
        rows = record.kept(options.results, gpu)
        if not (rows or gpu):
            parser.error(f"no results in {options.results}: run python -m bench first")
        found = boxes(rows, gpu)
        text = source(name, found, text)
        print(f"{name}: {len(found)} boxes from {len(rows)} rows")
    files.write_atomically(options.file, text.encode())
    print(f"wrote {options.file}")
