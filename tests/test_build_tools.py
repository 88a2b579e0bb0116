# SPDX-License-Identifier: Apache-2.0
"""The Makefile and setup.py name what is missing, and the command or the switch that helps."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("MAKE") and name not in ("MFLAGS", "PYTHONPATH", "CXX")
}


def make_tools(**variables: str) -> subprocess.CompletedProcess[str]:
    """`make tools` checks what a build needs and changes nothing."""
    settings = [f"{name}={value}" for name, value in variables.items()]
    return subprocess.run(
        ["make", "tools", *settings], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )


def python_lacking(folder: Path, change: str) -> str:
    """A command that runs this Python with `change` made before anything else."""
    (folder / "sitecustomize.py").write_text(change)
    return f"env PYTHONPATH={folder} {sys.executable}"


def test_all_tools_there():
    run = make_tools(PYTHON=sys.executable)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("import sys; sys.version_info = (3, 9)", "Python 3.10 or later is missing"),
        ("import sys; sys.modules['ensurepip'] = None", "venv is missing"),
        ("import sysconfig; sysconfig.get_path = lambda name: '/nowhere'", "Python.h is missing"),
    ],
)
def test_what_python_lacks_is_named(tmp_path, change, message):
    run = make_tools(PYTHON=python_lacking(tmp_path, change))
    assert run.returncode != 0
    assert run.stderr.startswith(message)
    assert " install " in run.stderr.splitlines()[0]


@pytest.mark.parametrize(
    ("variable", "message"),
    [("CXX", "A C++17 compiler is missing"), ("PYTHON", "Python 3.10 or later is missing")],
)
def test_a_missing_program_is_named(variable, message):
    run = make_tools(**{"PYTHON": sys.executable, variable: "/nowhere/tool"})
    assert run.returncode != 0
    assert run.stderr.startswith(f"{message} (/nowhere/tool). This brings it: ")


@pytest.fixture
def source_tree(tmp_path):
    """What setup.py reads, with a CUDA source of which only the name matters."""
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "csrc" / "cuda").mkdir(parents=True)
    (tmp_path / "csrc" / "cuda" / "planted.cu").touch()
    return tmp_path


@pytest.fixture
def toolkit(tmp_path):
    """A CUDA_HOME as setup.py recognises it."""
    home = tmp_path / "toolkit"
    for name in ("bin/nvcc", "include/cuda_runtime.h"):
        (home / name).parent.mkdir(parents=True)
        (home / name).touch()
    return home


def extensions(
    tree: Path, switch: str, cuda_home: Path | str, torchs_cuda: str | None = "13.0"
) -> subprocess.CompletedProcess[str]:
    """Prints the extensions that setup.py would build, beside a torch for that CUDA release."""
    code = (
        f"import runpy, setuptools, torch; torch.version.cuda = {torchs_cuda!r}; "
        "names = lambda given: sorted(extension.name for extension in given['ext_modules']); "
        "setuptools.setup = lambda **given: print(*names(given)); "
        "runpy.run_path('setup.py')"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree,
        env={**ENVIRONMENT, "LTLSTM_CUDA": switch, "CUDA_HOME": str(cuda_home)},
        capture_output=True,
        text=True,
    )


WITHOUT_CUDA = "ltlstm_kernels._C ltlstm_kernels._ops_cpu"
WITH_CUDA = f"{WITHOUT_CUDA} ltlstm_kernels._ops_cuda"


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        ("1", "LTLSTM_CUDA=1, but no nvcc was found: put it on PATH or set CUDA_HOME"),
        ("yes", "LTLSTM_CUDA must be 0 or 1, got 'yes'"),
    ],
)
def test_a_cuda_build_that_cannot_be_is_refused(source_tree, switch, message):
    run = extensions(source_tree, switch, "/nowhere")
    assert run.returncode != 0
    assert message in run.stderr


@pytest.mark.parametrize("switch", ["", "0"])
def test_cuda_is_left_out_where_there_is_no_nvcc(source_tree, switch):
    assert extensions(source_tree, switch, "/nowhere").stdout.strip() == WITHOUT_CUDA


@pytest.mark.parametrize(
    ("switch", "torchs_cuda", "built"),
    [
        ("", "13.0", WITH_CUDA),
        ("", None, WITHOUT_CUDA),  # a CPU build of torch cannot run it
        ("1", None, WITH_CUDA),
        ("0", "13.0", WITHOUT_CUDA),
    ],
)
def test_cuda_is_built_for_a_torch_that_runs_it(source_tree, toolkit, switch, torchs_cuda, built):
    assert extensions(source_tree, switch, toolkit, torchs_cuda).stdout.strip() == built


@pytest.mark.parametrize("missing", ["torch", "pybind11"])
def test_what_the_build_lacks_is_one_line(source_tree, missing):
    code = f"import sys, runpy; sys.modules[{missing!r}] = None; runpy.run_path('setup.py')"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=source_tree, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr.startswith(f"ltlstm: its build finds no {missing} (")
    assert run.stderr.endswith("pip install --no-build-isolation .\n")
    assert run.stderr.count("\n") == 1


def test_an_isolated_build_fetches_no_torch():
    """That of a CUDA torch is 2.9 GB; setup.py says what to type instead."""
    text = (ROOT / "pyproject.toml").read_text()
    (wanted,) = re.findall(r"^requires = \[(.*)\]$", text, re.M)
    assert "setuptools" in wanted and "torch" not in wanted
