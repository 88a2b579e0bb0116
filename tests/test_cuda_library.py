# SPDX-License-Identifier: Apache-2.0
"""The CUDA operator library on a machine without a GPU: it loads, whatever torch it meets."""

import re
import subprocess
from pathlib import Path

import pytest

import ltlstm_kernels
from ltlstm_kernels import build_info

pytestmark = pytest.mark.skipif(
    not build_info.build_facts().get("cuda"),
    reason="this build has no CUDA library: no nvcc, or LTLSTM_CUDA=0",
)


@pytest.fixture
def library() -> Path:
    found = ltlstm_kernels.libraries()["_ops_cuda"]
    assert found.loaded and found.path is not None, found.error
    return found.path


def test_it_brings_its_own_cuda_runtime(library: Path) -> None:
    dynamic = subprocess.check_output(["readelf", "--dynamic", "--wide", library], text=True)
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic)
    assert not [name for name in needed if re.search("cuda|nvrtc|python", name)], needed


def test_what_only_a_cuda_torch_has_is_weak(library: Path) -> None:
    """A strong symbol that nobody here has would stop a lazy binding at its first call."""
    listing = subprocess.check_output(["nm", "-DC", "--undefined-only", library], text=True)
    symbols = [line.split(maxsplit=1) for line in listing.splitlines()]
    strong = [name for kind, name in symbols if kind != "w"]
    assert not [name for name in strong if "cuda" in name.lower()], strong
    assert not [name for name in strong if re.search(r"\b(at|c10|torch)::|^_?Py", name)]


def test_it_holds_machine_code_for_both_generations(library: Path) -> None:
    data = library.read_bytes()
    assert b"sm_80" in data and b"sm_90a" in data
