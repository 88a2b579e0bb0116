# SPDX-License-Identifier: Apache-2.0
"""The first stage of bench/gpu.sh: the libraries that came with the checkout work here."""

import time

import torch

import ltlstm
import ltlstm_kernels
from bench.gpu.target import Target

BRING = "build it where there is nvcc, and bring ltlstm_kernels/*.so along"


def library(target: Target) -> None:
    """They load, torch has all that they want of it, and a call gives finite numbers."""
    target.need_device()
    wanted = ["_ops_cpu"] if target.emulated else ["_ops_cpu", "_ops_cuda"]
    found = ltlstm_kernels.libraries()
    for name in wanted:
        if not found[name].loaded:
            raise RuntimeError(f"the library {name} is missing: {found[name].error}; {BRING}")
    print(f"{' and '.join(wanted)} are loaded, with all that they take from torch")
    start = time.perf_counter()
    module = ltlstm.LSTM(8, 8, device=target.device, dtype=torch.bfloat16, backend=target.backend)
    x = torch.ones(2, 1, 8, device=target.device, dtype=torch.bfloat16)
    finite = module(x)[0].isfinite().all().item()
    facts = target.plan_facts()._asdict()
    target.write(
        {
            "group": "library", "libraries": {name: found[name].error for name in found},
            "first_call": time.perf_counter() - start, "device": facts,
        }
    )  # fmt: skip
    if not finite:
        raise RuntimeError("the first call gives numbers that are not finite")
