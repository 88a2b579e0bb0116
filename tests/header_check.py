# SPDX-License-Identifier: Apache-2.0
"""Compiles what sees torch, of both operator libraries, against the headers of other releases.

`python header_check.py TORCH...`: each a folder that holds torch/include, or a release, 2.11.0,
whose wheel pip then downloads (about 0.5 GB, for its headers). No object is made. With the Python
of a built checkout.
"""

import os
import runpy
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]


def setup_module(**environment: str) -> dict[str, Any]:
    """The names of setup.py, with nothing built."""
    with mock.patch("setuptools.setup"), mock.patch.dict(os.environ, environment):
        return runpy.run_path(str(ROOT / "setup.py"))


def compilations(headers: Path) -> Iterator[list[str]]:
    """A command for each source of an operator library that includes torch."""
    home = setup_module(LTLSTM_CUDA="0")["home"]
    if home is None:
        print("headers: no nvcc here, the CUDA library is left out (set CUDA_HOME)")
    setup = setup_module(LTLSTM_CUDA="0" if home is None else "1")
    flags = [flag for flag in setup["CXX_FLAGS"] if not flag.startswith("-isystem")]
    flags += [f"-isystem{headers / path}" for path in ("", "torch/csrc/api/include")]
    for extension in setup["extensions"]:
        if not extension.name.rpartition(".")[2].startswith("_ops"):
            continue
        macros = ["-D" + "=".join(filter(None, macro)) for macro in extension.define_macros]
        toolkit = [f"-I{home}/include"] if home else []
        for source in extension.sources:
            if source.startswith("csrc/binding/"):
                compiler = [os.environ.get("CXX", "g++"), "-fsyntax-only", "-Werror"]
                yield [*compiler, *flags, *macros, f"-I{setup['CSRC']}", *toolkit, source]


def unpacked(release: str, folder: Path) -> Path:
    """The headers of a release."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--dest", folder, f"torch=={release}"], check=True)
    (wheel,) = folder.glob("torch-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        headers = [name for name in archive.namelist() if name.startswith("torch/include/")]
        archive.extractall(folder, headers)
    wheel.unlink()
    return folder


def failures(headers: Path) -> list[str]:
    """What the compiler says of each source that it does not take."""

    def said(command: list[str]) -> str:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        return "" if run.returncode == 0 else f"{command[-1]}: {run.stderr}"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(filter(None, pool.map(said, compilations(headers))))


def main(*releases: str) -> int:
    failed = 0
    for release in releases:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            root = Path(release) if Path(release).is_dir() else unpacked(release, Path(folder))
            found = failures(root / "torch" / "include")
        print(*found, sep="\n", end="")
        took = time.monotonic() - start
        print(f"headers: torch {release}: {len(found)} sources fail ({took:.0f} s)", flush=True)
        failed += len(found)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
