# SPDX-License-Identifier: Apache-2.0
"""Copies of the installed packages with libraries left out, run in a Python of their own."""

import fnmatch
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ltlstm
import ltlstm_kernels

PACKAGES = [Path(package.__path__[0]) for package in (ltlstm_kernels, ltlstm)]


def copy_packages(target: Path, without: str) -> Path:
    """Both packages under `target`, less the compiled libraries whose names match `without`."""

    def ignore(_folder: str, names: list[str]) -> list[str]:
        libraries = fnmatch.filter(names, without)
        return ["__pycache__", *(name for name in libraries if name.endswith(".so"))]

    for source in PACKAGES:
        shutil.copytree(source, target / source.name, ignore=ignore)
    return target


def run_python(packages: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs this Python with `packages` before all else on its path, and outside any checkout."""
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=packages, capture_output=True, text=True
    )
