# SPDX-License-Identifier: Apache-2.0
"""Which implementation serves a call, and, for each that does not, every reason why.

cuda, triton and cpu are this package's kernels, aten is torch's own LSTM, reference the plain torch
loops. The reference takes everything, so `auto` always finds one. Who says it, the first that does:
the argument, `use_backend`, the environment variable LTLSTM_BACKEND. With LTLSTM_STRICT=1 a call
that `auto` cannot serve by a kernel of ours is an error. Both variables are read at each call;
under torch.compile and torch.export, when the call is traced. These cannot trace aten, so that what
`auto` leaves to it runs there on our kernels, or, where there is none, on the reference. While
torch.onnx.export traces, the answer is always `onnx`: nodes of standard ONNX.
"""

import operator
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch

import ltlstm_kernels
from ltlstm_kernels import onnx_export, plan, triton_ops
from ltlstm_kernels.capture import is_captured
from ltlstm_kernels.measured import Sizes, aten_is_faster, cuda_is_faster

BACKENDS = ("auto", "cuda", "triton", "cpu", "aten", "reference")

# `auto` takes the first of these that can run; no kernel but its own reaches a device.
_PREFERENCE = {
    "cuda": ("cuda", "triton", "aten", "reference"),
    "cpu": ("cpu", "aten", "reference"),
}
_NO_KERNEL = ("aten", "reference")
_KERNELS = ("cuda", "triton", "cpu")

_HALF = (torch.bfloat16, torch.float16)
_DTYPES = (torch.float32, torch.float64, *_HALF)
_COMPUTES = {"cpu": _DTYPES, **dict.fromkeys(("cuda", "triton"), (torch.float32, *_HALF))}


class Asked(NamedTuple):
    """What a call needs of its backend."""

    op: str
    device: str  # type of the device, as "cpu"
    dtype: torch.dtype  # of the input
    beyond_torch: Sequence[str]  # features that torch's own LSTM lacks
    python_only: str | None  # why an operator would not see the whole call, as under vmap
    autocast: torch.dtype | None = None  # the dtype that autocast asks for
    sizes: Sizes | None = None  # where the tables of measurements know the operator
    inference: bool = False  # no gradient, no states of every step, no dropout
    shape: plan.Shape | None = None  # of a stack that is not on the CPU
    device_index: int | None = None  # which of several devices
    aten_sees: bool = False  # what is python_only for ours alone


class _Local(threading.local):
    """What `use_backend` and `question` say to the calls of this thread.

    In __init__, so that each thread has them in its instance: torch.compile guards no others.
    """

    def __init__(self) -> None:
        self.named: str | None = None
        self.asking = False


_local = _Local()


class _Question(BaseException):
    """Carries what a call asks out of it; no handler on the way may take it for an error."""

    def __init__(self, requested: str | None, asked: Asked) -> None:
        self.requested, self.asked = requested, asked


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """The backend of this thread's calls inside that name none themselves; the innermost counts.

    name: one of ``auto, cuda, triton, cpu, aten, reference``, else ValueError. A call inside that
    it cannot serve raises RuntimeError. Compiled functions compile again where it has changed. As
    torch.no_grad it is of the thread: held over an await it reaches the thread's other tasks.
    """
    _check_name("use_backend", name)
    before = _local.named
    _local.named = name
    try:
        yield
    finally:
        _local.named = before


def _check_name(where: str, name: str) -> None:
    if name not in BACKENDS:
        raise ValueError(f"{where}: backend must be one of {BACKENDS}, got {name!r}")


def requested(argument: str | None) -> tuple[str, str]:
    """The requested backend and where the request came from; unchecked."""
    if argument is not None:
        return argument, "the argument"
    if _local.named is not None:
        return _local.named, "use_backend"
    variable = os.environ.get("LTLSTM_BACKEND")
    return (variable, "LTLSTM_BACKEND") if variable else ("auto", "default")


