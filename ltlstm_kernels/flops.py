# SPDX-License-Identifier: Apache-2.0
"""What torch.utils.flop_counter.FlopCounterMode counts for the operators: import this to teach it.

Not part of `import ltlstm`, for torch's counter imports NumPy and Triton.

As torch counts: two a multiplication of a matrix product, nothing for what is done element by
element. A backward takes two products where the forward takes one. Shapes stand for tensors here.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from ltlstm_kernels.ops import AVAILABLE

Shape = Sequence[int]


def _cells(weights: Sequence[Shape], bias: bool, projected: bool, peephole: bool) -> int:
    """Of one row of the input: all that is a matrix, but the peepholes, the last of each group."""
    group = 2 + 2 * bias + projected + peephole
    last = (len(weights) - 1) % group  # the first layer of a layer lane has no w_hh
    products = [
        prod(w) for i, w in enumerate(weights)
        if len(w) == 2 and not (peephole and i % group == last)
    ]  # fmt: skip
    return 2 * sum(products)


def _stack(input: Shape, *rest: Any) -> int:
    """rest: h0, c0, weights, masks, batch_sizes, reset and what follows them: flags last."""
    return prod(input[:-1]) * _cells(rest[2], *_flags(rest))


def _trajectory(input: Shape, *rest: Any) -> int:
    flags = _flags(rest)
    return prod(input[:-1]) * (_cells(rest[2], *flags) + _cells(rest[3], *flags))


def _flags(rest: Sequence[Any]) -> list[bool]:
    """bias, projected, peephole: the first arguments that are bool."""
    return [value for value in rest if isinstance(value, bool)][:3]


def _h_stack(input: Shape, h0: Shape, c0: Shape, weights: Sequence[Shape], *_: Any) -> int:
    """w_ih and w_hh of each cell, and its gates' later layers (4, out, in)."""
    group = len(weights) // h0[0]
    products = [prod(w) for i, w in enumerate(weights) if i % group < 2 or len(w) == 3]
    return 2 * prod(input[:-1]) * sum(products)


def _register(name: str, grads: int, count: Callable[..., int]) -> None:
    """grads: of how many outputs a backward takes gradients, before the forward's arguments."""

    def forward(*shapes: Any, out_shape: Any = None) -> int:
        return count(*shapes)

    def backward(*shapes: Any, out_shape: Any = None) -> int:
        return 2 * count(*shapes[grads:])

    register_flop_formula(getattr(torch.ops.ltlstm, f"{name}_forward"))(forward)
    register_flop_formula(getattr(torch.ops.ltlstm, f"{name}_backward"))(backward)


if AVAILABLE:
    _register("lstm_stack", 5, _stack)
    _register("lt_lstm", 7, _trajectory)
    _register("h_lstm", 5, _h_stack)
