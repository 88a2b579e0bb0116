# SPDX-License-Identifier: Apache-2.0
"""How the H-LSTM's Triton kernels divide the work: from sizes and the device alone, never timed.

Two forms of one kernel. Alone, a program does all the work of its rows, and as many row blocks run
side by side as the device holds. Where the batch has fewer row blocks than that, programs share the
units instead, launched so that all are resident, and meet after each hop.

LTLSTM_TRITON_SHARED=0 keeps every program alone: for a device that others use too, where programs
that wait for each other may not all find room.
"""

import os
from typing import NamedTuple

import torch

ROWS = 16  # the least that a tensor core takes, and all that a small batch has


class Plan(NamedTuple):
    """block: edge of a weight's blocks. depth: live blocks in one step of a product, `stages` of
    which are under way. units: block rows at a time, a multiple of the four gates; a warp has one.
    parts: programs that share a block of rows."""

    block: int
    depth: int
    units: int
    stages: int
    parts: int

    @property
    def shared(self) -> bool:
        return self.parts > 1


def _sharing_allowed() -> bool:
    value = os.environ.get("LTLSTM_TRITON_SHARED") or "1"
    if value not in ("0", "1"):
        raise ValueError(f"h_lstm: LTLSTM_TRITON_SHARED must be 0 or 1, got {value}")
    return value == "1"


def processors(device: torch.device) -> int:
    """How many programs surely are resident at once: one on each multiprocessor."""
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def plan(N: int, H: int, K: int, dtype: torch.dtype, save: bool, processors: int) -> Plan:
    """For a batch of N rows; `save` in training, where blocks of 32 waste fewer loads on weights
    that are dense. Without, 16, which skips more.

    Within what every compiler so far gives registers to: what is too much for one is spilled in
    the loop over blocks."""
    # Products in float32 are made of registers, without tensor cores.
    tensor_cores = dtype != torch.float32
    block = 32 if save and tensor_cores else 16
    depth = (64 if tensor_cores else 32) // block
    row_blocks = max(1, -(-N // ROWS))
    tiles = -(-max(H, K) // block)
    parts = min(tiles, processors // row_blocks) if _sharing_allowed() else 1
    if parts > 1:
        return Plan(block, depth, units=4, stages=4, parts=parts)
    if not save:
        return Plan(block, depth, units=8, stages=3, parts=1)
    return Plan(block, 1, 8, 3, 1) if tensor_cores else Plan(block, depth, 4, 3, 1)