def strict() -> bool:
    """Whether every fallback is an error."""
    value = os.environ.get("LTLSTM_STRICT") or "0"
    if value not in ("0", "1"):
        raise ValueError(f"ltlstm: LTLSTM_STRICT must be 0 or 1, got {value!r}")
    return value == "1"


def _missing_library(name: str) -> str | None:
    library = ltlstm_kernels.libraries()[name]
    return None if library.loaded else f"the library {name} is missing: {library.error}"


# Libraries load once, on import, so their absence is a constant that torch.compile can fold.
# The schemas of what runs on Triton stand in the CPU library.
_MISSING = {
    "cpu": _missing_library("_ops_cpu"),
    "cuda": _missing_library("_ops_cuda"),
    "triton": _missing_library("_ops_cpu") or triton_ops.missing(),
}


def reasons(backend: str, asked: Asked) -> list[str]:
    """Every reason why this backend cannot serve the call; empty if it can."""
    found: list[str] = []
    if backend == "reference":
        return found
    if backend == "triton" and asked.op != "h_lstm":
        return [f"no Triton kernel computes {asked.op}"]
    if asked.python_only is not None and not (backend == "aten" and asked.aten_sees):
        found.append(asked.python_only)
    if backend == "aten":
        found += [f"torch's own LSTM has no {feature}" for feature in asked.beyond_torch]
        if torch.compiler.is_compiling():
            found.append(
                "torch.compile and torch.export cannot trace torch's own LSTM as one operator: "
                "they unroll its time steps"
            )
        return found
    missing = _MISSING[backend]
    if missing is not None:
        found.append(missing)
    if backend == "cuda" and asked.op == "h_lstm":
        found.append("no CUDA kernel computes h_lstm")
    if asked.device != ("cpu" if backend == "cpu" else "cuda"):
        found.append(f"the input is on {asked.device}")
    dtype = compute_dtype(backend, asked)
    if dtype not in _COMPUTES[backend]:
        found.append(f"it does not compute in {dtype}")
    elif backend == "cuda" and asked.device == "cuda":
        why = _no_kernel(asked, dtype)
        found += [] if why is None else [why]
    return found


def _no_kernel(asked: Asked, dtype: torch.dtype) -> str | None:
    """Why nothing is compiled that would serve this call on the GPU it is on."""
    shape = asked.shape
    if shape is None:
        return plan.too_old(asked.device_index)
    if is_captured():
        # Whether there is one depends on none of T, N and L, which may stay dynamic so.
        widths = operator.index(shape.H), operator.index(shape.P)
        shape = plan.Shape(1, 1, *widths, 1, shape.directions, shape.training)
    return plan.no_kernel(asked.device_index, dtype, *shape)


def launch_plan(asked: Asked) -> plan.Plan | None:
    """How the call would run on the GPU at hand; None where there is none, or nothing to plan."""
    dtype = compute_dtype("cuda", asked)
    if asked.device != "cuda" or asked.shape is None or dtype not in _COMPUTES["cuda"]:
        return None
    return plan.plan_here(asked.device_index, dtype, asked.shape)


def choose(backend: str | None, asked: Asked) -> str:
    """The backend that serves the call. One that was named and cannot raises RuntimeError."""
    if _local.asking:
        raise _Question(backend, asked)
    if onnx_export.traces(asked.op):
        return "onnx"  # whatever was named: the file holds no kernel of ours
    name, source = requested(backend)
    if name == "auto":
        return _automatic(asked)
    _check_name(asked.op if source == "the argument" else f"{asked.op}: {source}", name)
    found = reasons(name, asked)
    if found:
        by = "" if source == "the argument" else f", named by {source},"
        raise RuntimeError(f"{asked.op}: backend {name!r}{by} cannot run: {'; '.join(found)}")
    return name


