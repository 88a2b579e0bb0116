# SPDX-License-Identifier: Apache-2.0
"""Of the instruction sets that this machine has the one asked for runs, and it alone.

`make prove` computes the numbers of the others once more (tests/proofs.py).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import ltlstm_kernels
from cases import Case, arguments
from child import instruction_sets, run_alone
from ltlstm_kernels import build_info
from operators import call

CPU_SOURCES = Path(__file__).resolve().parents[1] / "csrc" / "cpu"
SETS = instruction_sets()
ALL_SETS = {"generic": 16, "avx2": 32, "avx512": 64, "avx512bf16": 64}  # bytes of a vector


def assert_runs(isa: str) -> None:
    """It says so, and allocates a packed block, which with one column and one k is four vectors."""
    assert build_info.cpu_instruction_set() == isa
    case = Case(T=5, N=1, D=1, H=1)
    made = arguments(case, torch.float32)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call(case, made)
    sizes = {event.self_cpu_memory_usage for event in seen.events()}
    blocks = {4 * width for width in ALL_SETS.values()}
    assert sizes & blocks == {4 * ALL_SETS[isa]}, f"{isa} asked for, allocations {sorted(sizes)}"


@pytest.mark.parametrize("isa", SETS)
def test_the_set_asked_for_runs(isa: str) -> None:
    run_alone(assert_runs, isa, LTLSTM_CPU_ISA=isa)


@pytest.mark.parametrize("asked", ["", "avx512bf16"])
def test_the_widest_runs_unless_a_narrower_is_asked_for(asked: str) -> None:
    run_alone(assert_runs, list(SETS)[-1], LTLSTM_CPU_ISA=asked)


@pytest.mark.parametrize("asked", ["AVX2", "foo", "avx2 "])
def test_an_unknown_set_is_refused(asked: str) -> None:
    """On import and, where a program without Python has loaded the library, at each call."""
    code = "import ctypes, sys, torch; torch.ops.load_library(sys.argv[1]); "
    code += "c = torch.ones(2, 3); torch.ops.ltlstm.cell_forward(torch.ones(2, 12), c, None)"
    library = ltlstm_kernels.libraries()["_ops_cpu"].path
    for command in (["import ltlstm"], [code, library]):
        done = subprocess.run(
            [sys.executable, "-c", *command], capture_output=True, text=True,
            env={**os.environ, "LTLSTM_CPU_ISA": asked},
        )  # fmt: skip
        assert done.returncode == 1
        sentence = "cpu: LTLSTM_CPU_ISA must be one of generic, avx2, avx512, avx512bf16, got "
        assert sentence + asked in done.stderr


@pytest.mark.parametrize("isa", ALL_SETS)
def test_no_code_is_shared_between_instruction_sets(isa: str, tmp_path: Path) -> None:
    # Of two weak functions of one name the linker keeps either. An AVX-512 copy of an inline
    # function would then serve every table, on machines without AVX-512 too. Unoptimised, since
    # then nothing is inlined by luck.
    target, source = tmp_path / "kernels.o", CPU_SOURCES / f"isa_{isa}.cpp"
    compiler = [os.environ.get("CXX", "g++"), "-std=c++17", "-O0", f"-I{CPU_SOURCES.parent}"]
    subprocess.run([*compiler, "-c", source, "-o", target], check=True)
    listing = subprocess.run(["nm", "-C", target], check=True, capture_output=True, text=True)
    symbols = [line.split(maxsplit=2)[-2:] for line in listing.stdout.splitlines()]
    weak = {name for kind, name in symbols if kind in "VWu" and not name.startswith("DW.ref.")}
    assert {name for name in weak if f"::{isa}_kernels<" not in name} == set()
    assert len(weak) == 2  # the two tables themselves, each of which has a name of its own
