# SPDX-License-Identifier: Apache-2.0
"""`python -m bench trace` on a tiny case, what it keeps, and the plot that is made of it."""

import json
import sys

import pytest

from bench import __main__ as command
from bench import record, timing, trace
from tests.cases import Case


def span(lane: str, layer: int, start: int, end: int) -> dict:
    return {"lane": lane, "layer": layer, "start": start, "end": end}


def test_overlap_is_what_the_other_lane_covers():
    spans = [span("time", 0, 0, 4000), span("time", 1, 4000, 8000), span("layer", 0, 4000, 5000)]
    spans.append(span("layer", 1, 8000, 10000))
    line = {"mode": "forward", "lanes": True, "spans": spans}
    assert trace.title(line).startswith("forward, lanes side by side: 0.01 ms")
    assert trace.title(line).endswith("at once for 10% of it")
    table = trace.table(line)
    assert [row[-1] for row in table.rows] == ["0%", "25%", "100%", "0%"]
    assert table.rows[1] == ["time", "1", "4.0", "8.0", "25%"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Tiny, short, and on a machine that is called quiet."""
    monkeypatch.setattr(trace, "CASE", Case(T=3, N=1, D=4, H=4, L=2))
    monkeypatch.setattr(trace, "PASSES", 3)
    monkeypatch.setattr(timing, "STEADY", float("inf"))


def test_the_command_keeps_what_it_prints(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "rich.console", None)  # it wraps titles
    command.main(["trace", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / trace.FILE).read_text().splitlines()]
    assert [(line["lanes"], line["mode"]) for line in lines] == [
        (lanes, mode) for lanes in (False, True) for mode in ("forward", "backward")
    ]
    for line in lines:
        assert record.facts().keys() < line.keys() and line["problem"]["L"] == 2
        assert len(line["spans"]) == 4 and line["spans"][0]["start"] == 0
        assert line["lengths"] == sorted(line["lengths"]) and len(line["lengths"]) == 3
        assert max(each["end"] for each in line["spans"]) == line["lengths"][1]
        assert trace.title(line) in printed
    assert trace.kept(tmp_path) == lines
    assert record.kept(tmp_path, gpu=False) == []  # no rows of the benchmarks


def test_the_newest_trace_counts(tmp_path):
    for length in (1000, 2000):
        line = {"mode": "forward", "lanes": False, "spans": [span("time", 0, 0, length)]}
        record.append(tmp_path / trace.FILE, line)
    assert trace.kept(tmp_path) == [line]


def test_a_trace_of_a_busy_machine_is_not_kept(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(timing, "STEADY", 0.0)
    command.main(["trace", "--out", str(tmp_path)])
    assert "not reported: the machine was busy" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_report_draws_the_lanes(tmp_path):
    pytest.importorskip("matplotlib")
    command.main(["trace", "--out", str(tmp_path)])
    command.main(["report", "--results", str(tmp_path)])
    assert (tmp_path / "lanes.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "report.md").read_text()
    assert text.count("\n**") == 4 and text.count("| layer | 1 |") == 4
