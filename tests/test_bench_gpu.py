# SPDX-License-Identifier: Apache-2.0
"""bench/gpu.sh without a GPU: what runs to its end, what is kept, what the exit status tells.

The stages that call our operators are called here with the CPU's own, which are quicker.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import gpu, gpu_checks, gpu_grid, gpu_peers, gpu_report, gpu_target, gpu_wrappers, record
from bench.gpu import Stage
from bench.gpu_rows import DRY_ROWS, GROUPS, OURS
from bench.gpu_target import Target
from bench.groups import TORCH
from dry_target import lines

ROOT = Path(__file__).resolve().parents[1]


def test_the_command_runs_to_its_end_and_tells_what_failed(tmp_path: Path) -> None:
    """The script itself, with stages that need no emulated library, and one that fails."""
    code = (
        "import sys; from bench import gpu; keep = ('wrappers', 'ceilings', 'synccheck'); "
        "gpu.STAGES = {name: gpu.STAGES[name] for name in keep}; "
        "gpu.STAGES['fails'] = gpu.Stage(lambda target: 1 / 0, 60, ours=False); "
        "gpu.BUDGET = 900; "  # a busy machine is no failure
        "sys.exit(gpu.main(sys.argv[1:]))"
    )
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} -c "{code}" "$@"\n')
    python.chmod(0o755)
    run = subprocess.run(
        ["bash", str(ROOT / "bench" / "gpu.sh"), "out", "--emulated"], cwd=tmp_path,
        capture_output=True, text=True, env={**os.environ, "PYTHON": str(python)},
    )  # fmt: skip
    target = Target(tmp_path / "out", quick=False, emulated=True)
    stages = {line["stage"]: line for line in lines(target) if "stage" in line}
    assert list(stages) == ["wrappers", "ceilings", "synccheck", "fails"], run.stderr
    assert stages["wrappers"]["ok"], stages["wrappers"]["error"]
    assert stages["ceilings"]["ok"] and stages["synccheck"]["skipped"]
    assert stages["fails"]["error"] == "ZeroDivisionError: division by zero"
    assert run.returncode == 1
    assert run.stdout.splitlines()[-1] == "failed: fails"
    for name in ("commit", "torch", "processor", "time", "emulated"):
        assert name in stages["ceilings"]


def test_wrong_arguments_are_refused() -> None:
    script = ROOT / "bench" / "gpu.sh"
    assert os.access(script, os.X_OK)
    for arguments in ([], ["--quick"]):
        run = subprocess.run([script, *arguments], capture_output=True, text=True)
        assert run.returncode == 2 and "usage: bench/gpu.sh OUTDIR" in run.stderr


def test_a_stage_that_fails_or_hangs_stops_no_other(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_gpu = replace(target, emulated=False)

    def program(text: str) -> list[str]:
        return [sys.executable, "-c", text]

    programs = {
        "hangs": program("import time; time.sleep(60)"),
        "dies": program("import os; os.abort()"),
        "raises": program("raise RuntimeError('told so')"),
        "works": program("print('fine')"),
    }
    real = subprocess.run

    def run(command: list[str], **options: Any) -> Any:
        return real(programs[command[command.index("--stage") + 1]], **options)

    monkeypatch.setattr(gpu.subprocess, "run", run)
    stages = {name: Stage(lambda _: None, 1.5 if name == "hangs" else 300) for name in programs}
    monkeypatch.setattr(gpu, "STAGES", stages)
    passed = {name: gpu.run_stage(name, on_gpu, 300.0) for name in stages}
    assert passed == {"hangs": False, "dies": False, "raises": False, "works": True}
    assert not gpu.run_stage("works", on_gpu, 0.0)
    errors = [line["error"] for line in lines(target)]
    assert errors[0] == "took more than 2 s"
    assert errors[1].startswith("exit status -6")
    assert errors[2:] == ["exit status 1: RuntimeError: told so", None, "no time left for it"]


def test_without_an_emulated_library_a_dry_run_says_so(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "emulated_library", None)
    assert not gpu.run_stage("trace", target, 100.0)
    (line,) = lines(target)
    assert line["error"].startswith("RuntimeError: there is no emulated library: ")


def test_the_library_is_tried_by_a_call(target: Target) -> None:
    gpu_checks.library(target)


def test_the_stages_fit_the_nine_minutes() -> None:
    assert gpu.BUDGET < 540
    assert all(stage.seconds <= 240 for stage in gpu.STAGES.values())


def test_parity_by_the_rule_of_the_tests(target: Target) -> None:
    gpu_checks.parity(target)
    (line,) = lines(target)
    assert line["failed"] == {} and line["combinations"] >= 19


def test_parity_names_what_differs(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    right = gpu_checks.ltlstm.LSTM

    class Wrong(right):
        def forward(self, *arguments: Any, **options: Any) -> Any:
            output, hx = super().forward(*arguments, **options)
            return (output if self.bias else louder(output)), hx

    def louder(output: Any) -> Any:
        return output * 1.5 if isinstance(output, torch.Tensor) else output

    monkeypatch.setattr(gpu_checks.ltlstm, "LSTM", Wrong)
    with pytest.raises(RuntimeError, match=r"^\d+ of \d+ fail; .*: result 0: error"):
        gpu_checks.parity(target)
    (line,) = lines(target)
    assert line["failed"] and not any("bias" in name for name in line["failed"])


@pytest.mark.parametrize("row", DRY_ROWS, ids=lambda row: f"{row.name} {row.mode}")
def test_a_row_is_checked_measured_and_kept(target: Target, row: Any) -> None:
    found = gpu_grid.measure(row, target, 0.01)
    assert found["failed"] == {}, found["failed"]
    assert {OURS, TORCH} <= found["seconds"].keys()
    assert len(found["seconds"][OURS]["samples"]) >= 5
    assert 0 < found["bound"] < 1e-3 and found["errors"][OURS] >= 0
    assert all(t["ratio"] > 0 for t in found["targets"])
    target.write({"group": "gpu-dry", "time": "", "commit": "", "torch": "", **found})
    text = gpu_report.summary(target.rows)
    assert row.name in text and "us/step" in text and "a dry run" in text


def test_a_contender_that_fails_stands_in_the_row(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(target, emulated=False)
    monkeypatch.setattr(Target, "device", "cpu")
    monkeypatch.setattr(Target, "plan_facts", lambda self: gpu_target.DRY)
    found = gpu_grid.measure(DRY_ROWS[0], broken, 0.01)
    assert "backend 'cuda' cannot run" in found["failed"][OURS]
    assert found["errors"] == {} and TORCH in found["seconds"]
    monkeypatch.setattr(gpu_grid, "rows", lambda _: [("gpu-dry", DRY_ROWS[0])])
    with pytest.raises(RuntimeError, match="ours failed in 1 rows; LSTM T3N2D16H16L1 bfloat16"):
        gpu_grid.grid(broken)


def test_the_trace_is_written(target: Target) -> None:
    gpu_grid.trace(target)
    on, off = lines(target)
    assert (on["lanes"], off["lanes"]) == (True, False)
    assert json.loads((target.out / on["file"]).read_text())["traceEvents"]


def test_overlap_of_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Profile:
        def export_chrome_trace(self, path: str) -> None:
            spans = [(0, 10), (5, 10), (20, 5)]
            events = [{"cat": "kernel", "ts": ts, "dur": dur} for ts, dur in spans]
            Path(path).write_text(json.dumps({"traceEvents": [*events, {"cat": "cpu_op"}]}))

    monkeypatch.setattr(gpu_peers, "_profiled", lambda *_: Profile())
    found = gpu_peers.overlap(lambda: None, tmp_path / "trace.json", "cpu")
    assert found == {"span_us": 25, "kernels_us": 25, "both_us": 5}


def test_a_wrapper_that_differs_is_named() -> None:
    one = {"ldmatrix_x2": ["00000001", "0000000f"], "mma_m16n8k16": ["3f800000"]}
    assert gpu_wrappers.differences(one, one) == []
    near = {**one, "mma_m16n8k16": ["3f800001"]}
    assert gpu_wrappers.differences(one, near) == []
    far = {"ldmatrix_x2": ["00000001", "0000000e"], "mma_m16n8k16": ["3f810000"], "bulk": []}
    named = gpu_wrappers.differences(one, far)
    assert [line.partition(" ")[0] for line in named] == ["bulk", "ldmatrix_x2:", "mma_m16n8k16:"]
    nan = {**one, "mma_m16n8k16": ["7fc00000"]}
    assert len(gpu_wrappers.differences(one, nan)) == 1


def test_rows_of_a_gpu_have_tables_of_their_own(target: Target, tmp_path: Path) -> None:
    from bench import report

    found = gpu_grid.measure(DRY_ROWS[0], target, 0.01)
    facts = record.facts() | {"processor": "a GPU", "driver": "1", "cuda": "2", "cudnn": "3"}
    group = next(iter(GROUPS))
    record.append(tmp_path / "gpu.jsonl", {**facts, "group": group, **found})
    record.append(tmp_path / "gpu.jsonl", {**facts, "stage": "grid"})
    record.append(tmp_path / "cpu.jsonl", {**facts, "stage": "none"})
    assert record.kept(tmp_path, gpu=False) == []
    (row,) = record.kept(tmp_path, gpu=True)
    text = "\n".join(table.markdown() for table in report.tables([row]))
    assert "cuda us/step" in text and "1x nn.LSTM" in text
    assert "cuDNN 3" in report.heading([row])


def test_the_rows_cover_what_is_claimed() -> None:
    rows = [row for group in GROUPS.values() for row in group.rows]
    assert {row.mode for row in rows} == {"forward", "training"}
    assert {row.module for row in rows} == {"LSTM", "LTLSTM"}
    assert {row.dtype for row in rows} == {torch.bfloat16, torch.float16, torch.float32}
    assert any(row.case.packed for row in rows) and any(row.case.L > 1 for row in rows)
    assert 10 <= sum(row.quick for row in rows) < len(rows) / 2
