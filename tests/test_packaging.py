# SPDX-License-Identifier: Apache-2.0
"""The packages as they are installed: libraries on the stable ABI, any of which may be missing."""

import re
import subprocess
from importlib import metadata, resources
from pathlib import Path

import pytest

import ltlstm_kernels
from package_copy import PACKAGES, copy_packages, run_python

ROOT = Path(__file__).resolve().parents[1]

SMOKE = Path(__file__).with_name("smoke.py")


def library(name: str) -> Path:
    found = ltlstm_kernels.libraries()[name]
    assert found.path is not None, found.error
    return found.path


@pytest.fixture
def installed() -> metadata.Distribution:
    try:
        return metadata.distribution("ltlstm")
    except metadata.PackageNotFoundError:
        pytest.skip("asks for an installed package: make build, or pip install -e .")


def test_every_library_of_this_build_is_loaded():
    expected = {"_C", "_ops_cpu"}
    loaded = {name for name, found in ltlstm_kernels.libraries().items() if found.loaded}
    assert expected <= loaded


def test_operators_work_without_the_pybind_module(tmp_path):
    copy = copy_packages(tmp_path, without="_C.*")
    run = run_python(copy, "-W", "error::RuntimeWarning", SMOKE, copy, "cpu")
    assert run.returncode == 0, run.stderr
    assert "_C not built" in run.stdout and "_ops_cpu loaded" in run.stdout
    assert "planned cluster" in run.stdout


def test_import_works_without_any_library(tmp_path):
    copy = copy_packages(tmp_path, without="*")
    run = run_python(copy, SMOKE, copy)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("RuntimeWarning") == 1
    assert "RuntimeWarning: ltlstm_kernels: _ops_cpu not built" in run.stderr


def test_a_library_that_does_not_load_is_named_once(tmp_path):
    copy = copy_packages(tmp_path, without="")
    broken = copy / "ltlstm_kernels" / library("_ops_cpu").name
    broken.write_bytes(b"not a library")
    run = run_python(copy, SMOKE, copy)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("RuntimeWarning") == 1
    assert "RuntimeWarning: ltlstm_kernels: _ops_cpu failed to load" in run.stderr
    assert str(broken) in run.stdout


def test_a_backend_that_lost_its_library_says_so(tmp_path):
    copy = copy_packages(tmp_path, without="_ops_cpu.*")
    run = run_python(copy, SMOKE, copy, "cpu")
    assert run.returncode != 0
    assert "RuntimeError" in run.stderr and "the library _ops_cpu is missing" in run.stderr


def needed(path: Path) -> list[str]:
    dynamic = subprocess.check_output(["readelf", "--dynamic", "--wide", path], text=True)
    return re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic)


def foreign_symbols(path: Path) -> list[str]:
    """What the library takes from others, C++ names readable."""
    listing = subprocess.check_output(["nm", "-DC", "--undefined-only", path], text=True)
    return [line.split(maxsplit=1)[1] for line in listing.splitlines()]


def test_the_operator_library_needs_libtorch_and_no_python():
    names = " ".join(needed(library("_ops_cpu")))
    assert "libtorch_cpu.so" in names
    assert not re.search(r"python|cuda|nvrtc", names), names


def test_the_operator_library_takes_only_c_symbols_of_torch():
    """The stable ABI is plain C; a C++ symbol of torch would tie the library to one release."""
    symbols = foreign_symbols(library("_ops_cpu"))
    assert any(name.startswith("aoti_torch_") for name in symbols)
    assert [name for name in symbols if re.search(r"\b(at|c10|torch)::|^_?Py", name)] == []


def test_the_pybind_module_needs_no_torch():
    assert [name for name in needed(library("_C")) if "torch" in name or "c10" in name] == []


def test_the_version_stands_once(installed):
    text = (ROOT / "pyproject.toml").read_text()
    (version,) = re.findall(r'^version = "(.+)"$', text, re.M)
    assert installed.version == version
    sources = [path for folder in PACKAGES for path in folder.rglob("*.py")]
    sources += [ROOT / "setup.py", *(ROOT / "csrc").rglob("*.cpp"), *(ROOT / "csrc").rglob("*.h")]
    literal = re.compile(r"""["']""" + re.escape(version) + r"""["']""")
    assert [str(path) for path in sources if literal.search(path.read_text())] == []


def test_torch_is_the_only_dependency(installed):
    always = [line for line in installed.requires or [] if "extra ==" not in line]
    assert always == ["torch>=2.10"]


@pytest.mark.parametrize("package", ["ltlstm", "ltlstm_kernels"])
def test_the_packages_are_typed(package):
    assert resources.files(package).joinpath("py.typed").is_file()


def test_import_starts_no_cuda_and_pulls_in_no_extra(tmp_path):
    code = (
        "import sys, torch; before = set(sys.modules); import ltlstm; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "assert not new & {'triton', 'numpy', 'matplotlib', 'soundfile', 'rich', 'pytest'}, new; "
        "assert not torch.cuda.is_initialized()"
    )
    run = run_python(copy_packages(tmp_path, without=""), "-c", code)
    assert run.returncode == 0, run.stderr
