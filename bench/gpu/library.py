# SPDX-License-Identifier: Apache-2.0
"""The first stage of bench/gpu.sh: the libraries that came with the checkout work here."""

import ctypes
import re
import time
from pathlib import Path

import torch

import ltlstm
import ltlstm_kernels
from bench import record
from bench.gpu.target import Target

BRING = "build it where there is nvcc, and bring ltlstm_kernels/*.so along"


def weak_names(bindings: Path = record.ROOT / "csrc" / "binding") -> list[str]:
    """What the CUDA library wants of torch and can be loaded without."""
    texts = [path.read_text() for path in sorted([*bindings.glob("*.h"), *bindings.glob("*.cpp")])]
    return sorted(set(re.findall(r"^#pragma weak (\w+)", "\n".join(texts), re.MULTILINE)))


def null_names(library: Path, names: list[str]) -> list[str]:
    """Those that the library cannot have found: neither it, nor what it is linked with, nor the
    process has them. A call of one is a jump to address 0."""
    places = [ctypes.CDLL(str(library)), ctypes.CDLL(None)]
    return [name for name in names if not any(hasattr(place, name) for place in places)]


def library(target: Target) -> None:
    """They load, torch has all that they want of it, and a call gives finite numbers."""
    target.need_device()
    wanted = ["_ops_cpu"] if target.emulated else ["_ops_cpu", "_ops_cuda"]
    found = ltlstm_kernels.libraries()
    for name in wanted:
        if not found[name].loaded:
            raise RuntimeError(f"the library {name} is missing: {found[name].error}; {BRING}")
    names = [] if target.emulated else weak_names()
    path = found[wanted[-1]].path
    assert path is not None
    if null := null_names(path, names):
        raise RuntimeError(f"{path.name} found nothing in this torch for {', '.join(null)}")
    print(f"{' and '.join(wanted)} are loaded, and torch has all {len(names)} names they want")
    start = time.perf_counter()
    module = ltlstm.LSTM(8, 8, device=target.device, dtype=torch.bfloat16, backend=target.backend)
    x = torch.ones(2, 1, 8, device=target.device, dtype=torch.bfloat16)
    finite = module(x)[0].isfinite().all().item()
    facts = target.plan_facts()._asdict()
    target.write(
        {
            "group": "library", "libraries": {name: found[name].error for name in found},
            "names": names, "first_call": time.perf_counter() - start, "device": facts,
        }
    )  # fmt: skip
    if not finite:
        raise RuntimeError("the first call gives numbers that are not finite")
