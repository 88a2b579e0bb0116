# SPDX-License-Identifier: Apache-2.0
"""Sources of csrc/cuda compiled for the emulator, under one of three watchers, and run.

    program = build([driver_cpp], "threads", folder)
    done = run_program(program, "argument", seed=3)

Watchers: `plain` sees broken rules, deadlocks and wrong results, `memory` also what the address and
undefined-behaviour sanitizers see, `threads` data races. Objects of sources as they are stay in
build/emulated, so that programs, test processes and runs share them.
"""

import fcntl
import functools
import hashlib
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from sanitizers.builds import COMPILER, CSRC, OPTIONS, fixed_addresses, must, run, supported

HERE = Path(__file__).resolve().parent
KERNELS = HERE / "kernels"  # programs that run kernels of csrc/cuda
RUNTIME = sorted(HERE.glob("*.cpp"))
INSTRUMENTED = "copy.cpp"  # the one file of the runtime that acts for the kernel
KEPT = CSRC.parent / "build" / "emulated"

FLAGS = ["-std=c++17", "-g1", "-Wall", "-Wextra", "-pthread", "-fPIC", "-fvisibility=hidden"]
# A kernel looks at memory as other types than it was written as, which nvcc allows.
FLAGS += ["-fno-strict-aliasing", "-Wno-unknown-pragmas", "-DLTLSTM_EMULATED"]


class Watcher(NamedTuple):
    sanitizers: str  # of the kernels
    runtime: tuple[str, ...]  # flags of the runtime
    optimise: str


WATCHERS = {
    "plain": Watcher("", (), "-O1"),
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


def _compile(source: Path, target: Path, flags: Sequence[str], csrc: Path) -> Path:
    language = ["-x", "c++"] if source.suffix == ".cu" else []
    folders = [f"-I{csrc}", f"-I{HERE}"]
    must([COMPILER, *FLAGS, *flags, *folders, *language, "-c", source, "-o", target])
    return target


@functools.cache
def _surroundings() -> bytes:
    """A digest of what every source may include, and of the compiler."""
    digest = hashlib.sha256(run([COMPILER, "--version"]).stdout.encode())
    for folder in (CSRC, HERE):
        for path in sorted([*folder.rglob("*.h"), *folder.rglob("*.cuh")]):
            digest.update(str(path).encode() + path.read_bytes())
    return digest.digest()


def _kept(source: Path, flags: Sequence[str]) -> Path:
    """The object of a source as it is, compiled unless some process has done so before; one that
    wants it meanwhile waits."""
    KEPT.mkdir(parents=True, exist_ok=True)
    same = hashlib.sha256(repr((str(source), FLAGS, flags)).encode()).hexdigest()[:12]
    digest = hashlib.sha256(_surroundings() + source.read_bytes()).hexdigest()[:12]
    name = f"{source.stem}-{same}"
    wanted = KEPT / f"{name}-{digest}.o"
    with (KEPT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not wanted.exists():
            for older in KEPT.glob(f"{name}-*.o"):
                older.unlink()
            _compile(source, KEPT / f"{name}.part", flags, CSRC).rename(wanted)
    return wanted


def objects(sources: Sequence[Path], watcher: str, flags: Sequence[str] = ()) -> list[Path]:
    """Of sources as they are; kept in build/emulated, so that all programs share them."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda s: _kept(s, [*_kernel_flags(watcher), *flags]), sources))


def _runtime(watcher: str) -> list[Path]:
    own = [WATCHERS[watcher].optimise, *WATCHERS[watcher].runtime]
    kernel = [source for source in RUNTIME if source.name == INSTRUMENTED]
    others = [source for source in RUNTIME if source.name != INSTRUMENTED]
    with ThreadPoolExecutor(2) as pool:
        return objects(kernel, watcher) + list(pool.map(lambda s: _kept(s, own), others))


def link(
    compiled: Sequence[Path],
    watcher: str,
    target: Path,
    shared: bool = False,
    libraries: Sequence[str] = (),
) -> Path:
    """The program of these objects and the runtime; with `shared` a library."""
    sanitizers = WATCHERS[watcher].sanitizers
    flags = [f"-fsanitize={sanitizers}"] * bool(sanitizers) + ["-shared"] * shared
    must([COMPILER, "-pthread", *flags, *compiled, *_runtime(watcher), *libraries, "-o", target])
    return target


def build(sources: Sequence[Path], watcher: str, folder: Path) -> Path:
    """The program made of `sources` and the runtime, named as the first."""
    return link(objects(sources, watcher), watcher, folder / f"{watcher}-{sources[0].stem}")


def build_changed(sources: Sequence[Path], watcher: str, folder: Path, csrc: Path) -> Path:
    """The program made of `sources` and of headers in a changed copy `csrc` of a folder; what is
    not in the copy comes from csrc itself."""

    def compile_one(source: Path) -> Path:
        flags = [*_kernel_flags(watcher), "-idirafter", str(CSRC)]
        return _compile(source, folder / f"{watcher}-{source.stem}.o", flags, csrc)

    with ThreadPoolExecutor(2) as pool:
        return link(list(pool.map(compile_one, sources)), watcher, folder / f"{watcher}-program")


def run_program(
    program: Path, *arguments: str | Path, seed: int = 0
) -> subprocess.CompletedProcess[str]:
    """What it did; stdout and stderr are one text."""
    command = [*fixed_addresses(), program, *arguments]
    return run(command, EMULATOR_SEED=str(seed), **ENVIRONMENT)
