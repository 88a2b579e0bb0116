# SPDX-License-Identifier: Apache-2.0
"""Whether a call may go to its operator at once: inference on ordinary CPU tensors.

Nothing has to be decided there, and the operator checks its arguments itself. A step of one row
takes about as long as the checks and the choice that every other call needs, longer where what ran
between two steps has driven them out of the cache.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter

from ltlstm_kernels.backend import is_surely_cpu
from ltlstm_kernels.measured import Sizes

_ORDINARY = (Tensor, Parameter)


def may_be_direct() -> bool:
    """Whether the surroundings of a call allow it: no gradients, no autocast, no transform."""
    return not (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._is_any_autocast_enabled()
        or torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
    )


def is_direct(
    op: str, input: Tensor, h0: Tensor, c0: Tensor, weights: Iterable[Tensor], layers: int,
    backend: str | None,
) -> bool:  # fmt: skip
    """Whether a call without dropout, lengths, reset and states, in such surroundings, is: input is
    (T, N, D). The operator may still refuse it; then the long way says why."""
    for tensor in (input, h0, c0, *weights):
        if type(tensor) not in _ORDINARY or not tensor.is_cpu:
            return False
    if c0.dim() != 3 or input.dtype not in (torch.float32, torch.float64):
        return False
    T, N, _ = input.shape
    return T > 0 and is_surely_cpu(op, backend, Sizes(T, N, c0.shape[-1], layers, False))
