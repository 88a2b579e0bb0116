# SPDX-License-Identifier: Apache-2.0
"""The PTX that nvcc makes of each wrapper in csrc/cuda, against a golden line.

The emulator cannot see a wrong instruction: this does. Whoever changes a wrapper changes its line
in tests/ptx/golden.txt, by hand and with the PTX manual open.
"""

import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from ptx.reading import inline_assembly

HERE = Path(__file__).resolve().parent / "ptx"
CUDA = HERE.parents[1] / "csrc" / "cuda"
HEADERS = ("intrinsics.cuh", "cluster.cuh")  # those that may hold PTX
ARCHITECTURES = {"sm_80": [], "sm_90a": ["-DWITH_CLUSTERS"]}
# By what a wrapper is called in the golden file: its name, and more where it has several forms.
GOLDEN = dict(line.split(": ", 1) for line in (HERE / "golden.txt").read_text().splitlines())

NVCC = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="nvcc is not installed: no PTX to compare")


def compile_wrappers(architecture: str, stage: str, target: Path) -> Path:
    assert NVCC is not None
    flags = ["-std=c++17", f"-I{CUDA.parent}", f"-arch={architecture}", f"-{stage}"]
    command = [NVCC, *flags, *ARCHITECTURES[architecture], "-o", target, HERE / "wrappers.cu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return target


@functools.cache
def compiled(architecture: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        ptx = compile_wrappers(architecture, "ptx", Path(folder, "wrappers.ptx"))
        return dict(inline_assembly(ptx.read_text()))


@needs_nvcc
@pytest.mark.parametrize("name", GOLDEN)
def test_the_ptx_of_a_wrapper(name: str) -> None:
    for architecture in ARCHITECTURES:
        lines = compiled(architecture)
        if architecture == "sm_90a" or name in lines:
            assert lines[name] == GOLDEN[name], architecture


@needs_nvcc
def test_the_older_gpus_have_all_but_the_clusters() -> None:
    missing = set(GOLDEN) - set(compiled("sm_80"))
    assert set(compiled("sm_90a")) == set(GOLDEN)
    assert all(
        re.match("cluster|map|mbarrier|fence|bulk|st.*_cluster|load_cl|store_as", name)
        for name in missing
    )


@needs_nvcc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_assembles(architecture: str, tmp_path: Path) -> None:
    assert compile_wrappers(architecture, "cubin", tmp_path / "wrappers.cubin").stat().st_size


def test_every_wrapper_has_a_line() -> None:
    for header in HEADERS:
        text = (CUDA / header).read_text()
        functions = re.findall(r"__forceinline__ [\w ]+? (\w+)\([^;{}]*\) {((?:.|\n)*?)\n}", text)
        wrappers = {name for name, body in functions if "asm volatile" in body}
        assert wrappers, header
        for name in wrappers:
            assert any(line.startswith(f"{name}_") for line in GOLDEN), name


def test_no_other_file_holds_ptx() -> None:
    for file in CUDA.glob("*"):
        assert (file.name in HEADERS) == bool(re.search(r"\basm\b", file.read_text())), file.name
