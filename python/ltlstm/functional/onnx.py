# SPDX-License-Identifier: Apache-2.0
"""Stacks as nodes of standard ONNX, while torch.onnx.export(dynamo=True) traces them.

All is the reference's but what recurs over time: there a layer is one LSTM node, or, for what that
node has not, a Scan over the reference's step. T and N may be dynamic.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from ltlstm.functional.problem import Problem, Result
from ltlstm.reference.h_lstm import h_lstms
from ltlstm.reference.layer_lane import trajectory
from ltlstm.reference.rows import Has, Rows, Weights, read
from ltlstm.reference.time_lane import Layer, LayerResult, Step, advance, stack, time_lstms

# Where ours stand in the node's order: i, o, f, c, and of peepholes i, o, f.
_GATES = (0, 3, 1, 2)
_PEEPHOLES = (0, 2, 1)


def compute(p: Problem) -> Result:
    """Any stack, of padded rows."""
    if p.batch_sizes is not None:
        raise RuntimeError(
            f"{p.op}: input must be padded, with lengths=, in an export to ONNX, got packed data"
        )
    # The file takes no gradient, and a Scan that needs none is traced several times faster.
    p.input, p.h0, p.c0 = p.input.detach(), p.h0.detach(), p.c0.detach()
    p.weights = [w.detach() for w in p.weights]
    rows = Rows(p.input, None, p.lengths, p.reset)
    has = Has(p.flags.bias, p.flags.projected, p.flags.peephole)
    if p.gate_layers:
        layer = h_lstms(p.weights, p.gate_layers, rows, p.slope, p.gate_masks, has.bias, _scan)
    elif p.reset is not None or p.states or p.input.dtype == torch.float64:
        # The node has no reset and gives no c of each step; onnxruntime has none for float64.
        layer = time_lstms(p.weights, has, rows, _scan)
    else:
        layer = _nodes(p, has, rows)
    residual = p.op == "residual_lstm"
    found = stack(p.input, p.h0, p.c0, p.masks, rows, layer, p.flags.bidirectional, residual)
    r = Result(*found) if p.states else Result(*found[:3])
    if p.traj_weights:
        masks = p.masks if len(p.masks) == p.layers else ()
        r.g, r.m = trajectory(
            found[3], p.traj_weights, masks, rows, has, p.depth_unit, p.contexts
        )  # fmt: skip
        r.output = r.g[-1]
    return r


def _scan(
    preact: Tensor, h: Tensor, c: Tensor, rows: Rows, reverse: bool, step: Step
) -> LayerResult:
    """:func:`ltlstm.reference.time_lane.scan` as one operator."""
    cleared = rows.reset
    if cleared is not None and reverse:
        cleared = torch.cat([cleared[1:], torch.zeros_like(cleared[:1])])
    asked = {"cleared": cleared, "ended": rows.past_end}
    given = {name: mask for name, mask in asked.items() if mask is not None}

    def body(
        state: list[Tensor], now: tuple[Tensor, dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        preact, masks = now
        h, c = advance(
            step, preact, state[0], state[1], masks.get("cleared"), masks.get("ended")
        )  # fmt: skip
        return [h, c], [h.clone(), c.clone()]  # the operator takes no output twice

    # Not at the top: it imports all of torch.compile, which takes two seconds.
    from torch._higher_order_ops.scan import scan

    (h_n, c_n), (hs, cs) = scan(body, [h, c], (preact, given), reverse=reverse)
    return rows.end(hs), rows.end(cs), h_n, c_n


def _nodes(p: Problem, has: Has, rows: Rows) -> Layer:
    """Each layer as one LSTM node, with a product behind it where there is a projection.

    The node has no projection. But it may recur over r = o tanh(c), of which h = W_hr r: W_hh h is
    (W_hh W_hr) r. Only an h0 that is given need not be W_hr of anything: what it adds to the first
    step comes in by more columns of that step's x.
    """
    flat = iter(p.weights)
    T, dirs = p.input.shape[0], p.flags.dirs
    lengths = None if p.lengths is None else p.lengths.to(p.input.device, torch.int32)

    def layer(x: Tensor, h: Tensor, c: Tensor) -> LayerResult:
        cells = [read(flat, has) for _ in range(dirs)]
        w_ih, w_hh, w_hr = [w.ih for w in cells], _present(cells, "hh"), _present(cells, "hr")
        h0, c0 = (None, None) if p.fresh else (h, c)
        if w_hr:
            if h0 is not None:
                x = torch.cat([x, *_entering(h0, T, lengths)], dim=-1)
                w_ih = [_beside(w, w_hh, direction) for direction, w in enumerate(w_ih)]
                h0 = None
            w_hh = [hh @ hr for hh, hr in zip(w_hh, w_hr, strict=True)]
        y, h_n, c_n = _lstm(x, w_ih, w_hh, cells, lengths, h0, c0, c)
        y = y.transpose(1, 2)  # (T, N, dirs, H)
        if w_hr:
            y = torch.stack([linear(y[:, :, d], hr) for d, hr in enumerate(w_hr)], dim=2)
            h_n = torch.stack([linear(h_n[d], hr) for d, hr in enumerate(w_hr)])
        if lengths is not None:  # what the node makes of a row of length 0 is not told
            some = (lengths > 0)[:, None]
            h_n, c_n = torch.where(some, h_n, h), torch.where(some, c_n, c)
        # Of c only the last step: a call that asks for each does not come here.
        return rows.end(y.flatten(2)), c_n[:, None], h_n, c_n

    return layer


def _present(cells: Sequence[Weights], name: str) -> list[Tensor]:
    """The weights of this name, one a direction, or none."""
    found = [getattr(cell, name) for cell in cells]
    return [w for w in found if w is not None]


def _entering(h0: Tensor, T: int, lengths: Tensor | None) -> list[Tensor]:
    """h0 (dirs, N, P) at the step of each row that a direction begins with, else zeros: (T, N, P)
    for each direction."""
    t = torch.arange(T, device=h0.device)[:, None, None]
    last = T - 1 if lengths is None else lengths[:, None] - 1
    begins = (t == 0, t == last)
    return [torch.where(begins[d], h, 0) for d, h in enumerate(h0.unbind(0))]


def _beside(w_ih: Tensor, w_hh: Sequence[Tensor], direction: int) -> Tensor:
    """(4H, D + dirs*P): the columns for what `_entering` gives, the other direction's zero."""
    own = [w if d == direction else torch.zeros_like(w) for d, w in enumerate(w_hh)]
    return torch.cat([w_ih, *own], dim=-1)


