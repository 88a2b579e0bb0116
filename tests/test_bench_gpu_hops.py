# SPDX-License-Identifier: Apache-2.0
"""The programs of bench/gpu: what they print, what is built beforehand, what a crash costs."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cuda_build
from bench.gpu import hops, programs, wrappers
from bench.gpu.target import Target
from dry_target import lines
from emulator.builds import CSRC, build_changed

ROOT = Path(__file__).resolve().parents[1]


def test_everything_that_hops_arrives(target: Target) -> None:
    hops.hops(target)
    *measured, constants = lines(target)
    assert all(line["ok"] and len(line["ns"]) == 5 for line in measured)
    assert {(line["name"], line["members"]) for line in measured} >= {
        ("block", 1), ("through L2", 4), ("grid barrier", 4), ("cluster", 2), ("cluster barrier", 4)
    }  # fmt: skip
    assert {line["message"] for line in measured if line["name"] == "cluster"} == {0, 4, 8, 16}
    fields = re.findall(r"double (\w+);", (ROOT / "csrc" / "floor_model.h").read_text())
    named = constants.keys() - {"group", "name", "emulated", "processor", "time"}
    assert len(named) == 7 and named <= set(fields)


def test_pairs_of_launches(target: Target) -> None:
    hops.concurrent(target)
    found = lines(target)
    assert all(line["ok"] and line["both_ns"] >= 0 for line in found)
    names = [line["name"] for line in found]
    assert {"two half grids", "a half grid, then a product", "two whole grids"} <= set(names)
    # What cannot fit at once may hang a device: it comes last.
    assert names[-2:] == ["two grids of three quarters", "two whole grids"]


def _run(program: Path, *arguments: object) -> tuple[list[str], str | None]:
    found: list[str] = []
    wrong = programs.measurements(program, arguments, 60, found.append)
    return found, wrong


def test_what_arrives_wrong_is_noticed(tmp_path: Path) -> None:
    kernels = hops.SOURCE.with_name("hop_kernels.cuh")
    right = kernels.read_text()
    sends = ("buffer[i] = piece(step, i)", "buffer + mine, piece(step, mine)",
             "buffer + rank * own + i, piece(step, rank * own + i)",
             "from[i] = piece(step, rank * own + i)")  # fmt: skip
    wrong_ones = []
    for sent in sends:
        assert right.count(sent) == 1
        source = Path(shutil.copy(hops.SOURCE, tmp_path))
        (tmp_path / kernels.name).write_text(
            right.replace(sent, sent.replace("piece(step,", "piece(step / 2,"))
        )
        program = build_changed([source], "plain", tmp_path, CSRC)
        found, wrong = _run(program, 2, 3, 90)
        assert wrong is not None and "exit status 1: " in wrong
        bad = [line for line in found if '"ok": false' in line]
        assert 0 < len(bad) < len(found)
        wrong_ones += re.findall(r'"name": "([\w ]+)".*"message": (\d+)', bad[0])
    ways = [("block", "16"), ("cluster", "16"), ("through L2", "16"), ("cluster", "0")]
    assert wrong_ones == ways


CRASHING = """#!/bin/sh
# Prints a line for each measurement from $2 on; what $1 names ends it: crash with the name only,
# silent before that, lost as a program does that has lost the GPU.
for k in 0 1 2 3; do
  [ $k -lt $2 ] && continue
  [ "$1 $k" = "silent 0" ] && exit 9
  if [ "$1 $k" = "crash 2" ]; then printf 'the name of 2'; kill -9 $$; fi
  echo "line $k"
  [ "$1 $k" = "lost 1" ] && exit 3
  [ "$1 $k" = "slow 1" ] && sleep 60
