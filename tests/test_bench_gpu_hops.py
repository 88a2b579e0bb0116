# SPDX-License-Identifier: Apache-2.0
"""The stages of bench/gpu.sh for hops and for a second device, as far as they go without a GPU."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cuda_build
from bench import gpu, gpu_checks, gpu_hops, gpu_programs, gpu_wrappers
from bench.gpu import Stage
from bench.gpu_target import Skipped, Target
from dry_target import lines
from emulator.builds import CSRC, build_changed

ROOT = Path(__file__).resolve().parents[1]


def test_everything_that_hops_arrives(target: Target) -> None:
    gpu_hops.hops(target)
    *measured, constants = lines(target)
    assert all(line["ok"] and len(line["ns"]) == 5 for line in measured)
    assert {(line["name"], line["members"]) for line in measured} >= {
        ("block", 1), ("through L2", 4), ("grid barrier", 4), ("cluster", 2), ("cluster barrier", 4)
    }  # fmt: skip
    fields = re.findall(r"double (\w+);", (ROOT / "csrc" / "floor_model.h").read_text())
    named = constants.keys() - {"group", "name", "emulated", "processor"}
    assert len(named) == 7 and named <= set(fields)


def test_what_arrives_wrong_is_noticed(tmp_path: Path) -> None:
    right = gpu_hops.SOURCE.read_text()
    for sent in ("buffer[i] = piece(step, i)", "piece(step, mine)", "piece(step, rank * own + i)"):
        assert right.count(sent) == 1
        source = tmp_path / "wrong.cu"
        source.write_text(right.replace(sent, sent.replace("piece(step,", "piece(step / 2,")))
        program = build_changed([source], "plain", tmp_path, CSRC)
        with pytest.raises(RuntimeError, match="exit status 1: .*"):
            gpu_programs.output(program, 2, 3, 90)


def test_constants_follow_from_the_lines() -> None:
    def line(name: str, ns: float, blocks: int = 1, members: int = 1, bytes: int = 0) -> Any:
        found = {"name": name, "blocks": blocks, "members": members, "bytes": bytes}
        return found | {"ns": [ns, 9 * ns, ns]}

    found = dict(
        gpu_hops.constants(
            [
                line("block", 30), line("through L2", 900, 132, 132, 8192),
                line("through L2", 700, 132, 132, 2112), line("through L2", 500, 66, 66, 1056),
                line("cluster", 200, 8, 8, 1024), line("cluster", 300, 8, 8, 9216),
                line("cluster", 400, 64, 8, 9216), line("cluster", 100, 2, 2, 256),
                line("product", 96), line("product, one after another", 160),
            ],
            clock=2.0,
        )
    )  # fmt: skip
    assert found["block_hop"] == 0.03 and found["l2_hop"] == 0.7 and found["cluster_hop"] == 0.2
    assert found["l2_bytes"] == pytest.approx((8192 - 2112) * 131 / 132 / 200 / 2)
    assert found["cluster_bytes"] == pytest.approx(8192 * 7 / 8 / 100 / 2)
    assert found["tile_cycles"] == 6.0 and found["tile_latency"] == 20.0


@pytest.mark.skipif(cuda_build.HOME is None, reason=cuda_build.NO_NVCC)
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("source", [gpu_hops.SOURCE, gpu_wrappers.SOURCE], ids=lambda p: p.stem)
def test_the_programs_compile_for_each_gpu(source: Path, arch: str, tmp_path: Path) -> None:
    command = [f"{cuda_build.HOME}/bin/nvcc", "-std=c++17", "-O2", f"-I{ROOT / 'csrc'}"]
    command += [f"-arch={arch}", "-cubin", "-Xptxas", "-v", str(source), "-o", f"{tmp_path}/cubin"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    spilled = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill", run.stderr)
    assert spilled and set(spilled) == {("0", "0")}


def test_a_stage_with_nothing_to_do_says_why(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Skipped, match="^one device: it needs tensors on a second"):
        gpu_checks.second_device(target)
    monkeypatch.setitem(gpu.STAGES, "second", Stage(gpu_checks.second_device, 60, ours=False))
    assert gpu.run_stage("second", target, 60)
    assert gpu.main([str(target.out), "--emulated", "--stage", "second"]) == gpu.SKIPPED
    real = subprocess.run

    def run(command: list[str], **options: Any) -> Any:
        code = f"print('one device'); raise SystemExit({gpu.SKIPPED})"
        return real([sys.executable, "-c", code], **options)

    monkeypatch.setattr(gpu.subprocess, "run", run)
    assert gpu.run_stage("second", replace(target, emulated=False), 60)
    dry, process = lines(target)
    assert dry["ok"] and dry["skipped"].startswith("one device: ")
    assert process["ok"] and process["skipped"] == "one device" and process["error"] is None
