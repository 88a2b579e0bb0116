# SPDX-License-Identifier: Apache-2.0
"""How a weight is a matrix: gates, rows (what it makes), columns (what it reads); and its checks.

Every mask operation sees a weight as (gates, rows, columns), so one index set across the gates is
a sum over the first dimension.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Layout(NamedTuple):
    """The matrices inside a parameter, in the order of its memory."""

    gates: int  # matrices on top of each other; an LSTM's four gates
    rows: int  # of one gate
    columns: int
    span: int = 1  # columns of one input: the positions of a convolution's kernel

    @property
    def size(self) -> int:
        return self.gates * self.rows * self.columns

    def view(self, tensor: Tensor) -> Tensor:
        """(gates, rows, columns) over the same memory, or a copy of strided memory."""
        return tensor.reshape(self.gates, self.rows, self.columns)


def matrix_layout(shape: Sequence[int], gates: int = 1) -> Layout:
    """The layout of ``gates`` matrices stacked in a weight (gates * rows, columns, ...).

    Trailing dimensions count as columns of their input, as a convolution's kernel does.
    """
    if len(shape) < 2 or gates < 1 or shape[0] % gates:
        raise ValueError(
            f"matrix_layout: shape must be (gates * rows, columns, ...) with {gates} gates, "
            f"got {tuple(shape)}"
        )
    span = 1
    for n in shape[2:]:
        span *= n
    return Layout(gates, shape[0] // gates, shape[1] * span, span)


def check_fraction(op: str, name: str, value: float) -> None:
    """ValueError for what is no number from 0 to 1."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{op}: {name} must be a number in [0, 1], got {value!r}")


def check_mask(op: str, mask: Tensor, like: Tensor, name: str) -> None:
    """That a mask is a bool tensor of its weight's shape, on its device.

    Raises TypeError for another type or dtype, ValueError for another shape or device; ``name`` is
    the weight's.
    """
    if not isinstance(mask, Tensor):
        got = type(mask).__name__
        raise TypeError(f"{op}: mask of {name} must be a bool tensor, got {got}")
    if mask.dtype != torch.bool:
        raise TypeError(f"{op}: mask of {name} must be a bool tensor, got {mask.dtype}")
    if mask.shape != like.shape:
        raise ValueError(
            f"{op}: mask of {name} must have shape {tuple(like.shape)}, got {tuple(mask.shape)}"
        )
    if mask.device != like.device:
        raise ValueError(f"{op}: mask of {name} must be on {like.device}, got {mask.device}")
