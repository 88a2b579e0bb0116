# SPDX-License-Identifier: Apache-2.0
"""How the H-LSTM's Triton kernels divide the work: from sizes and the device alone, never timed.

Two forms of one kernel. Alone, a program runs all of its rows' work, and as many row blocks run side
by side as the device holds. Where the batch has fewer row blocks than that, programs share the rows'
units instead, launched so that all are resident, and meet after each hop.

LTLSTM_TRITON_SHARED=0 keeps every program alone: for a device that others use too, where a launch of
programs that wait for each other may find no room.
"""

import os
from typing import NamedTuple

import torch

ROWS = 16  # the least that a tensor core takes, and all that a small batch has


class Plan(NamedTuple):
    """block: edge of a weight's blocks. depth: live blocks in one product. units: block rows of each
    gate at a time. parts: programs that share a block of rows."""

    block: int
    depth: int
    units: int
    parts: int
    warps: int
    stages: int

    @property
    def shared(self) -> bool:
        return self.parts > 1


def _sharing_allowed() -> bool:
    return os.environ.get("LTLSTM_TRITON_SHARED", "1") != "0"


def processors(device: torch.device) -> int:
    """How many programs surely are resident at once: one on each multiprocessor."""
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def plan(N: int, H: int, K: int, dtype: torch.dtype, save: bool, processors: int) -> Plan:
    """For a batch of N rows; `save` in training, where blocks of 32 waste fewer loads on weights that
    are dense. Without, 16, which skips more."""
    block = 32 if save else 16
    tiles = -(-max(H, K) // block)
    row_blocks = max(1, -(-N // ROWS))
    parts = min(tiles, processors // row_blocks) if _sharing_allowed() else 1
    # Products in float32 are made without tensor cores, of registers.
    depth = 32 // block if dtype == torch.float32 else 64 // block
    if parts > 1:
        return Plan(block, depth, units=1, parts=parts, warps=4, stages=3)
    return Plan(block, depth, units=4, parts=1, warps=4, stages=2)
