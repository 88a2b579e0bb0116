# SPDX-License-Identifier: Apache-2.0
"""The timer and what the benchmarks check and write; nothing here depends on how fast it is."""

import json
import os
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from bench import __main__ as command
from bench import contenders, groups, run, timing
from bench.groups import AUTO, CPU, DENSE, GROUPS, MV, TORCH, Group, Row, Target
from bench.timing import Call
from ltlstm_kernels import sparse
from tests.cases import Case

SMALL = Case(T=5, N=2, D=3, H=4)


class FakeClock:
    """A clock that only the calls move."""

    def __init__(self):
        self.now, self.rests = 0.0, 0

    def __call__(self) -> float:
        return self.now

    def rest(self, seconds: float) -> None:
        self.rests += 1

    def call(self, *costs: float, then=None) -> Call:
        """A call that takes these times in turn, over and over."""
        count = 0

        def run() -> None:
            nonlocal count
            self.now += costs[count % len(costs)]
            count += 1
            if then:
                then()

        return Call(run)

    def measure(self, calls, seconds: float = 0.0):
        return timing.measure(calls, ["peer"], seconds, clock=self, rest=self.rest)


def test_calls_take_turns_and_every_sample_is_kept():
    clock, order = FakeClock(), []
    costs = {"ours": (1.0, 2.0), "peer": (3.0,)}
    calls = {
        name: clock.call(*cost, then=lambda name=name: order.append(name))
        for name, cost in costs.items()
    }
    timings = clock.measure(calls)
    assert timings is not None
    rounds = len(timings["ours"].samples)
    assert rounds == len(timings["peer"].samples) == timing.MIN_TURNS
    assert order[4:8] == ["ours", "peer", "peer", "ours"]
    assert clock.rests == 2 * rounds
    assert sorted(set(timings["ours"].samples)) == [1.0, 2.0]
    assert timings["ours"].minimum == 1.0 and timings["peer"].median == 3.0


def test_a_short_call_is_warmed_and_sampled_in_bursts():
    clock = FakeClock()
    # Warm: as long as a rest took its data away, the first call of a turn is the slow one.
    cold = [2e-3, *[1e-3] * timing.BURST]
    calls = {"peer": clock.call(1e-3, 1e-3, *cold * timing.MAX_TURNS)}
    timings = clock.measure(calls, seconds=100.0)
    assert timings is not None
    assert timings["peer"].samples == pytest.approx([1e-3] * timing.BURST * timing.MAX_TURNS)


def test_a_burst_ends_after_its_seconds():
    clock = FakeClock()
    calls = {"peer": clock.call(timing.BURST_SECONDS * 0.6)}
    timings = clock.measure(calls)
    assert timings is not None and len(timings["peer"].samples) == 2 * timing.MIN_TURNS


def test_what_must_hold_around_a_call_is_not_timed():
    clock, inside = FakeClock(), []

    @contextmanager
    def around():
        clock.now += 5.0
        inside.append(True)
        yield
        inside.pop()

    calls = {"peer": clock.call(1.0, then=lambda: inside[0])._replace(around=around)}
    timings = clock.measure(calls)
    assert timings is not None and set(timings["peer"].samples) == {1.0} and not inside


def test_a_disturbed_peer_is_measured_again():
    clock = FakeClock()
    # 2 calls to warm up and 5 samples an attempt: only the second attempt is steady.
    disturbed = [2.0, 2.0, 1.0, *[2.0] * (timing.MIN_TURNS - 1)]
    steady = [1.0] * (timing.MIN_TURNS + 2)
    calls = {"ours": clock.call(1.0), "peer": clock.call(*disturbed, *steady)}
    timings = clock.measure(calls)
    assert timings is not None and timings["peer"].samples == [1.0] * timing.MIN_TURNS


def test_a_peer_that_is_never_steady_is_not_reported():
    clock = FakeClock()
    calls = {"ours": clock.call(1.0), "peer": clock.call(1.0, 2.0, 2.0, 2.0)}
    assert clock.measure(calls) is None


@pytest.mark.parametrize("group", GROUPS)
def test_the_rows_of_a_group_resolve(group):
    rows = GROUPS[group].rows
    assert len({(row.name, row.mode) for row in rows}) == len(rows) > 0
    for row in rows:
        assert {target.peer for target in row.targets} <= {None, *row.peers}
        if row.case.packed:
            mean = contenders.lengths(row.case).double().mean().item() / row.case.T
            assert mean == pytest.approx(groups.MEAN_LENGTH, abs=0.01)


def test_a_target_is_a_limit_in_seconds():
    assert Target("", TORCH, 0.5).limit({TORCH: 3.0}) == 1.5
    assert Target("", MV, 1.3, 20e-6).limit({MV: 1e-4}) == pytest.approx(1.5e-4)
    assert Target("", None, plus=2.0).limit({}) == 2.0


# One small row for each way a group measures.
ROWS = [
    Row(SMALL, GROUPS["forward"].rows[0].peers, (Target("2x", TORCH, 0.5),), quick=True),
    Row(Case(T=1, N=1, D=3, H=4), GROUPS["streaming"].rows[0].peers),
    Row(SMALL, GROUPS["steps"].rows[0].peers),
    Row(SMALL, GROUPS["training"].rows[0].peers, mode="training"),
    Row(SMALL, (TORCH,), dtype=torch.bfloat16),
    Row(Case(T=9, N=4, D=3, H=4, packed=True), GROUPS["packed"].rows[0].peers, mode="training"),
    Row(Case(T=5, N=1, D=4, H=4, L=2), GROUPS["lt_lstm"].rows[0].peers, module="LTLSTM"),
    Row(Case(T=5, N=3, D=4, H=4), GROUPS["h_lstm"].rows[0].peers, module="HLSTM"),
    replace(GROUPS["sparse"].rows[1], case=Case(T=5, N=3, D=33, H=40), targets=()),
    *(Row(SMALL, row.peers, row.targets, crowd=row.crowd) for row in GROUPS["crowded"].rows[:2]),
]


