# SPDX-License-Identifier: Apache-2.0
"""The CUDA library beside a CUDA build of torch, of which the tests have a stub: its functions are
found when the library is loaded, and what is missing is said in a sentence.

The stub is two libraries: libtorch_cuda.so defines the functions, libtorch.so needs it, as in the
real build. Loaded before torch, that libtorch.so stands in for the one of this torch.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.cpp_extension import include_paths

import ltlstm_kernels
from cuda_build import HOME, ROOT
from cuda_symbols import weak_functions
from ltlstm_kernels import build_info
from package_copy import copy_packages

pytestmark = pytest.mark.skipif(
    not build_info.build_facts().get("cuda"),
    reason="this build has no CUDA library: no nvcc, or LTLSTM_CUDA=0",
)
TORCH = Path(torch.__path__[0], "lib")
# A Python with the stub in the place of libtorch.so, that takes its torch for a CUDA build.
BESIDE_STUB = """
import ctypes, sys
stub = ctypes.CDLL(sys.argv[1])
import torch
torch.version.cuda = "13.0"
import ltlstm_kernels
library = ltlstm_kernels.libraries()["_ops_cuda"]
handle = ctypes.CDLL(str(library.path))
print([name for name in sys.argv[2:] if not hasattr(handle, name)])
print(library.error)
"""


def library() -> Path:
    found = ltlstm_kernels.libraries()["_ops_cuda"]
    assert found.loaded and found.path is not None, found.error
    return found.path


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The libtorch.so of the stub."""
    folder = tmp_path_factory.mktemp("stub")
    functions = folder / "functions.c"
    functions.write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in names()))
    shared = [os.environ.get("CXX", "g++"), "-shared", "-fPIC", "-Wl,--no-as-needed"]
    for name, inputs in (
        ("libtorch_cuda.so", ["-xc", functions]),
        ("libtorch.so", [f"-L{folder}", f"-L{TORCH}", "-ltorch_cuda", "-ltorch_cpu"]),
    ):
        paths = [f"-Wl,-soname,{name}", f"-Wl,-rpath,{folder}:{TORCH}", "-o", folder / name]
        subprocess.run([*shared, *paths, *inputs], check=True)
    return folder / "libtorch.so"


def names() -> list[str]:
    found = weak_functions(library())
    assert len(found) >= 6
    return found


def beside(stub: Path, packages: Path) -> list[str]:
    """What is not found there, and what the package says of it, and warns of."""
    run = subprocess.run(
        [sys.executable, "-c", BESIDE_STUB, stub, *names()],
        env={**os.environ, "PYTHONPATH": str(packages)}, cwd=packages, capture_output=True,
        text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return [*run.stdout.splitlines(), run.stderr]


def test_it_needs_libtorch_whose_cuda_part_it_calls() -> None:
    dynamic = subprocess.check_output(["readelf", "--dynamic", "--wide", library()], text=True)
    assert "libtorch.so" in re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic)


def test_it_tells_which_functions_are_missing() -> None:
    """On a torch without CUDA all are: so none of them is left out of what it looks at."""
    if torch.version.cuda is not None:
        return
    code = "import ctypes, sys, torch; ask = ctypes.CDLL(sys.argv[1]).ltlstm_missing_functions; "
    code += "ask.restype = ctypes.c_char_p; print(ask().decode())"
    told = subprocess.check_output([sys.executable, "-c", code, library()], text=True)
    assert sorted(told.strip().split(", ")) == sorted(names())


def test_a_cuda_torch_brings_every_function(stub: Path, tmp_path: Path) -> None:
    missing, error, warned = beside(stub, copy_packages(tmp_path, without=""))
    assert (missing, error) == ("[]", "None") and "RuntimeWarning" not in warned


def test_a_library_that_does_not_need_libtorch_finds_none(stub: Path, tmp_path: Path) -> None:
    """As the linker makes it unless it is forced: the same file, which needs another instead."""
    copy = copy_packages(tmp_path, without="")
    unforced = copy / "ltlstm_kernels" / library().name
    data = unforced.read_bytes()
    assert data.count(b"\0libtorch.so\0") == 1
    unforced.write_bytes(data.replace(b"\0libtorch.so\0", b"\0libc10.so\0\0\0"))
    missing, error, warned = beside(stub, copy)
    assert missing == str(names())
    told, _, lacking = error.partition(", lacks ")
    assert told == f"failed to load: torch {torch.__version__} must have the functions it calls"
    assert sorted(lacking.split(", ")) == sorted(names())
    assert f"RuntimeWarning: ltlstm_kernels: _ops_cuda {error}" in warned


@pytest.mark.parametrize("lacking", [False, True])
def test_streams_of_the_caller_and_beside_it(lacking: bool, tmp_path: Path) -> None:
    """The caller's stream object stays what it is, side streams are its own; and where a function
    is missing an operator says so before it calls one."""
    program = tmp_path / "streams"
    flags = ["-std=c++17", "-O0", "-Wall", "-Werror", "-DTORCH_STABLE_ONLY", "-DUSE_CUDA"]
    flags += ["-DTORCH_TARGET_VERSION=0x020a000000000000", "-DLTLSTM_CUDA_BINDING"]
    flags += [f"-I{ROOT}/csrc", f"-I{HOME}/include", *(f"-isystem{p}" for p in include_paths())]
    flags += ["-DLACKING"] if lacking else []
    sources = [ROOT / "tests/cuda_device/streams.cpp", ROOT / "csrc/binding/cuda_device.cpp"]
    linked = [f"-L{TORCH}", f"-Wl,-rpath,{TORCH}", "-lc10", "-ltorch_cpu", "-o", program]
    compiler = os.environ.get("CXX", "g++")
    subprocess.run([compiler, *flags, *sources, *linked], check=True)
    run = subprocess.run([program], capture_output=True, text=True)
    if not lacking:
        assert (run.returncode, run.stdout) == (0, "")
        return
    sentence = "cuda: torch must have the functions of a CUDA build, got none of these: "
    assert run.returncode == 2 and run.stdout == f"{sentence}aoti_torch_cuda_mm_out\n"
