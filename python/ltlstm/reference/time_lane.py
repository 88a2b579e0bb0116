# SPDX-License-Identifier: Apache-2.0
"""The cell, one time-LSTM, and a stack of them (plain or residual)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from ltlstm.reference.rows import Has, Rows, Weights, read, replace

Stack = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def cell(preact: Tensor, c: Tensor, peephole: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One LSTM cell, element by element: preact (..., 4H), c (..., H) -> h, c_new (..., H)."""
    i, f, g, o = preact.chunk(4, dim=-1)
    if peephole is not None:
        i = i + peephole[0] * c
        f = f + peephole[1] * c
    c_new = f.sigmoid() * c + i.sigmoid() * g.tanh()
    if peephole is not None:
        o = o + peephole[2] * c_new  # the output gate sees the new cell
    return o.sigmoid() * c_new.tanh(), c_new


def _time_lstm(
    x: Tensor, h: Tensor, c: Tensor, w: Weights, rows: Rows, reverse: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One layer in one direction: x (*, D), h (N, P), c (N, H) -> h (*, P), c (*, H), h_n, c_n."""
    assert w.hh is not None
    preact = rows.steps(linear(x, w.ih, w.b_ih))
    resets = None if rows.reset is None else rows.steps(rows.reset)
    past_end = None if rows.past_end is None else rows.past_end.unbind(0)
    hs: list[Tensor] = []
    cs: list[Tensor] = []
    for t in reversed(range(len(preact))) if reverse else range(len(preact)):
        # A reset lies before its step: scanning back, step t is reached across the one of t+1.
        boundary = t + 1 if reverse else t
        if resets is not None and boundary < len(resets):
            cleared = resets[boundary][:, None]
            h = replace(h, h[: len(cleared)].masked_fill(cleared, 0))
            c = replace(c, c[: len(cleared)].masked_fill(cleared, 0))
        n = preact[t].shape[0]
        h_t, c_t = cell(preact[t] + linear(h[:n], w.hh, w.b_hh), c[:n], w.peephole)
        if w.hr is not None:
            h_t = linear(h_t, w.hr)
        if past_end is not None:
            h_t = torch.where(past_end[t][:, None], h, h_t)
            c_t = torch.where(past_end[t][:, None], c, c_t)
        hs.append(h_t)
        cs.append(c_t)
        h, c = replace(h, h_t), replace(c, c_t)
    if reverse:
        hs.reverse()
        cs.reverse()
    return rows.end(rows.join(hs)), rows.end(rows.join(cs)), h, c


def stack(
    input: Tensor,
    h0: Tensor,
    c0: Tensor,
    weights: Sequence[Tensor],
    masks: Sequence[Tensor],
    rows: Rows,
    has: Has,
    bidirectional: bool,
    residual: bool,
) -> Stack:
    """input (*, D), h0 (L*dirs, N, P), c0 (L*dirs, N, H) -> output (*, dirs*P), h_n, c_n,
    hidden (L, *, dirs*P), cells (L*dirs, *, H).

    masks: dropout masks (*, dirs*P), scaled, for what the layers above the first read. reset (*),
    bool: the state is zero before that step. lengths (N,), for padded input: a row that has ended
    keeps its state, and reads as zero everywhere else.
    """
    dirs = 2 if bidirectional else 1
    layers = h0.shape[0] // dirs
    flat = iter(weights)
    # What lies past the end may be anything, NaN included.
    x = rows.end(input)
    hidden: list[Tensor] = []
    cells: list[Tensor] = []
    h_n: list[Tensor] = []
    c_n: list[Tensor] = []
    for layer in range(layers):
        if layer > 0:
            below = hidden[-1] * masks[layer - 1] if masks else hidden[-1]
            x = x + below if residual and layer > 1 else below
        outputs: list[Tensor] = []
        for direction in range(dirs):
            k = layer * dirs + direction
            h, c, h_last, c_last = _time_lstm(
                x, h0[k], c0[k], read(flat, has), rows, reverse=direction == 1
            )
            outputs.append(h)
            cells.append(c)
            h_n.append(h_last)
            c_n.append(c_last)
        hidden.append(torch.cat(outputs, dim=-1))
    output = x + hidden[-1] if residual and layers > 1 else hidden[-1]
    return output, torch.stack(h_n), torch.stack(c_n), torch.stack(hidden), torch.stack(cells)