@pytest.fixture
def quiet(monkeypatch):
    """Two small groups; whether the machine is quiet, and fast, is not what is tested."""
    monkeypatch.setattr(timing, "STEADY", float("inf"))
    monkeypatch.setattr(timing, "REST", 0.0)
    monkeypatch.setattr("bench.bounds._PROBE_SECONDS", 0.0)
    for name in list(GROUPS):
        monkeypatch.delitem(GROUPS, name)
    monkeypatch.setitem(GROUPS, "all", Group("every kind of row", ROWS))


def lines(folder, *arguments: str) -> list[dict]:
    command.main(["--out", str(folder), "--seconds", "0.001", "--threads", "1", *arguments])
    path = folder / "cpu.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_each_row_is_a_printed_line_and_a_json_line(quiet, tmp_path, capsys):
    before = torch.get_num_threads(), os.sched_getaffinity(0)
    found = lines(tmp_path)
    assert (torch.get_num_threads(), os.sched_getaffinity(0)) == before
    assert [(row["name"], row["mode"]) for row in found] == [(row.name, row.mode) for row in ROWS]
    printed = capsys.readouterr().out
    for row, given in zip(found, ROWS, strict=True):
        assert row["group"] == "all" and row["threads"] == 1 and row["auto"] == "cpu"
        assert row["torch"] == torch.__version__ and row["commit"] and row["processor"]
        # onnxruntime and auto may be missing: not installed, and the same as cpu.
        assert {CPU, *given.peers} - {"onnxruntime"} <= set(row["seconds"])
        for times in row["seconds"].values():
            assert times["minimum"] == pytest.approx(min(times["samples"]), rel=1e-3)
        assert CPU in row["errors"] and row["bound"] > 0
        assert row["name"] in printed
    added = lines(tmp_path, "--quick", "--threads", "2")
    assert added[:-1] == found and added[-1]["name"] == found[0]["name"]
    ours, theirs = (added[-1]["seconds"][name]["median"] for name in (CPU, TORCH))
    assert found[0]["targets"] == []
    assert added[-1]["targets"][0]["ratio"] == pytest.approx(0.5 * theirs / ours)


def test_auto_is_timed_where_it_is_not_our_kernel(quiet, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("ltlstm_kernels.backend.aten_is_faster", lambda op, sizes: True)
    (row,) = lines(tmp_path, "--quick")
    assert row["auto"] == "aten" and AUTO in row["seconds"] and AUTO in row["errors"]
    assert "auto aten" in capsys.readouterr().out


def test_a_wrong_result_is_not_timed(quiet, monkeypatch, tmp_path):
    right = contenders._ours
    monkeypatch.setattr(
        contenders,
        "_ours",
        lambda *given: Call(lambda: (right(*given).run()[0] + 0.1,)),
    )
    with pytest.raises(AssertionError, match="error"):
        lines(tmp_path, "--only", "T5N2D3H4L1 forward")
    assert not (tmp_path / "cpu.jsonl").exists()


def test_a_peer_that_computes_something_else_is_refused(quiet, monkeypatch, tmp_path):
    monkeypatch.setattr(contenders, "_cell", lambda *_: Call(lambda: (torch.full((1, 1, 4), 0.9),)))
    with pytest.raises(AssertionError, match="LSTMCell computes something else"):
        lines(tmp_path, "--only", "T1")


def test_a_row_on_a_busy_machine_is_not_kept(quiet, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(timing, "STEADY", 0.0)
    assert lines(tmp_path, "--only", "bfloat16") == []
    assert "not reported: the machine was busy" in capsys.readouterr().out


def test_targets_are_of_two_threads():
    timings = {CPU: timing.Timing([1.0]), TORCH: timing.Timing([3.0])}
    row = Row(SMALL, (TORCH, MV), (Target("2x", TORCH, 0.5), Target("", MV)))
    assert run._targets(row, 1, timings) == []
    assert [target["ratio"] for target in run._targets(row, 2, timings)] == [1.5, None]


def test_a_name_that_no_row_has_is_refused(quiet, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        lines(tmp_path, "--only", "nothing")
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert "no row of all has 'nothing' in its name" in said.err and not said.out


def test_an_unknown_group_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["nonesuch"])
    assert "no group named nonesuch" in capsys.readouterr().err


def test_the_help_lists_the_groups_and_commands(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in [*GROUPS, *command.COMMANDS])


def test_a_row_with_masks_is_of_the_sparse_operator(monkeypatch):
    row = next(row for row in ROWS if row.pattern)
    count, forward = [], sparse.h_lstm_sparse_forward
    monkeypatch.setattr(
        sparse, "h_lstm_sparse_forward", lambda *a, **o: count.append(1) or forward(*a, **o)
    )
    with torch.no_grad():
        found = contenders.contenders(row, contenders.data(row, row.dtype), threads=1)
        for name, calls in ((CPU, 1), (DENSE, 0)):
            count.clear()
            found[name].call.run()
            assert len(count) == calls, name
