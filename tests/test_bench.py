# SPDX-License-Identifier: Apache-2.0
"""The timer and what the benchmarks write; nothing here depends on how fast anything is."""

import json
import sys

import pytest
import torch

import ltlstm
from bench import __main__ as command
from bench import time_lstm, timing
from tests.cases import Case


class FakeClock:
    """A clock that only the calls move."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def call(self, *costs: float):
        """A call that takes these times in turn, over and over."""
        count = 0

        def run() -> None:
            nonlocal count
            self.now += costs[count % len(costs)]
            count += 1

        return run


def test_calls_take_turns_and_every_sample_is_kept():
    clock, order = FakeClock(), []
    calls = {name: lambda name=name: order.append(name) for name in ("ours", "peer")}
    costs = {"ours": clock.call(1.0, 2.0), "peer": clock.call(3.0)}
    both = {name: lambda name=name: (calls[name](), costs[name]()) for name in calls}
    timings = timing.measure(both, "peer", seconds=0.0, clock=clock)
    assert timings is not None
    rounds = len(timings["ours"].samples)
    assert rounds == len(timings["peer"].samples) == timing.MIN_ROUNDS
    assert order[4:8] == ["ours", "peer", "peer", "ours"]
    assert sorted(set(timings["ours"].samples)) == [1.0, 2.0]
    assert timings["ours"].minimum == 1.0 and timings["peer"].median == 3.0


def test_a_case_is_timed_for_about_the_seconds_asked():
    clock = FakeClock()
    calls = {"ours": clock.call(0.01), "peer": clock.call(0.03)}
    timings = timing.measure(calls, "peer", seconds=1.0, clock=clock)
    assert timings is not None and len(timings["peer"].samples) == 25


def test_a_disturbed_peer_is_measured_again():
    clock = FakeClock()
    # 2 calls to warm up and 7 samples an attempt: only the second attempt is steady.
    disturbed = [2.0, 2.0, 1.0, *[2.0] * (timing.MIN_ROUNDS - 1)]
    steady = [1.0] * (timing.MIN_ROUNDS + 2)
    calls = {"ours": clock.call(1.0), "peer": clock.call(*disturbed, *steady)}
    timings = timing.measure(calls, "peer", seconds=0.0, clock=clock)
    assert timings is not None and timings["peer"].samples == [1.0] * timing.MIN_ROUNDS


def test_a_peer_that_is_never_steady_is_not_reported():
    clock = FakeClock()
    calls = {"ours": clock.call(1.0), "peer": clock.call(1.0, 2.0, 2.0, 2.0)}
    assert timing.measure(calls, "peer", seconds=0.0, clock=clock) is None


def bench(monkeypatch, tmp_path, *arguments: str) -> list[dict]:
    threads = torch.get_num_threads()
    small = ["--seconds", "0.01", "--threads", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["bench", *small, *arguments])
    monkeypatch.setattr(time_lstm, "CASES", [Case(T=5, N=2, D=3, H=4), Case(T=6, N=1, D=3, H=4)])
    # Whether the machine is quiet is not what is tested.
    monkeypatch.setattr(timing, "STEADY", float("inf"))
    try:
        command.main()
    finally:
        torch.set_num_threads(threads)
    path = tmp_path / "time_lstm.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_each_case_is_a_printed_line_and_a_json_line(monkeypatch, tmp_path, capsys):
    rows = bench(monkeypatch, tmp_path, "time_lstm")
    assert [(row["case"]["T"], row["mode"]) for row in rows] == [
        (steps, mode) for steps in (5, 6) for mode in ("forward", "forward+backward")
    ]
    for row in rows:
        assert row["backend"] == "cpu" and row["threads"] == 1
        assert row["torch"] == torch.__version__ and row["commit"] and row["processor"]
        assert row["ours_minimum"] == min(row["ours_samples"])
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(rows)
    assert len(bench(monkeypatch, tmp_path, "--only", "T5")) == len(rows) + 2  # appended


def test_a_wrong_result_is_not_timed(monkeypatch, tmp_path):
    forward = time_lstm.MODES["forward"]

    def ours_is_off(module, input):
        found = forward(module, input)["output"]
        return {"output": found + 0.1 if isinstance(module, ltlstm.LSTM) else found}

    monkeypatch.setitem(time_lstm.MODES, "forward", ours_is_off)
    with pytest.raises(AssertionError, match="output: error"):
        bench(monkeypatch, tmp_path)
    assert not (tmp_path / "time_lstm.jsonl").exists()


def test_an_unknown_bench_is_refused(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        bench(monkeypatch, tmp_path, "nonesuch")
    assert "no benchmark named nonesuch" in capsys.readouterr().err
