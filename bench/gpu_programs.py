# SPDX-License-Identifier: Apache-2.0
"""Programs of CUDA source in this folder, built for the GPU at hand or for the emulator."""

import os
import subprocess
import sys
from pathlib import Path

from bench import record
from bench.gpu_target import Target


def for_emulator(source: Path, folder: Path) -> Path:
    tests = str(record.ROOT / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    from emulator.builds import build

    return build([source], "plain", folder)


def for_gpu(source: Path, folder: Path, target: Target) -> Path:
    program = folder / source.stem
    number = str(target.facts()["capability"]).replace(".", "")
    arch = f"sm_{number}a" if int(number) >= 90 else f"sm_{number}"
    nvcc = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin", "nvcc")
    includes = f"-I{record.ROOT / 'csrc'}"
    command = [nvcc, "-std=c++17", "-O2", includes, f"-arch={arch}", source, "-o", program]
    subprocess.run([str(part) for part in command], check=True)
    return program


def output(program: Path, *arguments: object, **environment: str) -> str:
    """What it prints; RuntimeError where it fails."""
    run = subprocess.run(
        [str(program), *map(str, arguments)],
        capture_output=True, text=True, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip
    if run.returncode != 0:
        said = (run.stdout + run.stderr)[-400:]
        raise RuntimeError(f"{program.name}: exit status {run.returncode}: {said}")
    return run.stdout
