# SPDX-License-Identifier: Apache-2.0
"""The layer lane: at each (t, n) a recurrence over the layers, by one of three depth units."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from ltlstm.reference.rows import Has, Rows, Weights, read
from ltlstm.reference.time_lane import cell

Trajectory = tuple[Tensor, Tensor | None]
Cell = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


def trajectory(
    hidden: Tensor,
    weights: Sequence[Tensor],
    masks: Sequence[Tensor],
    rows: Rows,
    has: Has,
    depth_unit: str,
    contexts: Sequence[Tensor],
) -> Trajectory:
    """hidden (L, *, dirs*P) -> g (L, *, Q), and m (L, *, G) for the unit "lstm"; masks: none, or
    L of (*, dirs*P); contexts: none, or L-1 of (tau+1, Q). ValueError for an unknown unit."""
    flat = iter(weights)
    g: list[Tensor] = []
    m: list[Tensor] = []
    for layer, h in enumerate(hidden.unbind(0)):
        below = g[-1] if layer > 0 else None
        if below is not None and contexts:
            below = _look_ahead(below, contexts[layer - 1], rows)
        if masks:
            h = h * masks[layer]
        if depth_unit == "lstm":
            w = read(flat, has, hh=layer > 0)
            g_l, m_l = layer_lstm(h, below, m[-1] if m else None, w, cell)
            m.append(rows.end(m_l))
        elif depth_unit == "gated":
            plain = Has(has.bias, projected=False, peephole=False)
            g_l = gated(h, below, read(flat, plain, hh=layer > 0, b_hh=layer > 0))
        elif depth_unit == "max":
            plain = Has(has.bias, projected=False, peephole=False)
            g_l = max_out(h, below, read(flat, plain, hh=layer > 0))
        else:
            raise ValueError(
                f"reference: depth_unit must be 'lstm', 'gated' or 'max', got {depth_unit!r}"
            )
        g.append(rows.end(g_l))
    return torch.stack(g), torch.stack(m) if m else None


def _look_ahead(g: Tensor, context: Tensor, rows: Rows) -> Tensor:
    """z_t = sum_d q_d (.) g_{t+d}."""
    z = context[0] * g
    for q in context[1:].unbind(0):
        g = rows.next(g)
        z = z + q * g
    return z


def layer_lstm(
    h: Tensor, below: Tensor | None, m: Tensor | None, w: Weights, cell: Cell
) -> tuple[Tensor, Tensor]:
    """The cell again, its "previous" one layer down instead of one step back; g^0 = m^0 = 0."""
    preact = linear(h, w.ih, w.b_ih)
    if below is not None and w.hh is not None:
        preact = preact + linear(below, w.hh, w.b_hh)
    elif w.b_hh is not None:
        preact = preact + w.b_hh
    if m is None:
        m = preact.new_zeros(*preact.shape[:-1], preact.shape[-1] // 4)
    g, m = cell(preact, m, w.peephole)
    return (g if w.hr is None else linear(g, w.hr)), m


def gated(h: Tensor, below: Tensor | None, w: Weights) -> Tensor:
    """g = a (.) (S_h h) + b (.) (S_g g'), a = s(O_h h + b_ih), b = s(O_g g' + b_hh)."""

    def branch(x: Tensor, weight: Tensor, b: Tensor | None) -> Tensor:
        gate, value = weight.chunk(2)
        return linear(x, gate, b).sigmoid() * linear(x, value)

    g = branch(h, w.ih, w.b_ih)
    return g if below is None or w.hh is None else g + branch(below, w.hh, w.b_hh)


def max_out(h: Tensor, below: Tensor | None, w: Weights) -> Tensor:
    """g = max(S_h h + b_ih, S_g g' + b_hh); g' = 0 in the first layer."""
    from_h = linear(h, w.ih, w.b_ih)
    if below is not None and w.hh is not None:
        return torch.maximum(from_h, linear(below, w.hh, w.b_hh))
    from_g = torch.zeros_like(from_h)
    return torch.maximum(from_h, from_g if w.b_hh is None else from_g + w.b_hh)
