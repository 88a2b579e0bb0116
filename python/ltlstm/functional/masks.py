# SPDX-License-Identifier: Apache-2.0
"""Sparse weights: what a mask leaves of a weight, and the gradient through it."""

from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ltlstm.functional.problem import python_only
from ltlstm_kernels.capture import is_captured

# Of masks that were looked at: their version then, and whether all was on. A mask that is written
# to, in place, has another version; a write through `.data` has not, and goes unseen.
_SEEN: WeakKeyDictionary = WeakIdKeyDictionary()  # type: ignore[assignment]


def in_use(weight: Tensor, mask: Tensor | None, dense_gradient: bool = False) -> Tensor:
    """The weight that acts: ``weight`` where ``mask``, bool of its shape, is true, zero elsewhere.

    Zero exactly, whatever an optimiser made of the weight there, NaN included. The weight itself
    where the mask is None or all true. The weight's gradient is zero where the mask is false; with
    ``dense_gradient`` it is, everywhere, the gradient of the weight that acts: what growth ranks
    dormant positions by. Differentiable to any order.
    """
    if mask is None or _is_full(mask):
        return weight
    if mask.dtype != torch.bool:  # torch.nn.utils.prune puts one of the weight's dtype here
        mask = mask != 0
    if not dense_gradient:
        return torch.where(mask, weight, 0)
    # w - w = 0 where dormant, and minus zero elsewhere; the second term has no history.
    return weight - weight.detach().masked_fill(mask, 0)


def _is_full(mask: Tensor) -> bool:
    """Whether all of it is known to be on; a trace or a transform must not depend on that."""
    if is_captured() or python_only([mask]) or mask.is_inference():
        return False
    if type(mask) not in (Tensor, torch.nn.Buffer) or mask.is_meta:
        return False
    version, full = _SEEN.get(mask, (-1, False))
    if version != mask._version:
        full = bool(mask.all())
        _SEEN[mask] = (mask._version, full)
    return full