done
[ "$1" = wrong ] && exit 1
exit 0
"""


def test_a_measurement_that_ends_the_program_loses_only_itself(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(CRASHING)
    program.chmod(0o755)
    every = [f"line {k}" for k in range(4)]
    assert _run(program, "fine") == (every, None)
    assert _run(program, "wrong") == (every, "program: exit status 1: line 3")
    assert _run(program, "lost") == (every, "program: exit status 3: line 1")
    crashed = [*every[:2], "the name of 2", every[3]]
    assert _run(program, "crash") == (crashed, "program: exit status -9: the name of 2")
    assert _run(program, "silent") == ([], "program: exit status 9: no output")
    found: list[str] = []
    late = programs.measurements(program, ("slow",), 0.5, found.append)
    assert late == "program was stopped after 0 s" and found in (every[:2], [])


def test_a_hop_that_crashes_stands_in_the_lines(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = '{"name": "block", "blocks": 1, "members": 1, "bytes": 0, "message": 16, '
    said = [line + '"ns": [30.0, 40.0], "ok": true}', line + '"ns": [']

    def measurements(program: Any, arguments: Any, seconds: Any, take: Any) -> str:
        for text in said:
            take(text)
        return "hops: exit status 3: "

    monkeypatch.setattr(programs, "measurements", measurements)
    monkeypatch.setattr(programs, "built", lambda *_: Path("hops"))
    with pytest.raises(RuntimeError, match="^hops: exit status 3"):
        hops.hops(target)
    good, bad, constants = lines(target)
    assert good["median_ns"] == 35.0 and bad["name"] == said[1] and not bad["ok"]
    assert constants["block_hop"] == 0.035 and "tile_cycles" not in constants


def test_constants_follow_from_the_lines() -> None:
    def line(name: str, ns: float, blocks: int = 1, members: int = 1, bytes: int = 0) -> Any:
        found = {"name": name, "blocks": blocks, "members": members, "bytes": bytes}
        return found | {"median_ns": ns, "message": 16}

    measured = [
        line("block", 30), line("through L2", 900, 132, 132, 8192),
        line("through L2", 700, 132, 132, 2112), line("through L2", 500, 66, 66, 1056),
        line("cluster", 200, 8, 8, 1024), line("cluster", 300, 8, 8, 9216),
        line("cluster", 400, 64, 8, 9216), line("cluster", 100, 2, 2, 256),
        line("cluster", 50, 8, 8, 9216) | {"message": 0},
        line("product", 96), line("product, one after another", 160),
    ]  # fmt: skip
    found = dict(hops.constants(measured, clock=2.0))
    assert found["block_hop"] == 0.03 and found["l2_hop"] == 0.7 and found["cluster_hop"] == 0.2
    assert found["l2_bytes"] == pytest.approx((8192 - 2112) * 131 / 132 / 200 / 2)
    assert found["cluster_bytes"] == pytest.approx(8192 * 7 / 8 / 100 / 2)
    assert found["tile_cycles"] == 6.0 and found["tile_latency"] == 20.0
    assert dict(hops.constants(measured[:1], clock=2.0)) == {"block_hop": 0.03}


@pytest.mark.skipif(cuda_build.HOME is None, reason=cuda_build.NO_NVCC)
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("source", programs.PROGRAMS, ids=lambda p: p.stem)
def test_the_programs_compile_for_each_gpu(source: Path, arch: str, tmp_path: Path) -> None:
    command = [f"{cuda_build.HOME}/bin/nvcc", "-std=c++17", "-O2", f"-I{ROOT / 'csrc'}"]
    command += [f"-arch={arch}", "-cubin", "-Xptxas", "-v", str(source), "-o", f"{tmp_path}/cubin"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    spilled = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill", run.stderr)
    assert spilled and set(spilled) == {("0", "0")}


def test_what_was_prepared_is_taken_and_nothing_is_compiled(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with a GPU, where no compiler may be asked."""
    compiled = []

    def compile_for(source: Path, arch: str, program: Path) -> Path:
        compiled.append((source.name, arch))
        program.write_text("#!/bin/sh\n")
        return program

    monkeypatch.setattr(programs, "compile_for", compile_for)
    programs.prepare(target.prepared, "90a")
    assert compiled == [(source.name, "90a") for source in programs.PROGRAMS]
    facts = {"capability": "9.0"}
    monkeypatch.setattr(Target, "facts", lambda self: facts)
    on_gpu = replace(target, emulated=False)
    compiled.clear()
    for source in programs.PROGRAMS:
        program = programs.built(source, on_gpu)
        assert program.parent == target.prepared and program.stat().st_mode & 0o100
    assert compiled == []
    # Of other sources, or for another GPU, none stands in.
    monkeypatch.setitem(facts, "capability", "8.0")
    assert programs.built(hops.SOURCE, on_gpu).parent == target.scratch
    monkeypatch.setitem(facts, "capability", "9.0")
    monkeypatch.setattr(programs, "digest", lambda _: "other")
    assert programs.built(hops.SOURCE, on_gpu).parent == target.scratch
    assert compiled == [("hops.cu", "80"), ("hops.cu", "90a")]