def _joined(weights: Sequence[Tensor], order: Sequence[int]) -> Tensor:
    """One weight of each direction, (rows, ...) -> (dirs, rows, ...), its gates in this order."""
    by_gate = torch.stack(list(weights)).unflatten(1, (len(order), -1))
    return by_gate.index_select(1, torch.tensor(order, device=by_gate.device)).flatten(1, 2)


def _lstm(
    x: Tensor, w_ih: Sequence[Tensor], w_hh: Sequence[Tensor], cells: Sequence[Weights],
    lengths: Tensor | None, h0: Tensor | None, c0: Tensor | None, like: Tensor,
) -> Sequence[Tensor]:  # fmt: skip
    """The node -> y (T, dirs, N, H), h_n and c_n (dirs, N, H), as ``like``."""
    b_ih, b_hh, peepholes = (_present(cells, name) for name in ("b_ih", "b_hh", "peephole"))
    biases = torch.cat([_joined(b_ih, _GATES), _joined(b_hh, _GATES)], dim=1) if b_ih else None
    peephole = _joined([w.flatten() for w in peepholes], _PEEPHOLES) if peepholes else None
    recurrent = _joined(w_hh, _GATES)
    inputs = (x, _joined(w_ih, _GATES), recurrent, biases, lengths, h0, c0, peephole)
    direction = "bidirectional" if len(cells) == 2 else "forward"
    return torch.onnx.ops.symbolic_multi_out(
        "LSTM", inputs, {"hidden_size": like.shape[-1], "direction": direction},
        dtypes=[x.dtype] * 3, shapes=[(x.shape[0], *like.shape), like.shape, like.shape],
    )  # fmt: skip
