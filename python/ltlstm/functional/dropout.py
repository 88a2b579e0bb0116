# SPDX-License-Identifier: Apache-2.0
"""Dropout masks, drawn by torch in nn.LSTM's order: bit-equal to it for one seed."""

from collections.abc import Sequence

import torch
from torch import Tensor


def draw_masks(count: int, shape: Sequence[int], p: float, like: Tensor) -> list[Tensor]:
    """``count`` masks, scaled by 1 / (1 - p), one after the other as nn.LSTM draws them.

    nn.LSTM draws a mask when a layer ends, and nothing else draws, so drawing ahead is the same.
    It draws none where p is 1, and each in contiguous time-major (or packed) order: strides would
    change which element gets which number.
    """
    if p == 1:
        return [like.new_zeros(shape)] * count
    if torch._C._are_functorch_transforms_active():
        # vmap draws in place only where all samples may be alike.
        keep = torch.full(shape, 1 - p, dtype=like.dtype, device=like.device)
        return [torch.bernoulli(keep) / (1 - p) for _ in range(count)]
    return [
        torch.empty(shape, dtype=like.dtype, device=like.device).bernoulli_(1 - p).div_(1 - p)
        for _ in range(count)
    ]
