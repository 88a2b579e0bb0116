# SPDX-License-Identifier: Apache-2.0
"""ltlstm.functional.lt_lstm: the layer trajectory LSTM."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import _register_namedtuple

from ltlstm import reference
from ltlstm.functional import time_lane
from ltlstm.functional.depth_units import DEPTH_UNITS, check_depth_unit, weight_count
from ltlstm.functional.layer_lane import layer_lane
from ltlstm.functional.problem import Flags, Problem, Result, initial_state
from ltlstm.functional.run import run, states_h
from ltlstm.functional.stack import State, beyond_torch, reference_arguments
from ltlstm_kernels import ops


class LTLSTMStates(NamedTuple):
    """The states of every step; ``*`` is (T, N), or (S,) for packed data."""

    h: Tensor  # (L*dirs, *, P) of the time-LSTMs
    c: Tensor  # (L*dirs, *, H)
    g: Tensor  # (L, *, dirs*P) of the layer-LSTM
    m: Tensor | None  # (L, *, dirs*H); the depth units "gated" and "max" have no cell


# So that torch.export can save a program that returns it.
_register_namedtuple(LTLSTMStates, serialized_type_name="ltlstm.LTLSTMStates")


def lt_lstm(
    input: Tensor,
    hx: State | None,
    weights: Sequence[Tensor],
    traj_weights: Sequence[Tensor],
    *,
    bias: bool = True,
    dropout: float = 0.0,
    training: bool = False,
    projected: bool = False,
    peephole: bool = False,
    bidirectional: bool = False,
    batch_sizes: Tensor | None = None,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    return_states: bool = False,
    backend: str | None = None,
    depth_unit: str = "lstm",
    contexts: Sequence[Tensor] = (),
    traj_dropout: bool = True,
    lanes: bool | None = None,
) -> tuple[Any, ...]:
    """A stack of time-LSTMs under a layer-LSTM that recurs over the layers at each step.

    Arguments, results and errors of :func:`ltlstm.functional.lstm`, and:

    Args:
        traj_weights: flat, by layer, with Q = dirs*P and G = dirs*H: ``u_ih (4G, Q), [u_hh (4G, Q)
            but in the first layer], [b_ih, b_hh (4G)], [u_hr (Q, G)], [peephole (3, G)]``; one
            set for all layers is the same tensors again. "gated": ``u_ih, u_hh (2Q, Q)`` hold gate
            and value, ``b_ih (Q)``, and ``b_hh (Q)`` but in the first layer; "max": ``u_ih, u_hh
            (Q, Q)``, ``b_ih, b_hh (Q)``; neither has a projection or a peephole.
        depth_unit: "lstm", "gated" or "max".
        contexts: look-ahead: L-1 tensors (tau+1, Q), for the layers from the second on, which read
            ``sum_d q_d * g_{t+d}`` of the layer below; nothing is read past the end of a row or
            across a reset.
        traj_dropout: the layer-LSTM, too, reads the dropped h.
        lanes: whether time-LSTMs and layer-LSTMs run side by side, or one after the other with all
            cores; None takes what is faster. Only for the fused operator (depth unit "lstm" with no
            look-ahead); never a matter of results.

    Li, Liu, Gong, "Layer Trajectory LSTM", Interspeech 2018, arXiv 1808.09522; look-ahead as in
    arXiv 1904.12295. Equivalent to (depth unit "lstm")::

        h = [...]                              # ltlstm.functional.lstm, the output of each layer
        g = m = 0
        for l in range(L):                     # at every step by itself
            preact = linear(h[l], u_ih[l], b_ih[l]) + linear(g, u_hh[l], b_hh[l])
            g, m = ltlstm.reference.cell(preact, m, traj_peephole[l])
            g = linear(g, u_hr[l])             # if projected
        output = g
    """
    op = "lt_lstm"
    check_depth_unit(op, depth_unit)
    flags = Flags(bias, projected, peephole, bidirectional)
    h0, c0 = initial_state(op, input, hx, weights, flags, batch_sizes)
    p = Problem(
        op, input, h0, c0, weights, flags, batch_sizes, lengths, reset, traj_weights, contexts,
        depth_unit, lanes, fresh=hx is None,
    )  # fmt: skip
    _check_counts(p)
    r = run(
        p, _lt_lstm, dropout=dropout if training else 0.0,
        masks=p.layers if traj_dropout else p.layers - 1, return_states=return_states,
        beyond_torch=beyond_torch(flags, reset, return_states), backend=backend,
    )  # fmt: skip
    if not return_states:
        return r.output, (r.h_n, r.c_n)
    assert r.hidden is not None and r.cells is not None and r.g is not None
    states = LTLSTMStates(states_h(r.hidden, flags), r.cells, r.g, r.m)
    return r.output, (r.h_n, r.c_n), states


def _check_counts(p: Problem) -> None:
    """How many tensors each flat list holds; their shapes are the products' to check."""
    expected = weight_count(p.depth_unit, p.layers, *p.flags[:3])
    if len(p.traj_weights) != expected:
        raise ValueError(
            f"{p.op}: traj_weights must hold {expected} tensors, got {len(p.traj_weights)}"
        )
    # Not `not in (0, ...)`: where the number of layers is symbolic, dynamo finds it in no tuple.
    if len(p.contexts) > 0 and len(p.contexts) != p.layers - 1:
        raise ValueError(
            f"{p.op}: contexts must hold {p.layers - 1} tensors or none, got {len(p.contexts)}"
        )


def _lt_lstm(p: Problem) -> Result:
    if p.backend == "reference":
        return Result(
            *reference.lt_lstm(
                p.input, p.h0, p.c0, p.weights, p.traj_weights, **reference_arguments(p),
                depth_unit=p.depth_unit, contexts=p.contexts,
            )
        )  # fmt: skip
    if p.backend != "aten" and DEPTH_UNITS[p.depth_unit].has_cell and not p.contexts:
        return _fused(p)
    return _lane_by_lane(p)


def _fused(p: Problem) -> Result:
    bias, projected, peephole, bidirectional = p.flags
    r = ops.lt_lstm_forward(
        p.input, p.h0, p.c0, p.weights, p.traj_weights, p.masks, p.batch_sizes, p.reset, bias=bias,
        projected=projected, peephole=peephole, bidirectional=bidirectional, save=p.save,
        lanes=p.lanes,
    )  # fmt: skip
    output = time_lane.handed_out(r.output)
    if not p.states:
        return Result(output, r.h_n, r.c_n)
    g = torch.cat([r.traj_hidden, r.output[None]])
    return Result(output, r.h_n, r.c_n, r.hidden, r.cells, g, r.traj_cells)


def _lane_by_lane(p: Problem) -> Result:
    """The time lane, all layers, and then the layer lane."""
    lane = time_lane.all_layers(p)
    g, m = layer_lane(p, lane.hidden)
    result = Result(g[-1], torch.cat(lane.h_n), torch.cat(lane.c_n))
    if p.states:
        result.hidden, result.cells = torch.stack(lane.hidden), torch.cat(lane.cells)
        result.g, result.m = torch.stack(g), torch.stack(m) if m else None
    return result
