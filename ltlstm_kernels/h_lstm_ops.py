# SPDX-License-Identifier: Apache-2.0
"""The operators of the H-LSTM, typed. Conventions and letters: :mod:`ltlstm_kernels.ops`.

Each gate is an MLP with J >= 1 hidden layers of width K. Flat `weights`, layer by layer, forward
direction before reverse: w_ih (4K, D or dirs*H), w_hh (4K, H), [b (4K) with bias], and J times what
follows a hidden layer: w (4, K, but H in the last, K), [b (4, K or H)]. L comes from h0, J from the
length of the list. `gate_masks` (L*dirs*J, *, 4K): dropout masks of the hidden layers, already
scaled, none negative. `slope` >= 0: of the hidden layers' activation below zero.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ltlstm_kernels import triton_ops
from ltlstm_kernels.ops import (
    AVAILABLE,
    _dispatch,
    _plain,
    _plain_or_none,
    _stack_backward_fake,
    _stacked,
    _time_lane_fake,
)


class HStack(NamedTuple):
    """Outputs of h_lstm_forward. What follows `c_n` is empty where `save` is False."""

    output: Tensor  # (*, dirs*H)
    h_n: Tensor  # (L*dirs, N, H)
    c_n: Tensor  # (L*dirs, N, H)
    hidden: Tensor  # (L-1, *, dirs*H), outputs of the layers below the last, before dropout
    cells: Tensor  # (L*dirs, *, H)
    gates: Tensor  # (L*dirs, *, 4H), not differentiable
    gate_hidden: Tensor  # (L*dirs*J, *, 4K), after dropout, not differentiable


def h_lstm_forward(
    input: Tensor,
    h0: Tensor,
    c0: Tensor,
    weights: Sequence[Tensor],
    masks: Sequence[Tensor] = (),
    gate_masks: Tensor | None = None,
    batch_sizes: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    bias: bool,
    bidirectional: bool,
    slope: float,
    save: bool,
) -> HStack:
    """A stack of H-LSTMs (arXiv 1805.11797): input (*, D), h0, c0 (L*dirs, N, H), 0 or L-1 masks.

    Weights are given as they act: where they are sparse, masked; their gradients are dense. `save`
    keeps what the backward needs.
    """
    return HStack(
        *_dispatch(
            torch.ops.ltlstm.h_lstm_forward,
            input.contiguous(), h0.contiguous(), c0.contiguous(), _plain(weights),
            _stacked(masks), _plain_or_none(gate_masks), batch_sizes, _plain_or_none(reset),
            bias, bidirectional, slope, save,
        )
    )  # fmt: skip


def h_lstm_backward(
    grads: Sequence[Tensor | None], saved: Sequence, flags: Sequence[bool | float]
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Gradients of input, h0, c0 and weights.

    grads: of output, h_n, c_n, hidden, cells, None where there is none. saved: input, h0, c0,
    weights, masks (stacked), gate_masks, batch_sizes, reset, output, hidden, cells, gates,
    gate_hidden. flags: bias, bidirectional, slope.
    """
    return torch.ops.ltlstm.h_lstm_backward(*map(_plain_or_none, grads), *saved, *flags)


def _h_lstm_forward_fake(input, h0, c0, weights, masks, gate_masks, batch_sizes, reset, *flags):
    bias, bidirectional, _, save = flags
    stack = _time_lane_fake(input, h0, c0, bidirectional, save, top=False)
    layers = (len(weights) // h0.shape[0] - 2 - bias) // (1 + bias)
    kept = h0.shape[0] * layers if save else 0
    return *stack, input.new_empty((kept, *input.shape[:-1], weights[0].shape[0]))


if AVAILABLE:
    torch.library.register_fake("ltlstm::h_lstm_forward", _h_lstm_forward_fake)
    torch.library.register_fake("ltlstm::h_lstm_backward", _stack_backward_fake)
    triton_ops.register("CUDA")
