# SPDX-License-Identifier: Apache-2.0
"""What ranks agree on, so that all of them grow and prune alike; nothing happens in one process."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size(group: Any) -> int:
    """Ranks of the group, or of the default one; 1 where no process group was made."""
    if not dist.is_available() or not dist.is_initialized():
        return 1
    return dist.get_world_size(group)


def averaged(tensor: Tensor, group: Any) -> Tensor:
    """The mean over the ranks."""
    ranks = world_size(group)
    if ranks == 1:
        return tensor
    total = tensor.clone()
    dist.all_reduce(total, group=group)
    return total.div_(ranks)


def all_agree(value: bool, group: Any, device: torch.device) -> bool:
    """Whether it is true on every rank."""
    if world_size(group) == 1:
        return value
    least = torch.tensor(int(value), device=device)
    dist.all_reduce(least, dist.ReduceOp.MIN, group=group)
    return bool(least)


def same_everywhere(mask: Tensor, group: Any) -> Tensor:
    """The first rank's mask."""
    if world_size(group) == 1:
        return mask
    first = 0 if group is None else dist.get_global_rank(group, 0)
    sent = mask.to(torch.uint8)
    dist.broadcast(sent, first, group=group)
    return sent.bool()
