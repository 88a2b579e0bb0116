# SPDX-License-Identifier: Apache-2.0
"""The launch plan of a GPU: which kernel would run a time-LSTM, how it is cut up, and why.

A pure function of shapes and device facts (csrc/plan.cpp): it plans for any GPU, on any machine,
and any Python, for it stands in `_ops_cpu`. Times in it are modelled, not measured.
"""

import ctypes
import json
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

import ltlstm_kernels


class Shape(NamedTuple):
    """What is planned for: T time steps, N batch, H hidden size, P width of h, L layers."""

    T: int
    N: int
    H: int
    P: int
    L: int = 1
    directions: int = 1
    training: bool = False
    trajectory: bool = False  # a layer-LSTM stands beside each time-LSTM


class DeviceFacts(NamedTuple):
    """What the plan must know of a GPU."""

    capability: int  # 10 * major + minor
    sms: int
    shared_per_block: int  # bytes a block may ask for
    registers_per_sm: int
    clusters: tuple[int, int, int, int, int]  # resident clusters of 1, 2, 4, 8, 16 blocks


class TimeLoop(NamedTuple):
    """All steps, forward or backward; the fields as in csrc/time_loop.h."""

    regime: str  # "block", "cluster", "grid", "streamed" or "aten"
    units: int
    blocks: int
    groups: int
    passes: int
    columns: int
    k_splits: int
    warps: int
    threads: int
    max_threads: int
    projected: int
    held: int
    registers: int
    shared_bytes: int
    us: float  # modelled microseconds a step


class Lanes(NamedTuple):
    """Side by side or back to back; the fields as in csrc/plan.h."""

    overlap: bool
    at_once: int
    time_sms: int
    layer_sms: int
    chunk: int
    us: float
    other_us: float


class Plan(NamedTuple):
    """Printed, it is its reasons: a line a pass, and one on the lanes."""

    forward: TimeLoop
    backward: TimeLoop  # regime "aten" and zeros without training
    lanes: Lanes
    reason: str

    def __str__(self) -> str:
        return self.reason


