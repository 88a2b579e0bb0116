# SPDX-License-Identifier: Apache-2.0
"""The CUDA operator library on a machine without a GPU: it loads, whatever torch it meets."""

import os
import re
import subprocess
import sys
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


def test_everything_it_needs_is_here(library: Path) -> None:
    """Bound at once, not at the first call: what only a CUDA torch has must be weak."""
    code = "import ltlstm_kernels as k; found = k.libraries()['_ops_cuda']; print(found.error)"
    environment = {**os.environ, "LD_BIND_NOW": "1"}
    told = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    assert told.strip() == "None"


def test_it_takes_only_c_symbols_of_torch(library: Path) -> None:
    listing = subprocess.check_output(["nm", "-DC", "--undefined-only", library], text=True)
    names = [line.split(maxsplit=1)[1] for line in listing.splitlines()]
    assert not [name for name in names if re.search(r"\b(at|c10|torch)::|^_?Py", name)]


def test_it_holds_machine_code_for_both_generations(library: Path) -> None:
    data = library.read_bytes()
    assert b"sm_80" in data and b"sm_90a" in data
