# SPDX-License-Identifier: Apache-2.0
"""The cell, one time-LSTM, and a stack of them (plain or residual)."""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from ltlstm.reference.rows import Has, Rows, first, read, replace

Stack = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]

# Of a layer in one direction: h (*, P), c (*, H), h_n (N, P), c_n (N, H). Of a whole layer:
# h (*, dirs*P), c (dirs, *, H), h_n (dirs, N, P), c_n (dirs, N, H).
LayerResult = tuple[Tensor, Tensor, Tensor, Tensor]
# (its number among the L*dirs, x (*, .), h (N, P), c (N, H), reverse) -> what it gives.
Direction = Callable[[int, Tensor, Tensor, Tensor, bool], LayerResult]
# (x (*, .), h (dirs, N, P), c (dirs, N, H)) -> what it gives; called once a layer, in their order.
Layer = Callable[[Tensor, Tensor, Tensor], LayerResult]
# (what of preact is of this step, h, c) -> h, c: one step of the rows that are alive.
Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
# A step over time: `scan`, or what stands in for it where T is not known.
Scan = Callable[[Tensor, Tensor, Tensor, Rows, bool, Step], LayerResult]


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


def scan(
    preact: Tensor, h: Tensor, c: Tensor, rows: Rows, reverse: bool, step: Step
) -> LayerResult:
    """``step`` over time: preact (*, .), h (N, P), c (N, H)."""
    steps = rows.steps(preact)
    resets = None if rows.reset is None else rows.steps(rows.reset)
    past_end = None if rows.past_end is None else rows.past_end.unbind(0)
    hs: list[Tensor] = []
    cs: list[Tensor] = []
    for t in reversed(range(len(steps))) if reverse else range(len(steps)):
        # A reset lies before its step: scanning back, step t is reached across the one of t+1.
        boundary = t + 1 if reverse else t
        cleared = resets[boundary] if resets is not None and boundary < len(resets) else None
        ended = None if past_end is None else past_end[t]
        h_t, c_t = advance(step, steps[t], h, c, cleared, ended)
        hs.append(h_t)
        cs.append(c_t)
        h, c = replace(h, h_t), replace(c, c_t)
    if reverse:
        hs.reverse()
        cs.reverse()
    return rows.end(rows.join(hs)), rows.end(rows.join(cs)), h, c


def advance(
    step: Step, preact: Tensor, h: Tensor, c: Tensor, cleared: Tensor | None, ended: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One step of the rows that are alive -> their h, c. cleared: rows whose state is zero before
    it; ended: rows that keep their state."""
    if cleared is not None:
        h = replace(h, first(h, cleared).masked_fill(cleared[:, None], 0))
        c = replace(c, first(c, cleared).masked_fill(cleared[:, None], 0))
    h_t, c_t = step(preact, first(h, preact), first(c, preact))
    if ended is not None:
        h_t, c_t = torch.where(ended[:, None], h, h_t), torch.where(ended[:, None], c, c_t)
    return h_t, c_t


def each_way(run: Direction) -> Layer:
    """A whole layer of its directions, one after the other."""
    numbers = itertools.count()

    def layer(x: Tensor, h: Tensor, c: Tensor) -> LayerResult:
        found = [run(next(numbers), x, h[d], c[d], d == 1) for d in range(h.shape[0])]
        hs, cs, h_n, c_n = zip(*found, strict=True)
        return torch.cat(hs, dim=-1), torch.stack(cs), torch.stack(h_n), torch.stack(c_n)

    return layer


def time_lstms(weights: Sequence[Tensor], has: Has, rows: Rows, scan: Scan = scan) -> Layer:
    """Each layer, of the weights in the order of the flat list."""
    flat = iter(weights)

    def run(k: int, x: Tensor, h: Tensor, c: Tensor, reverse: bool) -> LayerResult:
        w = read(flat, has)
        assert w.hh is not None
        w_hh = w.hh

        def step(preact: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
            h, c = cell(preact + linear(h, w_hh, w.b_hh), c, w.peephole)
            return (h if w.hr is None else linear(h, w.hr)), c

        return scan(linear(x, w.ih, w.b_ih), h, c, rows, reverse, step)

    return each_way(run)


def stack(
    input: Tensor,
    h0: Tensor,
    c0: Tensor,
    masks: Sequence[Tensor],
    rows: Rows,
    run_layer: Layer,
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
        span = slice(layer * dirs, (layer + 1) * dirs)
        h, c, h_last, c_last = run_layer(x, h0[span], c0[span])
        hidden.append(h)
        cells.append(c)
        h_n.append(h_last)
        c_n.append(c_last)
    output = x + hidden[-1] if residual and layers > 1 else hidden[-1]
    return output, torch.cat(h_n), torch.cat(c_n), torch.stack(hidden), torch.cat(cells)
