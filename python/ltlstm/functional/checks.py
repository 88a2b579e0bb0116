# SPDX-License-Identifier: Apache-2.0
"""Checks of one argument, for functions and modules alike."""

import torch
from torch import Tensor


def check_pair(op: str, hx: object, of: str = "lstm") -> None:
    """hx holds two tensors; ``of``: in whose words another number of them is refused."""
    if not isinstance(hx, tuple | list):
        raise TypeError(f"{op}: hx must be a tuple of two Tensors, got a {type(hx).__name__}")
    if len(hx) != 2:
        raise RuntimeError(f"{of} expects two hidden states")  # nn's text
    for i, state in enumerate(hx):
        if not isinstance(state, Tensor):
            raise TypeError(f"{op}: hx[{i}] must be a Tensor, got a {type(state).__name__}")


def require_tensor(op: str, name: str, value: object) -> None:
    if value is not None and not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a Tensor or None, got a {type(value).__name__}")


def check_reset(op: str, reset: Tensor, input: Tensor) -> None:
    """One truth value a frame of the input, in whatever layout both have."""
    require_tensor(op, "reset", reset)
    shape, device = input.shape[:-1], input.device
    if reset.dtype != torch.bool or reset.shape != shape or reset.device != device:
        raise ValueError(
            f"{op}: reset must be bool of shape {tuple(shape)} on {device}, got {reset.dtype} of "
            f"shape {tuple(reset.shape)} on {reset.device}"
        )