def test_without_a_compiler_what_was_not_prepared_says_so(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs.Target, "facts", lambda self: {"capability": "9.0"})
    from tests import cuda_build as rule

    monkeypatch.setattr(rule, "HOME", None)
    with pytest.raises(RuntimeError, match="^hops-sm_90a-.* was not prepared, and no nvcc here"):
        programs.built(hops.SOURCE, replace(target, emulated=False))


def test_expected_words_are_carried(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    wrappers.prepare(target.prepared)
    (file,) = target.prepared.iterdir()
    wrappers.prepare(target.prepared)
    assert list(target.prepared.iterdir()) == [file]
    wrappers.wrappers(target)
    emulated = programs.for_emulator(wrappers.SOURCE, target.scratch)

    # A GPU: the emulator stands in for the program, and may not be asked for what was prepared.
    def refuse(*_: Any) -> Any:
        raise AssertionError("compiled on the machine with the GPU")

    monkeypatch.setattr(programs, "for_emulator", refuse)
    monkeypatch.setattr(programs, "built", lambda *_: emulated)
    monkeypatch.setattr(Target, "need_device", lambda self: None)
    on_gpu = replace(target, emulated=False)
    for capability in (90, 80):
        monkeypatch.setattr(
            Target, "plan_facts", lambda self, c=capability: type("Facts", (), {"capability": c})
        )
        wrappers.wrappers(on_gpu)
    file.write_text(file.read_text().replace("bulk_copy", "bulk copy"))
    monkeypatch.setattr(Target, "plan_facts", lambda self: type("Facts", (), {"capability": 90}))
    with pytest.raises(RuntimeError, match="2 wrappers differ: bulk copy ran on one only"):
        wrappers.wrappers(on_gpu)
    dry, newer, older, wrong = lines(target)
    assert dry["differ"] == newer["differ"] == older["differ"] == [] and len(wrong["differ"]) == 2
    assert len(older["wrappers"]) == 11 and len(newer["wrappers"]) == len(dry["wrappers"]) == 16


def test_a_wrapper_that_differs_is_named() -> None:
    one = {"ldmatrix_x2": ["00000001", "0000000f"], "mma_m16n8k16": ["3f800000"]}
    assert wrappers.differences(one, one) == []
    near = {**one, "mma_m16n8k16": ["3f800001"]}
    assert wrappers.differences(one, near) == []
    far = {"ldmatrix_x2": ["00000001", "0000000e"], "mma_m16n8k16": ["3f810000"], "bulk": []}
    named = wrappers.differences(one, far)
    assert [line.partition(" ")[0] for line in named] == ["bulk", "ldmatrix_x2:", "mma_m16n8k16:"]
    nan = {**one, "mma_m16n8k16": ["7fc00000"]}
    assert len(wrappers.differences(one, nan)) == 1
    assert wrappers.differences(one, {**one, "ldmatrix_x2": []}) == ["ldmatrix_x2 failed"]
    assert wrappers.parsed("cp_async 16 of 4 00000001 0000000f") == (
        "cp_async 16 of 4", ["00000001", "0000000f"],
    )  # fmt: skip
    assert wrappers.parsed("ldmatrix_x2 error 700") == ("ldmatrix_x2 error 700", [])
