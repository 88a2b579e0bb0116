# SPDX-License-Identifier: Apache-2.0
"""`python -m bench trace`: when each layer of LTLSTM's two lanes ran on the CPU.

Traces one forward and one backward, the lanes back to back and side by side: of many passes the one
of median length, where the machine was not busy with something else. Prints when each layer ran,
and appends it to trace.jsonl, which `python -m bench report` draws.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import ltlstm
from bench import record, tables, timing
from bench.contenders import Data, data, module
from bench.groups import CPU, Row
from ltlstm_kernels.trace import Span, cpu_trace
from tests.cases import Case

CASE = Case(T=200, N=1, D=256, H=256, L=4)
WARM, PASSES = 5, 31
MODES = ("forward", "backward")
FILE = "trace.jsonl"
Traced = dict[str, Any]  # a line of that file


def _length(spans: Sequence[Span]) -> int:
    return max(span.end for span in spans) - spans[0].start


def _steady(passes: Sequence[dict[str, list[Span]]]) -> bool:
    by_mode = ([_length(each[mode]) for each in passes] for mode in MODES)
    return all(timing.Timing(lengths).steady for lengths in by_mode)


def _pass(made: ltlstm.LTLSTM, d: Data, d_output: torch.Tensor) -> dict[str, list[Span]]:
    with cpu_trace() as forward:
        output = made(d.padded, d.hx)[0]
    with cpu_trace() as backward:
        output.backward(d_output)
    return dict(zip(MODES, (forward, backward), strict=True))


def measure(lanes: bool) -> Iterator[Traced]:
    """A line for forward and one for backward, times in ns from the start of the first layer on;
    none where the machine was too busy."""
    row = Row(CASE, (), module="LTLSTM")
    d = data(row, torch.float32)
    made = module(ltlstm.LTLSTM, row, d, backend=CPU, lanes=lanes)
    d_output = torch.randn(CASE.T, CASE.N, CASE.out)
    for _ in range(timing.ATTEMPTS):
        passes = [_pass(made, d, d_output) for _ in range(WARM + PASSES)][WARM:]
        if _steady(passes):
            break
    else:
        return
    for mode in MODES:
        all_spans = sorted((each[mode] for each in passes), key=_length)
        spans = all_spans[len(all_spans) // 2]
        first = spans[0].start
        moved = [s._replace(start=s.start - first, end=s.end - first) for s in spans]
        yield {
            "problem": asdict(CASE),
            "threads": torch.get_num_threads(),
            "lanes": lanes,
            "mode": mode,
            "lengths": [_length(each) for each in all_spans],
            "spans": [span._asdict() for span in moved],
        }


def kept(folder: Path) -> list[Traced]:
    """The newest line of each mode and setting; none where nothing was traced."""
    path = folder / FILE
    lines = record.lines(path) if path.exists() else ()
    newest = {(line["mode"], line["lanes"]): line for line in lines}
    return list(newest.values())


def shared(span: dict[str, Any], spans: Sequence[dict[str, Any]]) -> int:
    """For how many ns of a span the other lane ran too."""
    others = [other for other in spans if other["lane"] != span["lane"]]
    overlaps = (min(span["end"], o["end"]) - max(span["start"], o["start"]) for o in others)
    return sum(overlap for overlap in overlaps if overlap > 0)


def title(line: Traced) -> str:
    """Which pass, how long it took, and for how much of that both lanes ran."""
    spans = line["spans"]
    length = max(span["end"] for span in spans)
    both = sum(shared(span, spans) for span in spans) / 2
    setting = "side by side" if line["lanes"] else "back to back"
    return (
        f"{line['mode']}, lanes {setting}: {length / 1e6:.2f} ms, both lanes at once for "
        f"{both / length:.0%} of it"
    )


def table(line: Traced) -> tables.Table:
    body = [
        [span["lane"], str(span["layer"]), f"{span['start'] / 1e3:.1f}", f"{span['end'] / 1e3:.1f}"]
        + [f"{shared(span, line['spans']) / (span['end'] - span['start']):.0%}"]
        for span in line["spans"]
    ]
    return tables.Table(title(line), ["lane", "layer", "start us", "end us", "overlapped"], body)


def heading(lines: Sequence[Traced]) -> str:
    line = lines[-1]
    c = Case(**line["problem"])
    return (
        f"A trace of LTLSTM's lanes, T={c.T} N={c.N} H={c.H} L={c.L}, float32, backend cpu, "
        f"{line['threads']} threads; {line['processor']}; torch {line['torch']}; commit "
        f"{line['commit']}; the pass of median length of {len(line['lengths'])}."
    )


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench trace",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, default=record.RESULTS, metavar="FOLDER", help="where it is kept"
    )
    options = parser.parse_args(arguments)
    facts = record.facts()
    lines = [
        {"group": "trace", **facts, **line} for lanes in (False, True) for line in measure(lanes)
    ]
    if len(lines) < 2 * len(MODES):
        print("not reported: the machine was busy")
        return
    tables.show(heading(lines), [table(line) for line in lines])
    for line in lines:
        record.append(options.out / FILE, line)
    print(f"kept in {options.out / FILE}; `python -m bench report` draws it")
