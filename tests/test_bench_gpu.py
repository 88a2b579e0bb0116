# SPDX-License-Identifier: Apache-2.0
"""The stages of bench/gpu.sh that check and measure: what is kept, and what a failure costs.

The stages that call our operators are called here with the CPU's own, which are quicker.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import record
from bench.gpu import cudnn, device, grid, library, parity, peers, profile, report, sanitize
from bench.gpu.rows import DRY_LANES, DRY_ROWS, FIRST, GROUPS, LT_LSTM, OURS, is_first
from bench.gpu.target import Target
from bench.groups import TORCH
from dry_target import lines


def test_the_library_says_what_it_found(target: Target) -> None:
    library.library(target)
    (line,) = lines(target)
    assert line["libraries"]["_ops_cpu"] is None and line["device"]["capability"] == 90


def test_a_library_that_is_missing_is_named(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = library.ltlstm_kernels.Library(None, "not built")
    monkeypatch.setattr(library.ltlstm_kernels, "libraries", lambda: {"_ops_cpu": gone})
    with pytest.raises(RuntimeError, match="library _ops_cpu is missing: not built; build it"):
        library.library(target)


def test_parity_by_the_rule_of_the_tests(target: Target) -> None:
    parity.parity(target)
    found = lines(target)
    assert len(found) == 6 and all(line["failed"] == {} for line in found)
    assert sum(line["combinations"] for line in found) >= 19


def test_parity_names_what_differs(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    right = parity.ltlstm.LSTM

    class Wrong(right):
        def forward(self, *arguments: Any, **options: Any) -> Any:
            output, hx = super().forward(*arguments, **options)
            return (output if self.bias else louder(output)), hx

    def louder(output: Any) -> Any:
        return output * 1.5 if isinstance(output, torch.Tensor) else output

    monkeypatch.setattr(parity.ltlstm, "LSTM", Wrong)
    with pytest.raises(RuntimeError, match=r"^6 of 6 failed; .*: \d of \d; .*: result 0: error"):
        parity.parity(target)
    for line in lines(target):
        assert line["failed"] and not any("bias" in name for name in line["failed"])


def test_every_regime_is_checked(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = parity.check

    def check(*arguments: Any) -> Any:
        asked.append(parity.os.environ["LTLSTM_CUDA_REGIME"])
        return real(*arguments)

    monkeypatch.setattr(parity, "check", check)
    parity.regimes(target)
    found = {line["name"]: line for line in lines(target)}
    assert set(asked) == {"block", "cluster", "grid", "streamed"} and len(asked) == len(found)
    for blocks in (8, 16):
        assert f"cluster of {blocks}, packed" in found
        assert f"{blocks} blocks" in found[f"cluster of {blocks}"]["plan"]
    assert all(line["errors"].keys() == {"ours", "torch"} for line in found.values())


class Restless(torch.nn.Module):
    """Other bits at every call, as a race gives them."""

    def __init__(self, inner: Any, *_: Any, **__: Any) -> None:
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, *arguments: Any) -> Any:
        output, hx = self.inner(*arguments)
        self.calls += 1
        return output + (1e-9 if self.calls % 2 else 0), hx


def test_other_bits_in_a_second_run_fail(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    made = parity.ltlstm.LSTM
    monkeypatch.setattr(
        parity.ltlstm, "LSTM", lambda *given, **options: Restless(made(*given, **options))
    )
    monkeypatch.setattr(
        Restless, "load_state_dict", lambda self, state: self.inner.load_state_dict(state)
    )
    options = dict.fromkeys(parity.NAMES, False)
    with pytest.raises(AssertionError, match="result 0 has other bits in the second of two calls"):
        parity.check(target, torch.float32, parity.Sizes(3, 2, 4, 5), options)
    with pytest.raises(AssertionError, match="result 1 has other bits in the second of two runs"):
        grid._same(grid.Call(lambda: (torch.ones(2), torch.rand(2))))


@pytest.mark.parametrize("row", [*DRY_ROWS, *DRY_LANES], ids=lambda row: f"{row.name} {row.mode}")
def test_a_row_is_checked_measured_and_kept(target: Target, row: Any) -> None:
    profiled = not row.case.packed and row.module == "LSTM"
    found = grid.measure(row, target, 0.01, profiled)
    assert found["failed"] == {}, found["failed"]
    assert {OURS, TORCH} <= found["seconds"].keys()
    assert len(found["seconds"][OURS]["samples"]) >= 5
    assert 0 < found["bound"] < 1e-3 and found["errors"][OURS] >= 0
    assert all(t["ratio"] > 0 for t in found["targets"])
    assert found["computes"] == {TORCH: found["dtype"]}
    if profiled:
        passes = 1 if row.mode == "forward" else 2
        assert len(found["recurrence"]) == passes and len(found["kernels"]) > 1
    target.write({"group": "gpu-dry", "time": "", "commit": "", "torch": "", **found})
    text = report.summary(target.rows)
    assert row.name in text and "us/step" in text and "a dry run" in text


def test_a_contender_that_fails_stands_in_the_row(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(target, emulated=False)
    monkeypatch.setattr(Target, "device", "cpu")
    monkeypatch.setattr(Target, "need_device", lambda self: None)
    monkeypatch.setattr(Target, "plan_facts", lambda self: device.dry_facts())
    found = grid.measure(DRY_ROWS[0], broken, 0.01)
    assert "backend 'cuda' cannot run" in found["failed"][OURS]
    assert found["errors"] == {} and TORCH in found["seconds"]
    monkeypatch.setattr(grid, "rows_of", lambda *_: [("gpu-dry", row) for row in DRY_ROWS[:2]])
    with pytest.raises(RuntimeError, match="2 of 2 failed; LSTM T3N2D16H16L1 bfloat16 forward: "):
        grid.grid(broken)
    assert len(lines(broken)) == 2


def test_a_plan_that_fails_costs_its_row_nothing(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_plan(*_: Any) -> Any:
        raise RuntimeError("no plan")

    monkeypatch.setattr(grid.plan, "make_plan", no_plan)
    found = grid.measure(DRY_ROWS[0], target, 0.01)
    assert found["failed"] == {"plan": "RuntimeError: no plan"} and found["bound"] is None
    assert OURS in found["seconds"] and "error" not in found
    target.write({"group": "gpu-dry", "time": "", "commit": "", "torch": "", **found})
    assert "us/step" in report.summary(target.rows)


def test_lanes_are_measured_and_traced(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "rows_of", lambda *_: [])
    grid.lt_lstm(target)
    on, off = lines(target)
    assert (on["name"], off["name"]) == ("lanes on", "lanes off")
    assert json.loads((target.files / on["file"]).read_text())["traceEvents"]


def test_overlap_of_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Profile:
        def export_chrome_trace(self, path: str) -> None:
            spans = [(0, 10), (5, 10), (20, 5)]
            events = [{"cat": "kernel", "ts": ts, "dur": dur} for ts, dur in spans]
            Path(path).write_text(json.dumps({"traceEvents": [*events, {"cat": "cpu_op"}]}))

    monkeypatch.setattr(profile, "profiled", lambda *_: Profile())
    found = profile.overlap(lambda: None, tmp_path / "trace.json", "cpu")
    assert found == {"span_us": 25, "kernels_us": 25, "both_us": 5}


def test_a_step_is_told_from_a_launch() -> None:
    def kernels(us: float) -> list[profile.Kernel]:
        return [profile.Kernel("time_lstm_kernel<Forward>", 1, us), profile.Kernel("gemm", 1, 9.0)]

    (own,) = profile.recurrence(kernels(596.0), kernels(148.0), (512, 64), "cuda")
    assert own["step_us"] == 1.0 and own["start_us"] == 84.0


def test_what_nn_lstm_computes_in_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.peer_computes(torch.float32, "cuda") == "tf32"
    with device.without_tf32():
        assert device.peer_computes(torch.float32, "cuda") == "float32"
    assert device.peer_computes(torch.float32, "cuda") == "tf32"
    assert device.peer_computes(torch.bfloat16, "cuda") == "bfloat16"
    assert device.peer_computes(torch.float32, "cpu") == "float32"


def test_graphs_cudnn_and_the_watched_program_run_dry(target: Target) -> None:
    grid.graphs(target)
    cudnn.cudnn(target)
    sanitize.initcheck(target)
    *found, last = lines(target)
    assert [line["group"] for line in found] == ["gpu-graphs"] + ["cudnn"] * 4
    assert last["tool"] == "initcheck" and found[-1]["kernels"]["training"]


def test_rows_of_a_gpu_have_tables_of_their_own(target: Target, tmp_path: Path) -> None:
    from bench import report as tables

    found = grid.measure(DRY_ROWS[0], target, 0.01)
    facts = record.facts() | {"processor": "a GPU", "driver": "1", "cuda": "2", "cudnn": "3"}
    group = next(iter(GROUPS))
    record.append(tmp_path / "gpu.jsonl", {**facts, "group": group, **found})
    record.append(tmp_path / "gpu.jsonl", {**facts, "stage": "grid"})
    record.append(tmp_path / "cpu.jsonl", {**facts, "stage": "none"})
    assert record.kept(tmp_path, gpu=False) == []
    (row,) = record.kept(tmp_path, gpu=True)
    text = "\n".join(table.markdown() for table in tables.tables([row]))
    assert "cuda us/step" in text and "1x nn.LSTM" in text
    assert "cuDNN 3" in tables.heading([row])
    without = {**row, "bound": None}  # where no plan was made
    assert "cuda us/step" in "\n".join(t.markdown() for t in tables.tables([without]))


def test_the_rows_cover_what_is_claimed() -> None:
    rows = [row for group in GROUPS.values() for row in group.rows]
    assert {row.mode for row in rows} == {"forward", "training"}
    assert {row.module for row in rows} == {"LSTM", "LTLSTM"}
    assert {row.dtype for row in rows} == {torch.bfloat16, torch.float16, torch.float32}
    assert any(row.case.packed for row in rows) and any(row.case.L > 1 for row in rows)
    assert 10 <= sum(row.quick for row in rows) < len(rows) / 2


def test_each_row_is_measured_once_and_twelve_come_first(target: Target) -> None:
    every = replace(target, quick=False, emulated=False)
    first = grid.rows_of(every, is_first, [])
    assert len(first) == 12 == 2 * len(FIRST)
    assert {group for group, _ in first} == {"gpu-forward", "gpu-training"}
    stages = [first, grid.rows_of(every, LT_LSTM.__contains__, [])]
    stages.append(grid.rows_of(every, lambda row: not (is_first(row) or row in LT_LSTM), []))
    measured = [pair for stage in stages for pair in stage]
    assert len(measured) == sum(len(group.rows) for group in GROUPS.values())
    assert [row.quick for _, row in stages[2]] == sorted(
        (row.quick for _, row in stages[2]), reverse=True
    )
    assert peers.graphed(grid.Call(lambda: ()), "cpu")() == ()
