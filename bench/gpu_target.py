# SPDX-License-Identifier: Apache-2.0
"""What the GPU benchmarks run on: a GPU, or in a dry run the same kernels emulated on the CPU."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench import record
from ltlstm_kernels import plan

# What a dry run plans for.
DRY = plan.assumed_facts(90, 132, 232_448, 65_536)


class Skipped(Exception):
    """A stage that this machine has nothing for; the text says what is missing."""


@dataclass(frozen=True)
class Target:
    """Where a stage runs, and where it writes."""

    out: Path
    quick: bool
    emulated: bool

    @property
    def device(self) -> str:
        return "cpu" if self.emulated else "cuda"

    @property
    def backend(self) -> str:
        """Of our own kernels, named. Emulated they stand in the place of the CPU's."""
        return "cpu" if self.emulated else "cuda"

    @property
    def rows(self) -> Path:
        return self.out / "gpu.jsonl"

    def facts(self) -> dict[str, Any]:
        """As every line carries them; the processor is the GPU."""
        found = record.facts() | {"emulated": self.emulated}
        if self.emulated or not torch.cuda.is_available():
            return found | {"processor": f"dry run, {found['processor']}"}
        properties = torch.cuda.get_device_properties(0)
        return found | {
            "processor": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "sms": properties.multi_processor_count,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            **_driver(),
        }

    def plan_facts(self) -> plan.DeviceFacts:
        found = DRY if self.emulated else plan.device_facts()
        if found is None:
            raise RuntimeError("gpu: device must be of compute capability 8.0 or later")
        return found

    def write(self, row: dict[str, Any]) -> None:
        record.append(self.rows, self.facts() | row)
        print(json.dumps(row), flush=True)


def _driver() -> dict[str, Any]:
    query = [
        "nvidia-smi",
        "--query-gpu=driver_version,clocks.max.sm",
        "--format=csv,noheader,nounits",
    ]
    try:
        run = subprocess.run(query, capture_output=True, text=True)
    except FileNotFoundError:
        return {}
    if run.returncode != 0 or not run.stdout:
        return {}
    version, clock = run.stdout.splitlines()[0].split(", ")
    return {"driver": version, "clock_mhz": float(clock)}


def seconds_of(device: str) -> Callable[[Callable[[], Any]], float]:
    """The stopwatch of timing.measure: by events of the GPU, which count no waiting for the CPU."""

    def on_gpu(run: Callable[[], Any]) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def on_cpu(run: Callable[[], Any]) -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return on_gpu if device == "cuda" else on_cpu


def environment(target: Target) -> dict[str, str]:
    """Of a program that shall use our kernels wherever it names no backend."""
    return {**os.environ, "LTLSTM_BACKEND": "emulated" if target.emulated else "cuda"}


def emulated_kernels() -> AbstractContextManager[object]:
    """Inside, the operators of the CPU are the CUDA binding over emulated kernels."""
    tests = str(record.ROOT / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    try:
        from emulated_library import emulated
    except ImportError as error:
        raise RuntimeError(f"there is no emulated library: {error}") from error
    return emulated()
