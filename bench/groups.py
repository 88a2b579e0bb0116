# SPDX-License-Identifier: Apache-2.0
"""What is measured, beside what, and what is aimed at: one group a claim.

Cases are tests.cases.Case. A target speaks of the forced kernel, `cpu`, on two threads.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from tests.cases import Case

TARGET_THREADS = 2

CPU, AUTO = "cpu", "auto"  # ltlstm with the backend named, and as it chooses
TORCH, TORCH_PLAIN = "nn.LSTM", "nn.LSTM, oneDNN off"
CELL, CELL_LOOP, ONNX, MV = "LSTMCell", "LSTMCell loop", "onnxruntime", "torch.mv"
EAGER = "eager cell"  # the H-LSTM's step by torch's own operators
DENSE = "cpu, no masks"
OUR_LSTM, PADDED, TORCH_PADDED = "cpu LSTM", "cpu, padded", "nn.LSTM, padded"
ONE_THREAD = "cpu, one thread"
LANES_ON, LANES_OFF = "cpu, lanes on", "cpu, lanes off"

OURS = (CPU, AUTO, LANES_ON, LANES_OFF)  # held to the rule of the tests; a peer only to sense

MEAN_LENGTH = 0.6  # of T, where rows are packed


class Target(NamedTuple):
    """Reached where ours takes at most times * peer + plus seconds; without a peer, plus."""

    text: str
    peer: str | None
    times: float = 1.0
    plus: float = 0.0

    def limit(self, seconds: dict[str, float]) -> float:
        return self.plus + (self.times * seconds[self.peer] if self.peer else 0.0)


def _faster(peer: str, ratio: float) -> Target:
    return Target(f"{ratio:g}x {peer}", peer, 1 / ratio)


@dataclass(frozen=True)
class Row:
    """One case in one mode. `peers` are timed beside ours; targets name some of them."""

    case: Case
    peers: tuple[str, ...]
    targets: tuple[Target, ...] = ()
    mode: str = "forward"  # or "training": forward and backward
    module: str = "LSTM"  # or "LTLSTM", or "HLSTM" with gates as wide as the cell
    pattern: str = ""  # of the masks of an HLSTM, as tests/sparse_masks.py names them
    density: float = 1.0  # what they leave
    dtype: torch.dtype = torch.float32
    crowd: str = ""  # ours with "twice the threads" as cores, or with "one core" for all threads
    quick: bool = False  # belongs to --quick

    @property
    def name(self) -> str:
        half = [] if self.dtype == torch.float32 else [str(self.dtype).removeprefix("torch.")]
        masks = [f"{self.pattern} {self.density:.0%}"] if self.pattern else []
        crowd = [self.crowd] if self.crowd else []
        return " ".join([self.module, str(self.case), *masks, *half, *crowd])

    @property
    def steady(self) -> list[str]:
        """The peers that must not have been disturbed: those a target names, else the first."""
        return [t.peer for t in self.targets if t.peer] or list(self.peers[:1])


@dataclass(frozen=True)
class Group:
    title: str
    rows: list[Row] = field(default_factory=list)


def _case(H: int, T: int = 200, N: int = 1, L: int = 1) -> Case:
    return Case(T=T, N=N, D=H, H=H, L=L)


# us a step of the recurrence alone that a prototype came near to (H: us).
_RECURRENCE = {128: 2.1, 256: 5.4, 512: 29.6, 1024: 112.0}
_SPEED_UP = {128: 1.5, 256: 2.0, 512: 2.0, 1024: 2.0}
_WIDE = tuple(_SPEED_UP)


def _forward() -> Iterator[Row]:
    for H, ratio in _SPEED_UP.items():
        targets = (
            _faster(TORCH, ratio),
            _faster(ONNX, 1.0),
            Target("1.1x onnxruntime, if the recurrence reaches its target", ONNX, 1 / 1.1),
        )
        yield Row(_case(H), (TORCH, TORCH_PLAIN, ONNX), targets, quick=H <= 256)
    yield Row(_case(64), (TORCH, TORCH_PLAIN, ONNX), (_faster(TORCH, 1.0),))


def _recurrence() -> Iterator[Row]:
    for H, us in _RECURRENCE.items():
        case = replace(_case(H), D=1)
        target = Target(f"{us:g} us a step", None, plus=case.T * us * 1e-6)
        yield Row(case, (ONNX,), (target,))


def _training() -> Iterator[Row]:
    for H in (64, 128, 256, 512, 1024):
        targets = (_faster(TORCH, 2.5 if H in (256, 512) else 1.0),)
        peers = (TORCH, TORCH_PLAIN) if H <= 512 else (TORCH,)  # the other takes a second
        yield Row(_case(H), peers, targets, "training", quick=H == 256)


def _streaming() -> Iterator[Row]:
    for H in _WIDE:
        bound = Target("1.3x the time of torch.mv + 20 us", MV, 1.3, 20e-6)
        peers = (CELL, MV, TORCH, ONNX)
        yield Row(_case(H, T=1), peers, (_faster(CELL, 1.0), bound), quick=H == 256)


def _steps() -> Iterator[Row]:
    for H in _WIDE:
        for T in (1, 8, 32):
            peers = (TORCH, TORCH_PLAIN, CELL_LOOP)
            yield Row(_case(H, T), peers, (_faster(TORCH, 1.0),), quick=H == 256)


def _bf16() -> Iterator[Row]:
    for H in _WIDE:
        targets = (_faster(TORCH, 1.5),)
        yield Row(_case(H), (TORCH,), targets, dtype=torch.bfloat16, quick=H == 256)


def _batch(mode: str) -> Iterator[Row]:
    for N in (4, 16, 64):
        for H in (64, 128, 256, 512, 1024):
            case, quick = _case(H, T=50, N=N), H in (64, 256) and N <= 16
            yield Row(case, (TORCH,), (_faster(TORCH, 1.0),), mode, quick=quick)


def _packed() -> Iterator[Row]:
    target = Target("1.1x the padded time, per valid step", PADDED, 1.1 * MEAN_LENGTH)
    for N, H in ((16, 128), (4, 512), (32, 512)):
        for mode in ("forward", "training"):
            case = replace(_case(H, T=100, N=N), packed=True)
            yield Row(case, (PADDED, TORCH, TORCH_PADDED), (target,), mode, quick=H == 128)


def _lt_lstm() -> Iterator[Row]:
    for H, share in ((256, 0.9), (512, 1.0)):
        target = Target(f"{share:g} of the time of nn.LSTM", TORCH, share)
        for L in (1, 2, 4, 6):
            targets = (target,) if L >= 4 else ()
            quick = H == 256 and L <= 4
            peers = (TORCH, OUR_LSTM, LANES_ON, LANES_OFF)
            yield Row(_case(H, L=L), peers, targets, module="LTLSTM", quick=quick)


def _h_lstm() -> Iterator[Row]:
    for mode in ("forward", "training"):
        for H, N in ((128, 1), (256, 1), (512, 1), (256, 16)):
            targets = (_faster(EAGER, 5.0),) if N == 1 else ()
            case, quick = _case(H, T=200 if N == 1 else 50, N=N), H == 256 and N == 1
            yield Row(case, (EAGER, OUR_LSTM), targets, mode, module="HLSTM", quick=quick)


# By pattern: what its masks leave, and the goal: how much faster, for 1 and for 16 rows.
_SPARSE = {
    "element": (0.05, 4.0, 3.0), "banks": (0.05, 6.0, 3.0), "tall": (0.05, 6.0, 3.0),
    "blocks": (0.1, 3.0, 3.0),
}  # fmt: skip


def _sparse() -> Iterator[Row]:
    for pattern, (density, *ratios) in _SPARSE.items():
        for N, T, ratio in zip((1, 16), (200, 50), ratios, strict=True):
            yield Row(
                _case(256, T, N), (DENSE,), (_faster(DENSE, ratio),), module="HLSTM",
                pattern=pattern, density=density, quick=N == 1,
            )  # fmt: skip


def _crowded() -> Iterator[Row]:
    """A barrier between threads that cannot all run must slow down, not collapse."""
    for H in (256, 512):
        for crowd in ("twice the threads", "one core"):
            target = Target("4x the time of one thread", ONE_THREAD, 4.0)
            yield Row(_case(H), (ONE_THREAD,), (target,), crowd=crowd, quick=H == 256)


GROUPS = {
    "forward": Group("forward, one row, 200 steps", list(_forward())),
    "recurrence": Group(
        "forward with one input feature: the recurrence alone", list(_recurrence())
    ),
    "training": Group("forward and backward, one row, 200 steps", list(_training())),
    "streaming": Group("one step of one row", list(_streaming())),
    "steps": Group("forward, one row, few steps", list(_steps())),
    "bf16": Group("forward in bfloat16, one row, 200 steps", list(_bf16())),
    "batch": Group("forward, 4 to 64 rows, 50 steps", list(_batch("forward"))),
    "batch-training": Group("forward and backward, 4 to 64 rows", list(_batch("training"))),
    "packed": Group(f"packed rows, mean length {MEAN_LENGTH:.0%}", list(_packed())),
    "lt_lstm": Group("layer trajectory LSTM, forward, one row, by depth", list(_lt_lstm())),
    "h_lstm": Group("H-LSTM, all weights on, gates as wide as the cell", list(_h_lstm())),
    "sparse": Group("H-LSTM with masks, compiled for inference", list(_sparse())),
    "crowded": Group("forward, one row, with fewer cores than threads", list(_crowded())),
}
