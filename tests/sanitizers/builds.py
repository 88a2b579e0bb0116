# SPDX-License-Identifier: Apache-2.0
"""The CPU kernels and the driver beside this file, compiled under a sanitizer and run."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
UNITS = [*sorted((CSRC / "cpu").glob("*.cpp")), HERE / "driver.cpp"]
COMPILER = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++17", "-g1", "-Wall", "-Wextra", "-pthread", "-fno-sanitize-recover=all"]
# What these two see the address sanitizer sees too, and they make a fifth of the compiler's work.
FLAGS.append("-fno-sanitize=null,object-size")

# A hang is a failure; a loaded machine is none.
WATCHDOG_S = 300
OPTIONS = {
    "TSAN_OPTIONS": "halt_on_error=1 atexit_sleep_ms=0",
    "ASAN_OPTIONS": "detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def run(command: Iterable[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WATCHDOG_S,
    )


def must(command: Iterable[str | Path]) -> None:
    done = run(command)
    assert done.returncode == 0, done.stdout


def supported(sanitizers: str, folder: Path) -> bool:
    """Whether the compiler has these sanitizers and their libraries."""
    source = folder / "empty.cpp"
    source.write_text("int main() {}\n")
    done = run([COMPILER, f"-fsanitize={sanitizers}", source, "-o", folder / "empty"])
    return done.returncode == 0


def compile_unit(
    source: Path, sanitizers: str, target: Path, csrc: Path = CSRC, optimise: str = "-O0"
) -> Path:
    """The object file `target`; headers come from the folder `csrc`."""
    watched = [f"-fsanitize={sanitizers}"] if sanitizers else []
    must([COMPILER, *FLAGS, optimise, *watched, f"-I{csrc}", "-c", source, "-o", target])
    return target


def link(objects: Iterable[Path], sanitizers: str, target: Path) -> Path:
    must([COMPILER, "-pthread", f"-fsanitize={sanitizers}", *objects, "-o", target])
    return target


def fixed_addresses() -> list[str]:
    """A prefix that keeps the kernel from placing memory where older TSan cannot have it."""
    prefix = ["setarch", "-R"]
    works = shutil.which(prefix[0]) and run([*prefix, "true"]).returncode == 0
    return prefix if works else []


def run_driver(program: Path, isa: str, *parts: str) -> subprocess.CompletedProcess[str]:
    return run([*fixed_addresses(), program, *parts], LTLSTM_CPU_ISA=isa, **OPTIONS)
