# SPDX-License-Identifier: Apache-2.0
"""Sparse weights: what a mask leaves of a weight, and the gradient through it."""

import torch
from torch import Tensor
from torch.nn import Buffer, Parameter

from ltlstm.functional.problem import python_only
from ltlstm_kernels.capture import is_captured


def may_look(*tensors: Tensor, wait: bool = False) -> bool:
    """Whether what a call does may hang on the values of these tensors.

    Not while it is captured or transformed: a graph would keep the answer, and a fake tensor has
    none. Nor on a device, which the look would ``wait`` for.
    """
    if is_captured() or python_only(tensors) is not None:
        return False
    return all(
        type(t) in (Tensor, Parameter, Buffer) and (t.is_cpu or (wait and not t.is_meta))
        for t in tensors
    )


def is_full(mask: Tensor) -> bool:
    """Whether it is known to be all true. Read as bytes: torch reads bools 20 times slower, and a
    mask must cost less than its weight."""
    return may_look(mask) and bool(mask.view(torch.uint8).all())


def in_use(weight: Tensor, mask: Tensor | None, dense_gradient: bool = False) -> Tensor:
    """The weight that acts: ``weight`` where ``mask``, bool of its shape, is true, zero elsewhere.

    The mask is read in every call, so a write of any kind to it acts. The weight itself where the
    mask is None, or on the CPU all true. Zero exactly, whatever an optimiser made of the weight
    there, NaN included (not with ``dense_gradient``). The weight's gradient is zero where the mask
    is false; with ``dense_gradient`` it is, everywhere, the gradient of the weight that acts: what
    growth ranks dormant positions by. Differentiable to any order.
    """
    if mask is None:
        return weight
    if mask.dtype != torch.bool:  # torch.nn.utils.prune puts one of the weight's dtype here
        mask = mask != 0
    if is_full(mask):
        return weight
    if not dense_gradient:
        return torch.where(mask, weight, 0)
    # w - w = 0 where dormant, and minus zero elsewhere; the second term has no history.
    return weight - weight.detach().masked_fill(mask, 0)
