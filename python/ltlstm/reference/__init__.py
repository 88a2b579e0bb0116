# SPDX-License-Identifier: Apache-2.0
"""The equations as plain torch loops: the oracle every kernel is compared with.

The only Python copy of the mathematics. Differentiable to any order, in any float dtype, on any
device, and under ``torch.func`` (nothing is written in place). It is slow on purpose: one line
here is one line of the papers.

Shape letters: T time steps, N batch, L layers, D input, H cells, P output of one direction (H, or
the projection's size), dirs 1 or 2; G = dirs*H cells and Q = dirs*P outputs of a layer-LSTM. ``*``
is (T, N) for padded data, (S,) for packed data, with ``batch_sizes`` (T,) as in PackedSequence.

Flat weights, layer by layer, the forward direction before the reverse:
``w_ih (4H, D or dirs*P), w_hh (4H, P), [b_ih, b_hh (4H)], [w_hr (P, H)], [peephole (3, H)]``.
The layer lane has one such group a layer, with G and Q for H and P, and no ``w_hh`` in the first,
since g^0 = 0. Gate order is i, f, g, o; the rows of a peephole are i, f, o.
"""

from collections.abc import Sequence

from torch import Tensor

from ltlstm.reference.h_lstm import h_stack
from ltlstm.reference.layer_lane import Trajectory, trajectory
from ltlstm.reference.rows import Has, Rows
from ltlstm.reference.time_lane import Stack, cell, stack, time_lstms

__all__ = ["cell", "h_lstm", "layer_trajectory", "lstm", "lt_lstm", "residual_lstm"]


def lstm(
    input: Tensor,
    h0: Tensor,
    c0: Tensor,
    weights: Sequence[Tensor],
    *,
    masks: Sequence[Tensor] = (),
    batch_sizes: Tensor | None = None,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    bias: bool = True,
    projected: bool = False,
    peephole: bool = False,
    bidirectional: bool = False,
) -> Stack:
    """A stack of time-LSTMs: :func:`ltlstm.reference.time_lane.stack` says what goes in and out."""
    has = Has(bias, projected, peephole)
    rows = Rows(input, batch_sizes, lengths, reset)
    layers = time_lstms(weights, has, rows)
    return stack(input, h0, c0, masks, rows, layers, bidirectional, residual=False)


def residual_lstm(
    input: Tensor,
    h0: Tensor,
    c0: Tensor,
    weights: Sequence[Tensor],
    *,
    masks: Sequence[Tensor] = (),
    batch_sizes: Tensor | None = None,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    bias: bool = True,
    projected: bool = False,
    peephole: bool = False,
    bidirectional: bool = False,
) -> Stack:
    """The stack with x^l = x^{l-1} + h^{l-1} (l > 2) and the output x^L + h^L (L > 1)."""
    has = Has(bias, projected, peephole)
    rows = Rows(input, batch_sizes, lengths, reset)
    layers = time_lstms(weights, has, rows)
    return stack(input, h0, c0, masks, rows, layers, bidirectional, residual=True)


def h_lstm(
    input: Tensor,
    h0: Tensor,
    c0: Tensor,
    weights: Sequence[Tensor],
    *,
    slope: float = 0.01,
    masks: Sequence[Tensor] = (),
    gate_masks: Tensor | None = None,
    batch_sizes: Tensor | None = None,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    bias: bool = True,
    bidirectional: bool = False,
) -> Stack:
    """The stack of H-LSTMs: :func:`ltlstm.reference.h_lstm.h_stack` says what goes in and out.

    Sparse weights are given as they act, masked.
    """
    rows = Rows(input, batch_sizes, lengths, reset)
    return h_stack(input, h0, c0, weights, masks, gate_masks, rows, slope, bias, bidirectional)


def lt_lstm(
    input: Tensor,
    h0: Tensor,
    c0: Tensor,
    weights: Sequence[Tensor],
    traj_weights: Sequence[Tensor],
    *,
    masks: Sequence[Tensor] = (),
    batch_sizes: Tensor | None = None,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    bias: bool = True,
    projected: bool = False,
    peephole: bool = False,
    bidirectional: bool = False,
    depth_unit: str = "lstm",
    contexts: Sequence[Tensor] = (),
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """The layer trajectory LSTM -> (output = g^L, h_n, c_n, hidden, cells, g, m).

    With L masks the layer lane reads h^l * masks[l] too; with L-1 only the time lane drops.
    """
    has = Has(bias, projected, peephole)
    rows = Rows(input, batch_sizes, lengths, reset)
    _, h_n, c_n, hidden, cells = stack(
        input, h0, c0, masks, rows, time_lstms(weights, has, rows), bidirectional, residual=False
    )
    traj_masks = masks if len(masks) == len(hidden) else ()
    g, m = trajectory(hidden, traj_weights, traj_masks, rows, has, depth_unit, contexts)
    return g[-1], h_n, c_n, hidden, cells, g, m


def layer_trajectory(
    hidden: Tensor,
    traj_weights: Sequence[Tensor],
    *,
    masks: Sequence[Tensor] = (),
    batch_sizes: Tensor | None = None,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    bias: bool = True,
    projected: bool = False,
    peephole: bool = False,
    depth_unit: str = "lstm",
    contexts: Sequence[Tensor] = (),
) -> Trajectory:
    """The layer lane alone: hidden (L, *, dirs*P) -> g (L, *, Q), m (L, *, G) or None.

    ``contexts``, L-1 tensors (tau+1, Q), let layers 2..L read frames to come of the g below them.
    """
    has = Has(bias, projected, peephole)
    rows = Rows(hidden[0], batch_sizes, lengths, reset)
    return trajectory(hidden, traj_weights, masks, rows, has, depth_unit, contexts)
