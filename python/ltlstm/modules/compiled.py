# SPDX-License-Identifier: Apache-2.0
"""Masked weights compiled for inference on the CPU: a frozen copy, made when it is asked for
and kept beside its module."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import Buffer, Parameter

from ltlstm.functional.problem import python_only
from ltlstm.modules.gates import MASK, GateMLPs
from ltlstm_kernels import sparse
from ltlstm_kernels.backend import missing, requested
from ltlstm_kernels.capture import is_captured

# Compiled matrices pay where they take at most this part of the memory of the dense weights, which
# is what bounds a step of one row; with a batch they then still gain a little.
WORTH = 0.4
DTYPES = (torch.float32, torch.float64)  # that the kernels compute


class _Seen(NamedTuple):
    """A tensor as it stood: a write in place gives it another version, ``.data =`` an address."""

    name: str
    tensor: Tensor
    version: int
    memory: Tensor  # held, so that no other tensor gets its address

    def stands(self, module: nn.Module) -> bool:
        # Looked up where modules keep them: getattr takes longer.
        own = module._buffers if self.name in module._buffers else module._parameters
        t = self.tensor
        if own.get(self.name) is not t:
            return False
        return t._version == self.version and t.data_ptr() == self.memory.data_ptr()


class _Compiled(NamedTuple):
    dtype: torch.dtype
    seen: list[_Seen]
    weights: list[Tensor]


# Beside the modules: a copy of one, or its pickle, has none.
_COMPILED: WeakKeyDictionary[nn.Module, _Compiled] = WeakKeyDictionary()


class SparseGates(GateMLPs):
    """A mixin: gates whose masked weights may be compiled for inference."""

    def _gate_names(self) -> list[str]:
        """Of all parameters, in the functional's order."""
        raise NotImplementedError

    @torch.no_grad()
    def compile_sparse(self) -> bool:
        """Compiles the masked weights for inference on the CPU, and says whether calls will use it.

        Calls do in eval mode, without gradients, on plain CPU tensors, where the masks leave so
        little that it pays. Other calls mask the weights as they are, as do those of a copy of the
        module, which has nothing compiled.

        What is compiled is a frozen copy of weights, biases and masks. It is out of use, until this
        is called again, after ``train()`` and after any change that torch records: a write in
        place, an optimiser's step, ``load_state_dict``, another dtype or device, another tensor as
        ``.data``. **Not seen is a write into the memory behind a parameter**: through ``p.data``
        (``p.data.copy_(q)``, as moving averages and target networks are often written), NumPy,
        DLPack or another process. Calls go on with the frozen copy then; call this again after it,
        or write ``p.copy_(q)`` under ``torch.no_grad()``, which is seen.
        """
        _COMPILED.pop(self, None)
        made = _compiled(self, self._gate_names())
        if made is None:
            return False
        _COMPILED[self] = made
        return True

    def train(self, mode: bool = True) -> Any:
        if mode:
            _COMPILED.pop(self, None)
        return super().train(mode)

    def _compiled_for(self, input: Tensor) -> list[Tensor]:
        """The flat list for ``functional.h_lstm(compiled=)``. Empty where the call is not for
        inference or not for the CPU's kernels, or where nothing is compiled that still stands."""
        if self.training or torch.is_grad_enabled() or is_captured():
            return []
        found = _COMPILED.get(self)
        if found is None or found.dtype != input.dtype:
            return []
        if not _computable(input) or not _wanted(self):
            return []
        return found.weights if all(s.stands(self) for s in found.seen) else []


def _wanted(module: GateMLPs) -> bool:
    return requested(module.backend)[0] in ("auto", "cpu") and not missing("cpu")


def _compiled(module: GateMLPs, names: Sequence[str]) -> _Compiled | None:
    """None where it cannot be done or would not pay."""
    tensors = [getattr(module, name) for name in names]
    mask_names = [name + MASK for name in names if "weight" in name]
    masks = [getattr(module, name) for name in mask_names]
    dtype = tensors[0].dtype
    if dtype not in DTYPES or not _wanted(module) or not _plain(dtype, tensors, masks):
        return None
    weights = _compile(names, tensors, masks)
    if not weights:
        return None
    seen = [
        _Seen(name, t, t._version, t.detach())
        for name, t in zip((*names, *mask_names), (*tensors, *masks), strict=True)
    ]
    return _Compiled(dtype, seen, weights)


def _computable(input: Tensor) -> bool:
    """An ordinary CPU tensor of a dtype that the kernels compute."""
    if torch._C._is_any_autocast_enabled() or python_only([input]) is not None:
        return False
    return input.is_cpu and input.dtype in DTYPES


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
        compiled.append(tensor.detach().clone())
        if "weight" in name:
            compiled[-1] = sparse.sparse_compile(tensor, next(of_weights))
            dense, taken = dense + tensor.nbytes, taken + compiled[-1].nbytes
    return compiled if taken <= WORTH * dense else []
