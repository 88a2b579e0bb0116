# SPDX-License-Identifier: Apache-2.0
"""The H-LSTM's operators for CUDA tensors. Triton itself is imported by the first call that runs
them, never by this module."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor


def missing() -> str | None:
    """Why no call can run here, if none can."""
    return "triton is not installed" if find_spec("triton") is None else None


def forward(*arguments: Any) -> tuple[Tensor, ...]:
    from ltlstm_kernels import triton_stack

    return triton_stack.forward(*arguments)


def backward(*arguments: Any) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    from ltlstm_kernels import triton_stack

    return triton_stack.backward(*arguments)


def register(dispatch_key: str) -> None:
    """Makes them serve the tensors of this dispatch key."""
    torch.library.impl("ltlstm::h_lstm_forward", dispatch_key)(forward)
    torch.library.impl("ltlstm::h_lstm_backward", dispatch_key)(backward)