def is_surely_cpu(op: str, backend: str | None, sizes: Sizes) -> bool:
    """Whether ``choose`` would take the CPU's kernel for a plain call on CPU tensors of a dtype
    that it computes in, without all that it has to ask of any other; False says nothing."""
    if _local.asking or _MISSING["cpu"] is not None:
        return False
    name = requested(backend)[0]
    return name == "cpu" or (name == "auto" and not aten_is_faster(op, sizes))


def _automatic(asked: Asked) -> str:
    for chosen in _PREFERENCE.get(asked.device, _NO_KERNEL):
        if not reasons(chosen, asked):
            break
    if chosen in ("cpu", "cuda") and _left_to_aten(chosen, asked):
        return "aten"  # a choice, not a fallback
    if chosen not in _KERNELS and strict():
        kernel = asked.device if asked.device in _KERNELS else "cpu"
        why = "; ".join(reasons(kernel, asked))
        raise RuntimeError(
            f"{asked.op}: LTLSTM_STRICT forbids the fallback to {chosen!r}; backend {kernel!r} "
            f"cannot run: {why}"
        )
    return chosen


def _left_to_aten(chosen: str, asked: Asked) -> bool:
    if is_captured():  # first: a look at the sizes would make them constants
        return False
    if asked.sizes is None or reasons("aten", asked):
        return False
    if chosen == "cuda":
        half = compute_dtype(chosen, asked) in _HALF
        return not (half and cuda_is_faster(asked.op, asked.sizes))
    if asked.dtype != torch.float32 or asked.autocast is not None:
        return False
    return aten_is_faster(asked.op, asked.sizes)


def compute_dtype(backend: str, asked: Asked) -> torch.dtype:
    """What the call's tensors are turned into for it. Half types are storage on the CPU and in
    ONNX, but that the CPU's LSTM infers from bfloat16 weights as they are; under autocast cpu, onnx
    and reference do not round the weights."""
    if asked.autocast is not None:
        return torch.float32 if backend in ("cpu", "onnx", "reference") else asked.autocast
    storage = backend in ("cpu", "onnx") and asked.dtype in _HALF
    if backend == "cpu" and asked.op == "lstm" and asked.dtype == torch.bfloat16:
        storage = not asked.inference
    return torch.float32 if storage else asked.dtype


def notes(backend: str, asked: Asked) -> list[str]:
    """What is worth knowing about this call on this backend."""
    found = []
    dtype = asked.dtype if asked.autocast is None else asked.autocast
    inner = compute_dtype(backend, asked)
    if inner != dtype:
        found.append(f"computed in {inner}, returned in {dtype}")
    if backend == "aten" and asked.device == "cuda":
        found.append(
            "auto leaves a call on a GPU to aten where our kernels have not been measured faster"
        )
        found.append(
            "torch.compile and torch.export cannot trace aten: there cuda serves what it can"
        )
        found.append("aten copies the weights at each call: they do not lie in one piece of memory")
    if backend == "reference":
        found.append("plain torch loops: several torch calls a time step")
    return found


def question(call: Callable[[], object]) -> tuple[str | None, Asked] | None:
    """The argument ``backend`` and what the first choice within ``call`` is asked; nothing is
    computed. None where nothing asks."""
    _local.asking = True
    try:
        call()
    except _Question as stopped:
        return stopped.requested, stopped.asked
    finally:
        _local.asking = False
    return None


def missing(name: str) -> list[str]:
    """Every reason why this backend cannot run a float32 LSTM, triton an H-LSTM, on this machine;
    empty if it can."""
    on_gpu = name in ("cuda", "triton")
    device = "cuda" if on_gpu else "cpu"
    op = "h_lstm" if name == "triton" else "lstm"
    found = reasons(name, Asked(op, device, torch.float32, (), None))
    if on_gpu and not torch.cuda.is_available():
        found.append("torch sees no CUDA device")
    return found


def available_backends() -> list[str]:
    """The backends that can run a float32 LSTM here, triton an H-LSTM; ``python -m ltlstm.info``
    tells why not."""
    return [name for name in BACKENDS if name != "auto" and not missing(name)]