class _Request(ctypes.Structure):
    """As in csrc/binding/plan_entry.cpp, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in Shape._fields),
        *((name, ctypes.c_int64) for name in DeviceFacts._fields[:-1]),
        ("clusters", 5 * ctypes.c_int64),
        *((name, ctypes.c_int64) for name in ("blocks", "columns", "chunk", "overlap")),
    ]


@cache
def _library() -> ctypes.CDLL:
    """The operator library that plans; RuntimeError where it is missing."""
    library = ltlstm_kernels.libraries()["_ops_cpu"]
    if not library.loaded:
        raise RuntimeError(f"plan: the library _ops_cpu is missing: {library.error}")
    return ctypes.CDLL(str(library.path))


def _told(text: bytes) -> dict[str, Any]:
    """What the library has answered; an error raises ValueError."""
    found = json.loads(text)
    if "error" in found:
        raise ValueError(found["error"])
    return found


def _int64(name: str, value: int) -> int:
    """Itself: ctypes would take a number that is too large by its last 64 bits."""
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"plan: {name} must fit 64 bits, got {value}")
    return value


@lru_cache(maxsize=4096)
def make_plan(
    shape: Shape,
    dtype: torch.dtype,
    device: DeviceFacts,
    *,
    regimes: tuple[str, ...] = (),
    blocks: int = 0,
    columns: int = 0,
    chunk: int = 0,
    overlap: bool | None = None,
) -> Plan:
    """The plan for this shape on this device.

    dtype: of the weights. regimes, blocks, columns, chunk (steps), overlap (of a trajectory): what
    to narrow the choice to, for tests and measurements; empty, 0 or None leaves it to the model.
    Raises ValueError for sizes or facts that cannot be, RuntimeError where the library _ops_cpu is
    missing.
    """
    wanted = {"blocks": blocks, "columns": columns, "chunk": chunk}
    wanted["overlap"] = -1 if overlap is None else overlap
    facts = device._asdict()
    clusters = [_int64("clusters", count) for count in facts.pop("clusters")]
    numbers = {**shape._asdict(), **facts, **wanted}
    request = _Request(
        clusters=(5 * ctypes.c_int64)(*clusters),
        **{name: _int64(name, value) for name, value in numbers.items()},
    )
    plan = _library().ltlstm_plan
    plan.restype = ctypes.c_char_p
    name = str(dtype).removeprefix("torch.")
    found = _told(plan(ctypes.byref(request), name.encode(), " ".join(regimes).encode()))
    return Plan(
        TimeLoop(**found["forward"]),
        TimeLoop(**found["backward"]),
        Lanes(**found["lanes"]),
        found["reason"],
    )


class Settings(NamedTuple):
    """What the environment asks of the CUDA operators; csrc/settings.h has the variables."""

    recompute: bool  # training keeps no gates
    regimes: tuple[str, ...]
    chunk: int  # steps; 0: the plan's


def settings() -> Settings:
    """As the operators themselves would read them at this moment.

    Raises ValueError where a variable has a value without a meaning, RuntimeError where the library
    _ops_cpu is missing.
    """
    ask = _library().ltlstm_cuda_settings
    ask.restype = ctypes.c_char_p
    return _settings_of(ask())


@lru_cache(maxsize=64)
def _settings_of(text: bytes) -> Settings:
    found = _told(text)
    return Settings(found["recompute"], tuple(found["regimes"]), found["chunk"])


def plan_here(index: int | None, dtype: torch.dtype, shape: Shape) -> Plan | None:
    """The plan for the CUDA device of this index, None the current one, narrowed as the environment
    asks; None where nothing can be planned or there is nothing to compute."""
    planner = ltlstm_kernels.libraries()["_ops_cpu"]
    facts = device_facts(index) if planner.loaded else None
    if facts is None or 0 in (shape.T, shape.N):
        return None
    asked = settings()
    return make_plan(shape, dtype, facts, regimes=asked.regimes, chunk=asked.chunk)


def _constant(function: Any) -> Any:
    """torch.compile asks while it traces, and keeps the answer: the arguments are constants for it.

    What torch.compiler.assume_constant_result does, which imports torch._dynamo, and that Triton.
    """
    function._dynamo_marked_constant = True
    return function


@_constant
def no_kernel(index: int | None, dtype: torch.dtype, *shape: int) -> str | None:
    """Why no kernel serves this shape on that device; None if one does, or nothing is known."""
    planned = plan_here(index, dtype, Shape._make(shape))
    if planned is not None and planned.forward.regime == "aten":
        return "no kernel for this shape: " + "; ".join(planned.reason.splitlines())
    return too_old(index) if planned is None else None


@_constant
def too_old(index: int | None) -> str | None:
    """That the kernels ask more of a device than this one has; None where they can run."""
    old = torch.cuda.is_available() and device_facts(index) is None
    return "the device is older than sm_80" if old else None


def device_facts(index: int | None = None) -> DeviceFacts | None:
    """Of the CUDA device of this index, None the current one; None where there is none, or one too
    old for any kernel here."""
    if not torch.cuda.is_available():
        return None
    return _facts_of(torch.cuda.current_device() if index is None else index)


@cache
def _facts_of(device: int) -> DeviceFacts | None:
    found: Any = torch.cuda.get_device_properties(device)  # torch's stub lacks two of these
    if found.major < 8:
        return None
    library = ltlstm_kernels.libraries()["_ops_cuda"]
    told = told_facts(library.path, device) if library.loaded and library.path else None
    return told or assumed_facts(
        10 * found.major + found.minor,
        found.multi_processor_count,
        found.shared_memory_per_block_optin,
        found.regs_per_multiprocessor,
    )


def told_facts(library: Path, device: int) -> DeviceFacts | None:
    """The facts that a CUDA operator library itself plans with, of which it has asked the driver;
    None where the device does not answer."""
    numbers = (ctypes.c_int * 9)()
    ask = ctypes.CDLL(str(library)).ltlstm_device_facts
    ask.restype = ctypes.c_bool
    if not ask(ctypes.c_int(device), numbers):
        return None
    capability, sms, shared, registers, one, two, four, eight, sixteen = numbers
    return DeviceFacts(capability, sms, shared, registers, (one, two, four, eight, sixteen))


def assumed_facts(
    capability: int, sms: int, shared_per_block: int, registers_per_sm: int
) -> DeviceFacts:
    """The facts with the resident clusters that are assumed where no driver can be asked."""
    counts = (ctypes.c_int * 5)()
    _library().ltlstm_assumed_clusters(ctypes.c_int(capability), ctypes.c_int(sms), counts)
    one, two, four, eight, sixteen = counts
    return DeviceFacts(
        capability, sms, shared_per_block, registers_per_sm, (one, two, four, eight, sixteen)
    )
