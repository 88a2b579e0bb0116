# SPDX-License-Identifier: Apache-2.0
"""Compiles csrc/cuda as setup.py does, and reads what the compiler and the machine code tell.

Everything here works without a GPU and without a CUDA build of torch; only nvcc is needed, and for
machine code cuobjdump, of the toolkit or of the triton wheel.
"""

import importlib.util
import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]


def setup_module() -> dict[str, Any]:
    """The names of setup.py, with nothing built."""
    with mock.patch("setuptools.setup"), mock.patch.dict(os.environ, LTLSTM_CUDA=""):
        return runpy.run_path(str(ROOT / "setup.py"))


SETUP = setup_module()
HOME: str | None = SETUP["home"]
SOURCES: list[str] = SETUP["cuda_sources"]
NO_NVCC = "no nvcc here: CUDA sources are not compiled (put it on PATH or set CUDA_HOME)"


class Kernel(NamedTuple):
    """What ptxas says of one kernel for one architecture."""

    name: str  # demangled
    arch: str  # as "sm_90a"
    stack: int
    spilled: int
    registers: int
    static_shared: int


class Object(NamedTuple):
    """One source, compiled for every architecture of the build."""

    source: str
    path: Path
    log: str

    def kernels(self) -> list[Kernel]:
        pattern = (
            r"Compiling entry function '(\S+)' for '(\S+)'.*?"
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?"
            r"Used (\d+) registers([^\n]*)"
        )
        found = re.findall(pattern, self.log, re.S)
        names = demangled([name for name, *_ in found])
        kernels = []
        for name, line in zip(names, found, strict=True):
            _, arch, stack, stores, loads, registers, rest = line
            shared = re.search(r"(\d+) bytes smem", rest)
            spilled = int(stores) + int(loads)
            static = int(shared[1]) if shared else 0
            kernels.append(Kernel(name, arch, int(stack), spilled, int(registers), static))
        return kernels

    def machine_code(self, cuobjdump: str, arch: str) -> dict[str, set[str]]:
        """The instructions of each kernel, with their modifiers: "HMMA.16816.F32.BF16"."""
        dump = subprocess.check_output(
            [cuobjdump, "-arch", arch, "-sass", str(self.path)], text=True
        )
        parts = re.split(r"^\s*Function : (\S+)$", dump, flags=re.M)[1:]
        operation = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", re.M)
        found = [set(operation.findall(code)) for code in parts[1::2]]
        return dict(zip(demangled(parts[::2]), found, strict=True))


def demangled(names: list[str]) -> list[str]:
    """C++ names readable, without our namespaces."""
    if not names:
        return []
    text = subprocess.check_output(["c++filt"], input="\n".join(names), text=True)
    return [re.sub(r"ltlstm::(cuda::)?", "", line) for line in text.splitlines()]


def compile_object(source: str, archs: Sequence[str], folder: Path) -> Object:
    assert HOME is not None
    path = folder / f"{Path(source).name}.o"
    command = SETUP["nvcc_command"](HOME, source, str(path), archs)
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, f"{source}: {run.stdout}{run.stderr}"
    return Object(source, path, run.stdout + run.stderr)


def built_object(source: str) -> Object | None:
    """What the last build left of a source, if nothing has changed since."""
    for path in ROOT.glob(f"build/objects-*/ltlstm_kernels._ops_cuda/{Path(source).name}.o"):
        log = path.with_suffix(".log")
        if log.exists() and path.stat().st_mtime >= SETUP["newest_input"](source, path):
            return Object(source, path, log.read_text())
    return None


def objects(folder: Path) -> list[Object]:
    """Every source as the build compiles it: from the build, or now, as many at once as there are
    processors."""

    def found(source: str) -> Object:
        archs = SETUP["architectures"](source)
        return built_object(source) or compile_object(source, archs, folder)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(found, SOURCES))


def knows(arch: str) -> bool:
    """Whether this nvcc compiles for an architecture, as "10.0"."""
    assert HOME is not None
    listed = subprocess.check_output([f"{HOME}/bin/nvcc", "--list-gpu-arch"], text=True)
    return f"compute_{arch.replace('.', '')}" in listed.split()


def cuobjdump() -> str | None:
    """The tool's path, of the toolkit or of the triton wheel."""
    candidates = [f"{HOME}/bin/cuobjdump", shutil.which("cuobjdump") or ""]
    triton = importlib.util.find_spec("triton")
    if triton is not None and triton.origin is not None:
        candidates.append(str(Path(triton.origin).parent / "backends/nvidia/bin/cuobjdump"))
    return next((path for path in candidates if os.access(path, os.X_OK)), None)
