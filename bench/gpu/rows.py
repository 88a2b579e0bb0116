# SPDX-License-Identifier: Apache-2.0
"""What bench/gpu.sh measures, beside what, and what is aimed at: one group a claim.

A target speaks of the forced kernel; `auto` is not timed, for it is nn.LSTM until something was
measured. Times of a target are those that were predicted against cuDNN: to be reached or refuted.
"""

from collections.abc import Iterator

import torch

from bench.groups import TORCH, TORCH_PADDED, Group, Row, Target
from tests.cases import Case

OURS = "cuda"  # our kernels, named; in a dry run emulated
PADDED, OUR_LSTM = "cuda, padded", "cuda LSTM"
LANES_ON, LANES_OFF = "cuda, lanes on", "cuda, lanes off"
FLASHRNN, HASTE = "FlashRNN", "haste"

STEPS = 512
BF16 = torch.bfloat16


def _case(H: int, N: int, L: int = 1, T: int = STEPS, packed: bool = False) -> Case:
    return Case(T=T, N=N, D=H, H=H, L=L, packed=packed)


def _faster(ratio: float, peer: str = TORCH) -> Target:
    return Target(f"{ratio:g}x {peer}", peer, 1 / ratio)


def _least(H: int, N: int, mode: str) -> float:
    """The smaller end of what was predicted against cuDNN in bfloat16."""
    if H <= 192:
        return 1.0
    if H <= 512:
        return 4.0 if mode == "forward" else 3.0
    if H <= 1024:
        forward, training = (3.0, 2.5) if N <= 16 else (1.8, 1.3)
        return forward if mode == "forward" else training
    return 1.1


# The six problems of the twelve rows that come first, each forward and in training, since the two
# passes are kernels of their own. They are where one design gives way to the next: a cluster at
# H=256 and at 512, with one tile of rows, and with several at N=64; at H=1024, which fits no
# cluster, a grid with a single row, with one tile and with several. Left out are the three between:
# H=256 at N=1 and 64 and H=512 at N=1 run on the kernels of their neighbours.
FIRST = ((256, 16), (512, 16), (512, 64), (1024, 1), (1024, 16), (1024, 64))


def is_first(row: Row) -> bool:
    c = row.case
    plain = row.module == "LSTM" and (c.L, c.T, c.packed) == (1, STEPS, False)
    return plain and row.dtype == BF16 and (c.H, c.N) in FIRST


def _layer(mode: str) -> Iterator[Row]:
    for H in (128, 256, 512, 768, 1024, 2048):
        for N in (1, 16, 64, 128):
            quick = H in (128, 512, 1024) and N in (1, 16, 64)
            target = _faster(_least(H, N, mode))
            yield Row(_case(H, N), (TORCH,), (target,), mode, dtype=BF16, quick=quick)


def _other_types() -> Iterator[Row]:
    for H in (256, 512, 1024):
        for mode in ("forward", "training"):
            quick = H == 512
            fp16 = torch.float16
            yield Row(_case(H, 16), (TORCH,), (_faster(1.5),), mode, dtype=fp16, quick=quick)
            yield Row(_case(H, 16), (TORCH, HASTE), (_faster(1.0),), mode, quick=quick)


def _packed() -> Iterator[Row]:
    for H in (256, 512, 1024):
        for N in (16, 64):
            for mode in ("forward", "training"):
                yield Row(
                    _case(H, N, packed=True),
                    (TORCH, PADDED, TORCH_PADDED),
                    (_faster(5.0), Target("1.1x the padded time", PADDED, 1.1)),
                    mode, dtype=BF16, quick=(H, N) == (512, 16),
                )  # fmt: skip


def _stacks() -> Iterator[Row]:
    for H, L, N in ((256, 4, 16), (512, 4, 1), (512, 4, 16), (512, 4, 64), (1024, 2, 16)):
        for mode in ("forward", "training"):
            target = _faster(4.0 if mode == "forward" else 3.0)
            quick = (H, N) == (512, 16)
            yield Row(_case(H, N, L), (TORCH,), (target,), mode, dtype=BF16, quick=quick)


def _lt_lstm() -> Iterator[Row]:
    for H, N in ((512, 16), (512, 64), (1024, 16), (1024, 64)):
        for L in (4, 6):
            for mode in ("forward", "training"):
                targets = (
                    Target("no more time than nn.LSTM", TORCH),
                    Target("lanes 1.2x", LANES_OFF, 1 / 1.2),
                )
                peers = (TORCH, OUR_LSTM, LANES_ON, LANES_OFF)
                quick = (N, L) == (16, 6)
                yield Row(_case(H, N, L), peers, targets, mode, "LTLSTM", BF16, quick=quick)


def _streamed() -> Iterator[Row]:
    """W_hh that no chip holds: a product a step, as cuDNN has it too."""
    for H, dtype in ((2048, torch.float32), (4096, BF16)):
        for mode in ("forward", "training"):
            yield Row(
                _case(H, 16), (TORCH,), (_faster(1.0),), mode, dtype=dtype, quick=dtype == BF16
            )


def _fused() -> Iterator[Row]:
    """Last, since FlashRNN compiles at the first call of each shape."""
    for mode in ("forward", "training"):
        target = Target("1x FlashRNN", FLASHRNN)
        yield Row(_case(768, 16, T=1024), (FLASHRNN, TORCH), (target,), mode, dtype=BF16)


GROUPS = {
    "gpu-forward": Group("forward, bfloat16, one layer, 512 steps", list(_layer("forward"))),
    "gpu-training": Group("forward and backward, bfloat16, one layer", list(_layer("training"))),
    "gpu-stacks": Group("stacks, bfloat16", list(_stacks())),
    "gpu-lt_lstm": Group("layer trajectory LSTM, bfloat16", list(_lt_lstm())),
    "gpu-packed": Group("packed rows, bfloat16", list(_packed())),
    "gpu-types": Group("float16 and float32, N=16", list(_other_types())),
    "gpu-streamed": Group("W_hh from memory, N=16", list(_streamed())),
    "gpu-fused": Group("bfloat16 beside FlashRNN, 1024 steps", list(_fused())),
}

LT_LSTM = GROUPS["gpu-lt_lstm"].rows

# Enough of each kind to see that all of it runs.
DRY_ROWS = [
    Row(Case(T=3, N=2, D=16, H=16), (TORCH,), (_faster(1.0),), dtype=BF16),
    Row(Case(T=3, N=2, D=16, H=16), (TORCH,), (_faster(1.0),), "training"),
    Row(Case(T=3, N=3, D=8, H=16, packed=True), (TORCH, PADDED), mode="training", dtype=BF16),
]
DRY_LANES = [Row(Case(T=3, N=2, D=16, H=16, L=2), (TORCH, LANES_ON, LANES_OFF), module="LTLSTM")]
