# SPDX-License-Identifier: Apache-2.0
"""Masked weights compiled for inference on the CPU: modules of their own, which nothing changes."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import Buffer, Parameter

from ltlstm.modules.foreign import obstacle, twin
from ltlstm.modules.gates import MASK, GateMLPs
from ltlstm_kernels import sparse
from ltlstm_kernels.backend import missing, requested

# Compiled matrices pay where they take at most this part of the memory of the dense weights, which
# is what bounds a step of one row; with a batch they then still gain a little.
WORTH = 0.4
DTYPES = (torch.float32, torch.float64)  # that the kernels compute
COMPILED = "_compiled"  # after the name of a weight

Made = TypeVar("Made", bound="Frozen")


class Frozen(GateMLPs):
    """A mixin: gates that hold their weights compiled, and in no other form.

    So there is nothing that the compiled ones could be older than: what would change them, or needs
    others, is refused with RuntimeError. Options, biases and hooks are the module's they came from;
    biases and compiled weights are buffers that no state dict holds.

    Attributes:
        counts: how many parameters the module had that was compiled, how many of them are weights,
            and how many of these are not zero in use.
    """

    _shapes: dict[str, tuple[int, ...]] = {}  # of parameters, in the functional's order
    _dtype = torch.float32
    counts: tuple[int, int, int]

    def _init_flat_weights(self) -> None:
        """Tensors that stand for the weights where only their sizes are read, and the biases."""
        zero = torch.zeros((), dtype=self._dtype, device="cpu")
        self._flat_weights = [
            zero.expand(shape) if "weight" in name else getattr(self, name)
            for name, shape in self._shapes.items()
        ]
        self._flat_weight_refs: list[Any] = [None] * len(self._flat_weights)

    def _time_weights(self) -> list[Tensor]:
        return self._flat_weights

    def _compiled(self) -> list[Tensor]:
        own = self._buffers
        found = [own[n + COMPILED if "weight" in n else n] for n in self._shapes]
        return cast(list[Tensor], found)

    def _refuse(self, what: str) -> NoReturn:
        raise RuntimeError(
            f"{type(self).__name__}: {what}: its weights are compiled; use the module that "
            "compile_sparse() was called on, and compile again"
        )

    def compile_sparse(self) -> Any:
        """Refused: it is."""
        self._refuse("it cannot be compiled again")

    def reset_parameters(self) -> None:
        if self._buffers:
            self._refuse("it cannot be reset")

    def __setattr__(self, name: str, value: Any) -> None:
        weight = name.removesuffix(MASK)
        if "weight" in weight and weight in vars(self).get("_shapes", ()):
            self._refuse(f"{name} cannot be set")
        super().__setattr__(name, value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        moved = fn(torch.empty(0, dtype=self._dtype, device="cpu"))
        if moved.dtype != self._dtype or not moved.is_cpu:
            self._refuse(f"it must stay {self._dtype} on the CPU, got {moved.dtype} {moved.device}")
        return super()._apply(fn, recurse)

    def _save_to_state_dict(self, *arguments: Any) -> None:
        self._refuse("it has no state dict")

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._refuse("it loads no state dict")


@torch.no_grad()
def frozen(module: GateMLPs, expected: type[nn.Module], cls: type[Made]) -> Made | None:
    """A ``cls`` with the module's weights compiled; None where that cannot be or would not pay.

    Raises TypeError for what is no plain ``expected``.
    """
    reason = obstacle(module, expected)
    if reason is not None:
        raise TypeError(f"compile_sparse: the module must be an {expected.__name__}, but {reason}")
    names = module._gate_names()
    tensors = [getattr(module, name) for name in names]
    masks = [_mask(module, name) for name in names if "weight" in name]
    dtype = tensors[0].dtype
    if dtype not in DTYPES or not _wanted(module) or not _plain(dtype, tensors, masks):
        return None
    compiled = _compile(names, tensors, masks)
    if not compiled:
        return None
    made = twin(cast(nn.RNNBase, module), cast(type[nn.RNNBase], cls), move=False)
    for name, tensor in zip(names, compiled, strict=True):
        del made._parameters[name]
        made._buffers.pop(name + MASK, None)
        made.register_buffer(name + COMPILED * ("weight" in name), tensor, persistent=False)
    live = sum(int(module.weight_in_use(n).count_nonzero()) for n in names if "weight" in n)
    sizes = [tensor.numel() for tensor in tensors]
    made.counts = sum(sizes), sum(mask.numel() for mask in masks), live
    made._shapes = {n: tuple(t.shape) for n, t in zip(names, tensors, strict=True)}
    made._dtype = dtype
    made._init_flat_weights()
    return cast(Made, made.eval())


def _mask(module: GateMLPs, name: str) -> Tensor:
    """That of a weight; where torch's pruning has taken it away, all on."""
    mask = getattr(module, name + MASK, None)
    return torch.ones_like(getattr(module, name), dtype=torch.bool) if mask is None else mask


def _wanted(module: GateMLPs) -> bool:
    return requested(module.backend)[0] in ("auto", "cpu") and not missing("cpu")


def _plain(dtype: torch.dtype, tensors: Sequence[Tensor], masks: Sequence[Tensor]) -> bool:
    """Everything is what the module made, on the CPU and in one dtype."""
    return all(
        type(t) in types and t.dtype == of and t.is_cpu
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
