# SPDX-License-Identifier: Apache-2.0
"""The GPU that bench/gpu.sh runs on: its facts, its clock, what nn.LSTM computes in on it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

import torch

from bench import record
from ltlstm_kernels import plan


def lost() -> str | None:
    """Why this process can use the GPU no more; None where it still can."""
    if not torch.cuda.is_initialized():
        return None
    try:
        torch.cuda.synchronize()
    except Exception as problem:
        return str(problem)
    return None


def plan_facts(emulated: bool) -> plan.DeviceFacts:
    found = dry_facts() if emulated else plan.device_facts()
    if found is None:
        raise RuntimeError("gpu: device must be of compute capability 8.0 or later")
    return found


@cache
def dry_facts() -> plan.DeviceFacts:
    """What a dry run plans for."""
    return plan.assumed_facts(90, 132, 232_448, 65_536)


@cache
def facts(emulated: bool) -> dict[str, Any]:
    found = record.facts() | {"emulated": emulated}
    if emulated or not torch.cuda.is_available():
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


def _driver() -> dict[str, Any]:
    query = "--query-gpu=driver_version,clocks.max.sm"
    try:
        run = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
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


@contextmanager
def without_tf32() -> Iterator[None]:
    """Inside, cuDNN computes float32 in float32: what an error is held against."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def peer_computes(dtype: torch.dtype, device: str) -> str:
    """What nn.LSTM multiplies in: of float32 cuDNN takes TF32 unless it is told not to."""
    if dtype == torch.float32 and device == "cuda" and torch.backends.cudnn.allow_tf32:
        return "tf32"
    return str(dtype).removeprefix("torch.")


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
