# SPDX-License-Identifier: Apache-2.0
"""Masked weights compiled for inference on the CPU: kept beside their module, and made again when a
weight or a mask has changed."""

from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import Buffer, Parameter

from ltlstm.functional.problem import python_only
from ltlstm.modules.gates import MASK, GateMLPs
from ltlstm_kernels import sparse
from ltlstm_kernels.backend import missing, requested

# Compiled matrices pay where they take at most this part of the memory of the dense weights, which
# is what bounds a step of one row; with a batch they then still gain a little.
WORTH = 0.4


class _Seen(NamedTuple):
    """A tensor as it stood: a write in place gives it another version, ``.data =`` an address."""

    name: str
    tensor: Tensor
    version: int
    address: int

    def stands(self, module: nn.Module) -> bool:
        # Looked up where modules keep them: getattr takes longer.
        own = module._buffers if self.name in module._buffers else module._parameters
        t = self.tensor
        if own.get(self.name) is not t:
            return False
        return t._version == self.version and t.data_ptr() == self.address


class _Compiled(NamedTuple):
    dtype: torch.dtype
    seen: list[_Seen]
    weights: list[Tensor]  # empty where they would not pay


_COMPILED: WeakKeyDictionary[nn.Module, _Compiled] = WeakKeyDictionary()


def compiled_weights(module: GateMLPs, names: Sequence[str], input: Tensor) -> list[Tensor]:
    """The flat list for ``functional.h_lstm(compiled=)``. Empty where the call is not for inference
    or not for the CPU's kernels, or where the masks leave too much for it to pay."""
    if module.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return []
    if requested(module.backend)[0] not in ("auto", "cpu") or missing("cpu"):
        return []
    if not _computable(input):
        return []
    found = _COMPILED.get(module)
    if (
        found is not None
        and found.dtype == input.dtype
        and all(s.stands(module) for s in found.seen)
    ):
        return found.weights
    tensors = [getattr(module, name) for name in names]
    mask_names = [name + MASK for name in names if "weight" in name]
    masks = [getattr(module, name) for name in mask_names]
    if not _plain(input.dtype, tensors, masks):
        return []
    seen = [
        _Seen(name, t, t._version, t.data_ptr())
        for name, t in zip((*names, *mask_names), (*tensors, *masks), strict=True)
    ]
    weights = _compile(names, tensors, masks)
    _COMPILED[module] = _Compiled(input.dtype, seen, weights)
    return weights


def _computable(input: Tensor) -> bool:
    """An ordinary CPU tensor of a dtype that the kernels compute."""
    if torch._C._is_any_autocast_enabled() or python_only([input]) is not None:
        return False
    return input.is_cpu and input.dtype in (torch.float32, torch.float64)


def _plain(dtype: torch.dtype, tensors: Sequence[Tensor], masks: Sequence[Tensor]) -> bool:
    """Everything is what the module made, on the CPU and in one dtype."""
    return all(
        type(t) in types and t.dtype == of and t.is_cpu and not t.is_inference()
        for group, types, of in (
            (tensors, (Parameter,), dtype),
            (masks, (Tensor, Buffer), torch.bool),
        )
        for t in group
    )


def _compile(
    names: Sequence[str], tensors: Sequence[Tensor], masks: Sequence[Tensor]
) -> list[Tensor]:
    if sum(int(m.sum()) for m in masks) > WORTH * sum(m.numel() for m in masks):
        return []
    of_weights = iter(masks)
    compiled, dense, taken = [], 0, 0
    for name, tensor in zip(names, tensors, strict=True):
        compiled.append(tensor.detach())
        if "weight" in name:
            compiled[-1] = sparse.sparse_compile(tensor, next(of_weights))
            dense, taken = dense + tensor.nbytes, taken + compiled[-1].nbytes
    return compiled if taken <= WORTH * dense else []
