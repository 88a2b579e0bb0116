# SPDX-License-Identifier: Apache-2.0
"""Which implementation serves a call, and, for each that does not, every reason why.

cuda, triton and cpu are this package's kernels, aten is torch's own LSTM, reference the plain torch
loops. The reference takes everything, so `auto` always finds one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

import ltlstm_kernels

BACKENDS = ("auto", "cuda", "triton", "cpu", "aten", "reference")

# `auto` takes the first of these that can run.
_PREFERENCE = ("cuda", "cpu", "aten", "reference")

# Half types are storage on the CPU: such a call is computed in float32.
_CPU_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class Asked(NamedTuple):
    """What a call needs of its backend."""

    op: str
    device: str  # type of the device, as "cpu"
    dtype: torch.dtype  # of the input
    beyond_torch: Sequence[str]  # features that torch's own LSTM lacks
    python_only: str | None  # why a kernel would not see the whole call, as under vmap


def _missing_library(name: str) -> str | None:
    library = ltlstm_kernels.libraries()[name]
    return None if library.loaded else f"the library {name} is missing: {library.error}"


# Libraries load once, on import, so their absence is a constant that torch.compile can fold.
_MISSING = {"cpu": _missing_library("_ops_cpu"), "cuda": _missing_library("_ops_cuda")}


def reasons(backend: str, asked: Asked) -> list[str]:
    """Every reason why this backend cannot serve the call; empty if it can."""
    found: list[str] = []
    if backend == "reference":
        return found
    if backend == "triton":
        return [f"no Triton kernel computes {asked.op}"]
    if asked.python_only is not None:
        found.append(asked.python_only)
    if backend == "aten":
        found += [f"torch's own LSTM has no {feature}" for feature in asked.beyond_torch]
        if torch.compiler.is_compiling():
            found.append("torch.compile and torch.export cannot trace torch's own LSTM")
        return found
    missing = _MISSING[backend]
    if missing is not None:
        found.append(missing)
    if asked.device != backend:
        found.append(f"the input is on {asked.device}")
    if backend == "cpu" and asked.dtype not in _CPU_DTYPES:
        found.append(f"it does not compute in {asked.dtype}")
    return found


def choose(backend: str | None, asked: Asked) -> str:
    """The backend that serves the call. One that was named and cannot raises RuntimeError."""
    if backend is None or backend == "auto":
        return next(name for name in _PREFERENCE if not reasons(name, asked))
    if backend not in BACKENDS:
        raise ValueError(f"{asked.op}: backend must be one of {BACKENDS}, got {backend!r}")
    found = reasons(backend, asked)
    if found:
        raise RuntimeError(f"{asked.op}: backend {backend!r} cannot run: {'; '.join(found)}")
    return backend
