# SPDX-License-Identifier: Apache-2.0
"""The programs of CUDA source in this folder: built beforehand, here and now, or for the emulator.

Each takes as its last argument the number of the measurement to begin with, prints a line each, and
ends with CONTEXT_LOST after one that has cost it the GPU: the others then have a process anew.
"""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from bench import record
from bench.gpu.target import Target

HERE = Path(__file__).resolve().parent
PROGRAMS = sorted(HERE.glob("*.cu"))
CONTEXT_LOST = 3  # an exit status; 1: something else was wrong
MARGIN = 2.0  # seconds before its stage is over in which a program is stopped


def digest(source: Path) -> str:
    """Of all that a program is made of, so that none stands in for one of other sources."""
    folders = (HERE, record.ROOT / "csrc", record.ROOT / "tests" / "emulator")
    kinds = (".h", ".cuh", ".cpp")
    paths = [p for folder in folders for p in sorted(folder.rglob("*")) if p.suffix in kinds]
    found = hashlib.sha256(source.read_bytes())
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def _name(source: Path, arch: str) -> str:
    return f"{source.stem}-sm_{arch}-{digest(source)}"


def compile_for(source: Path, arch: str, program: Path) -> Path:
    from tests import cuda_build  # setup.py's rule of where nvcc is

    if cuda_build.HOME is None:
        raise RuntimeError(f"{program.name} was not prepared, and {cuda_build.NO_NVCC}")
    includes = f"-I{record.ROOT / 'csrc'}"
    command = [f"{cuda_build.HOME}/bin/nvcc", "-std=c++17", "-O2", includes, f"-arch=sm_{arch}"]
    run = subprocess.run(
        [*command, str(source), "-o", str(program)], capture_output=True, text=True
    )
    if run.returncode != 0:
        raise RuntimeError(f"nvcc failed on {source.name}: {run.stderr[-400:]}")
    return program


def prepare(folder: Path, arch: str) -> None:
    """Builds every program for an architecture, as 90a; what was there before goes."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in PROGRAMS:
        for older in folder.glob(f"{source.stem}-sm_{arch}-*"):
            older.unlink()
        print(compile_for(source, arch, folder / _name(source, arch)), flush=True)


def built(source: Path, target: Target) -> Path:
    """The program: of a dry run for the emulator; else what was prepared, or compiled now."""
    if target.emulated:
        return for_emulator(source, target.scratch)
    number = str(target.facts()["capability"]).replace(".", "")
    name = _name(source, f"{number}a" if int(number) >= 90 else number)
    ready = target.prepared / name
    if not ready.exists():
        arch = name.split("-sm_")[1].partition("-")[0]
        return compile_for(source, arch, target.scratch / name)
    if not os.access(ready, os.X_OK):  # a copy of files may lose it
        ready.chmod(0o755)
    return ready


def for_emulator(source: Path, folder: Path) -> Path:
    tests = str(record.ROOT / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    from emulator.builds import link, objects

    # The digest stands here so that other headers make other objects.
    compiled = objects([source], "plain", [f'-DMADE_OF="{digest(source)}"'])
    return link(compiled, "plain", folder / f"plain-{source.stem}")


def _end(pid: int) -> None:
    """Kills a process with all that it has started, which may hold its output open."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # one that has just ended
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    for member in family:
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


def lines(command: Sequence[str], seconds: float, **environment: str) -> Iterator[str]:
    """What a program says, line by line. Raises TimeoutError where it was stopped after so many
    seconds, RuntimeError where it failed: with the exit status and its last words."""
    last = ""
    with subprocess.Popen(
        command, cwd=record.ROOT, env={**os.environ, **environment}, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        late = threading.Event()

        def stop() -> None:
            late.set()
            _end(process.pid)

        timer = threading.Timer(min(max(seconds, 0.0), threading.TIMEOUT_MAX), stop)
        timer.daemon = True
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                last = line.strip() or last
                yield line.rstrip("\n")
        except GeneratorExit:  # the rest is not wanted
            _end(process.pid)
            raise
        finally:
            timer.cancel()
    if late.is_set():
        raise TimeoutError(f"{Path(command[0]).name} was stopped after {seconds:.0f} s")
    if process.returncode != 0:
        raise Failed(process.returncode, f"{Path(command[0]).name}: ", last)


class Failed(RuntimeError):
    """A program's exit status, with its last words."""

    def __init__(self, status: int, who: str, last: str) -> None:
        super().__init__(f"{who}exit status {status}: {last or 'no output'}")
        self.status = status


def measurements(
    program: Path, arguments: Sequence[object], seconds: float, take: Callable[[str], None],
    **environment: str,
) -> str | None:  # fmt: skip
    """Hands on every line as it comes; what went wrong, or None. A measurement that ends the
    program loses only itself."""
    begin, wrong = 0, None
    while True:
        command = [str(program), *map(str, arguments), str(begin)]
        before = begin
        try:
            for line in lines(command, seconds, **environment):
                begin += 1
                take(line)
            return wrong
        except TimeoutError as late:
            return str(late)
        except Failed as failed:
            wrong = wrong or str(failed)
            if failed.status == 1 or begin == before:
                return wrong
