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
    """What ptxas says of one kernel."""

    name: str  # demangled
    stack: int
    spilled: int
    registers: int
    static_shared: int


class Object(NamedTuple):
    """One source compiled for one architecture."""

    source: str
    arch: str
    path: Path
    log: str

    def kernels(self) -> list[Kernel]:
        pattern = (
            r"Compiling entry function '(\S+)' for '\S+'.*?"
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?"
            r"Used (\d+) registers([^\n]*)"
        )
        found = re.findall(pattern, self.log, re.S)
        names = demangled([name for name, *_ in found])
        kernels = []
        for name, (_, stack, stores, loads, registers, rest) in zip(names, found, strict=True):
            shared = re.search(r"(\d+) bytes smem", rest)
            spilled = int(stores) + int(loads)
            static = int(shared[1]) if shared else 0
            kernels.append(Kernel(name, int(stack), spilled, int(registers), static))
        return kernels

    def machine_code(self, cuobjdump: str) -> dict[str, set[str]]:
        """The instructions of each kernel, with their modifiers: "HMMA.16816.F32.BF16"."""
        dump = subprocess.check_output([cuobjdump, "-sass", str(self.path)], text=True)
        parts = re.split(r"^\s*Function : (\S+)$", dump, flags=re.M)[1:]
        operations = [
            set(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", code, re.M))
            for code in parts[1::2]
        ]
        return dict(zip(demangled(parts[::2]), operations, strict=True))


def demangled(names: list[str]) -> list[str]:
    """C++ names readable: of a kernel template its arguments, short."""
    if not names:
        return []
    text = subprocess.check_output(["c++filt", *names], text=True)
    return [re.sub(r"ltlstm::(cuda::)?", "", line) for line in text.splitlines()]


def compile_object(source: str, arch: str, folder: Path) -> Object:
    path = folder / f"{Path(source).stem}-{arch}.o"
    assert HOME is not None
    command = SETUP["nvcc_command"](HOME, source, str(path), [arch])
    run = subprocess.run([*command, "-Xptxas=-v"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, f"{source} for {arch}: {run.stderr}"
    return Object(source, arch, path, run.stderr)


def compile_all(folder: Path) -> list[Object]:
    """Every source for every architecture of the build, as many at once as there are processors."""
    jobs = [(source, arch) for source in SOURCES for arch in SETUP["architectures"](source)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda job: compile_object(*job, folder), jobs))


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
