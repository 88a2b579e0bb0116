# SPDX-License-Identifier: Apache-2.0
"""`python -m bench table`: writes, from the results, where `auto` shall leave a call to aten.

The table stands in ltlstm_kernels/measured.py. Each size at which nn.LSTM was faster becomes a box
that reaches half way (in ratio) to the next sizes measured, and past the last of them.
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
_TABLE = re.compile(r"^ATEN_FASTER: tuple\[Box, \.\.\.\] = \(.*?\)$", re.DOTALL | re.MULTILINE)

# Slower than this share over aten's time: less is noise, and our kernel does more than aten.
MARGIN = 0.05
_NO_END = 2**62


def _span(value: int, measured: Collection[int], single_apart: bool = False) -> Span:
    """The box around a value on one axis; `single_apart`: 1 is a path of its own."""
    below = max((v for v in measured if v < value), default=None)
    above = min((v for v in measured if v > value), default=None)
    low = 1 if below is None else math.isqrt(below * value) + 1
    high = _NO_END if above is None else math.isqrt(value * above)
    if single_apart:
        low, high = (1, 1) if value == 1 else (max(low, 2), high)
    return low, high


def _comparable(row: dict[str, Any]) -> bool:
    case = row["case"]
    plain = not (case["packed"] or case["bidirectional"] or case["P"])
    # With another input size the product is another: the boxes know only H.
    square = case["D"] == case["H"]
    kind = row["module"] == "LSTM" and row["dtype"] == "float32"
    return plain and square and kind and TORCH in row["seconds"]


def boxes(rows: Sequence[dict[str, Any]]) -> list[Box]:
    """Judged at the most threads measured, by medians and minima both."""
    rows = [row for row in rows if _comparable(row)]
    most = max((row["threads"] for row in rows), default=0)
    faster: dict[Sizes, bool] = {}
    for row in rows:
        if row["threads"] == most:
            c, seconds = row["case"], row["seconds"]
            sizes = Sizes(c["T"], c["N"], c["H"], c["L"], row["mode"] == "training")
            faster[sizes] = all(
                seconds[CPU][which] > (1 + MARGIN) * seconds[TORCH][which]
                for which in ("median", "minimum")
            )
    found = []
    for sizes in sorted(size for size, aten in faster.items() if aten):
        same = [s for s in faster if s.gradients == sizes.gradients]
        beside = [s for s in same if (s.N > 1) == (sizes.N > 1)]  # these have T of their own
        found.append(
            Box(
                "lstm",
                T=_span(sizes.T, {s.T for s in beside}, single_apart=True),
                N=_span(sizes.N, {s.N for s in same}, single_apart=True),
                H=_span(sizes.H, {s.H for s in beside}),
                L=_span(sizes.L, {s.L for s in same}),
                gradients=sizes.gradients,
            )
        )
    return found


def source(found: Sequence[Box], text: str) -> str:
    """The file's text with this table in it."""

    def span(s: Span) -> str:
        return f"({s[0]}, {'2**62' if s[1] == _NO_END else s[1]})"

    lines = [
        f"    Box({box.op!r}, {', '.join(span(s) for s in box[1:5])}, {box.gradients}),".replace(
            "'", '"'
        )
        for box in found
    ]
    body = "".join(f"{line}\n" for line in lines)
    table = f"ATEN_FASTER: tuple[Box, ...] = ({chr(10)}{body})" if body else _EMPTY
    replaced, count = _TABLE.subn(lambda _: table, text)
    if count != 1:
        raise ValueError("measured.py: must hold one table ATEN_FASTER, got another form")
    return replaced


_EMPTY = "ATEN_FASTER: tuple[Box, ...] = ()"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench table", description=__doc__)
    parser.add_argument("--results", type=Path, default=record.RESULTS, metavar="FOLDER")
    parser.add_argument("--file", type=Path, default=FILE, help="default: the package's")
    options = parser.parse_args(arguments)
    rows = record.kept(options.results, gpu=False)
    if not rows:
        parser.error(f"no results in {options.results}: run python -m bench first")
    found = boxes(rows)
    files.write_atomically(options.file, source(found, FILE.read_text()).encode())
    print(f"wrote {options.file}: aten is faster in {len(found)} boxes")
