# SPDX-License-Identifier: Apache-2.0
"""Sparse matrices compiled for inference on the CPU, typed. Letters: :mod:`ltlstm_kernels.ops`.

A compiled matrix is a uint8 tensor of one dimension, for the dtype of its weight, the instruction
set of this process and the values of weight and mask at that moment: it is to be made again when
one of those changes, not stored. It has one of three forms, which csrc/sparse_matrix.h explains:
"rows", "columns" or "windows". No operator here has a
derivative; what compiles, and sparse_linear, whose sizes only the bytes tell, are not to be traced.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ltlstm_kernels.ops import AVAILABLE, _dispatch, _plain, _plain_or_none


class SparseStack(NamedTuple):
    """Outputs of h_lstm_sparse_forward."""

    output: Tensor  # (*, dirs*H)
    h_n: Tensor  # (L*dirs, N, H)
    c_n: Tensor  # (L*dirs, N, H)


def sparse_compile(weight: Tensor, mask: Tensor | None = None, form: str | None = None) -> Tensor:
    """weight (rows, columns) or (gates, rows, columns), mask bool of its shape, or None for what is
    not zero -> the compiled matrix, in the form named or else in the fastest.

    Raises:
        RuntimeError: an argument does not fit; a form that this machine does not have ("windows"
            wants an instruction set that permutes, and as many columns as that reaches).
    """
    return torch.ops.ltlstm.sparse_compile(weight.detach().contiguous(), _plain_or_none(mask), form)


def sparse_linear(x: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (R, gates*columns), bias (gates*rows) -> (R, gates*rows): each gate's part of x times that
    gate's rows. A weight of two dimensions is one gate."""
    return _dispatch(torch.ops.ltlstm.sparse_linear, x.contiguous(), matrix, _plain_or_none(bias))


def h_lstm_sparse_forward(
    input: Tensor,
    h0: Tensor,
    c0: Tensor,
    weights: Sequence[Tensor],
    batch_sizes: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    bias: bool,
    bidirectional: bool,
    slope: float,
) -> SparseStack:
    """:func:`ltlstm_kernels.h_lstm_ops.h_lstm_forward` with every weight compiled (biases are as
    they are), without dropout and for inference only."""
    return SparseStack(
        *_dispatch(
            torch.ops.ltlstm.h_lstm_sparse_forward,
            input.contiguous(), h0.contiguous(), c0.contiguous(), _plain(weights),
            batch_sizes, _plain_or_none(reset), bias, bidirectional, slope,
        )
    )  # fmt: skip


def _h_lstm_sparse_forward_fake(input, h0, c0, *rest):
    bidirectional = rest[4]
    width = h0.shape[2] * (2 if bidirectional else 1)
    new = input.new_empty
    return new((*input.shape[:-1], width)), new(h0.shape), new(c0.shape)


if AVAILABLE:
    torch.library.register_fake("ltlstm::h_lstm_sparse_forward", _h_lstm_sparse_forward_fake)
