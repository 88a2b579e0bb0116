# SPDX-License-Identifier: Apache-2.0
"""Sources of csrc/cuda compiled for the emulator, under one of three watchers, and run.

    program = build([driver_cpp], "threads", folder)
    done = run_program(program, "argument", seed=3)

Watchers: `plain` sees broken rules, deadlocks and wrong results, `memory` also what the address and
undefined-behaviour sanitizers see, `threads` data races. The runtime is compiled once a process.
"""

import atexit
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from sanitizers.builds import COMPILER, CSRC, OPTIONS, fixed_addresses, must, run, supported

HERE = Path(__file__).resolve().parent
RUNTIME = sorted(HERE.glob("*.cpp"))
INSTRUMENTED = "copy.cpp"  # the one file of the runtime that acts for the kernel

FLAGS = ["-std=c++17", "-g1", "-Wall", "-Wextra", "-pthread", "-fPIC"]
# A kernel looks at memory as other types than it was written as, which nvcc allows.
FLAGS += ["-fno-strict-aliasing", "-Wno-unknown-pragmas", "-DLTLSTM_EMULATED"]


class Watcher(NamedTuple):
    sanitizers: str  # of the kernels
    runtime: tuple[str, ...]  # flags of the runtime
    optimise: str


WATCHERS = {
    "plain": Watcher("", (), "-O2"),
    "memory": Watcher("address,undefined", ("-fsanitize=address",), "-O1"),
    "threads": Watcher("thread", ("-DEMULATOR_TSAN",), "-O1"),
}
# g++ takes the address of a member for a use of a null object where there is none.
UNDEFINED = ("-fno-sanitize=null", "-fno-sanitize-recover=all")
# A stack that a fiber leaves for good is no leak.
ENVIRONMENT = {**OPTIONS, "ASAN_OPTIONS": "detect_leaks=0", "EMULATOR_TIMEOUT": "60"}


def missing_sanitizer(watcher: str) -> str | None:
    """Why programs for this watcher cannot be built here, or None."""
    sanitizers = WATCHERS[watcher].sanitizers
    with tempfile.TemporaryDirectory() as folder:
        if not sanitizers or supported(sanitizers, Path(folder)):
            return None
    return f"{COMPILER} has no -fsanitize={sanitizers}"


def _kernel_flags(watcher: str) -> list[str]:
    sanitizers, _, optimise = WATCHERS[watcher]
    return [optimise, *([f"-fsanitize={sanitizers}", *UNDEFINED] if sanitizers else [])]


def _compile(source: Path, target: Path, flags: Iterable[str], csrc: Path) -> Path:
    language = ["-x", "c++"] if source.suffix == ".cu" else []
    folders = [f"-I{csrc}", f"-I{HERE}"]
    must([COMPILER, *FLAGS, *flags, *folders, *language, "-c", source, "-o", target])
    return target


@functools.cache
def runtime_objects(watcher: str) -> tuple[Path, ...]:
    folder = Path(tempfile.mkdtemp(prefix="emulator-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)

    def compile_one(source: Path) -> Path:
        own = [WATCHERS[watcher].optimise, *WATCHERS[watcher].runtime]
        flags = _kernel_flags(watcher) if source.name == INSTRUMENTED else own
        return _compile(source, folder / f"{source.stem}.o", flags, CSRC)

    with ThreadPoolExecutor(2) as pool:
        return tuple(pool.map(compile_one, RUNTIME))


def build(
    sources: Sequence[Path],
    watcher: str,
    folder: Path,
    csrc: Path = CSRC,
    flags: Sequence[str] = (),
    shared: bool = False,
    libraries: Sequence[str] = (),
) -> Path:
    """The program made of `sources` and the runtime; with `shared` a library instead.

    Headers come from the folder `csrc`, which may be a copy, and from that of the emulator.
    """

    def compile_one(numbered: tuple[int, Path]) -> Path:
        number, source = numbered
        target = folder / f"{watcher}-{number}-{source.stem}.o"
        return _compile(source, target, [*_kernel_flags(watcher), *flags], csrc)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, enumerate(sources)))
    program = folder / f"{watcher}-{'library.so' if shared else 'program'}"
    sanitizers = WATCHERS[watcher].sanitizers
    linked = [f"-fsanitize={sanitizers}"] if sanitizers else []
    if shared:
        linked.append("-shared")
    objects += runtime_objects(watcher)
    must([COMPILER, "-pthread", *linked, *objects, *libraries, "-o", program])
    return program


def run_program(
    program: Path, *arguments: str | Path, seed: int = 0
) -> subprocess.CompletedProcess[str]:
    """What it did; stdout and stderr are one text."""
    command = [*fixed_addresses(), program, *arguments]
    return run(command, EMULATOR_SEED=str(seed), **ENVIRONMENT)
