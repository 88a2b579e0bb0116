# SPDX-License-Identifier: Apache-2.0
"""ltlstm.functional.lstm and its sibling residual_lstm: stacks of time-LSTMs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import _register_namedtuple

from ltlstm import reference
from ltlstm.functional import time_lane
from ltlstm.functional.problem import Flags, Problem, Result, initial_state
from ltlstm.functional.run import Compute, run, states_h

State = tuple[Tensor, Tensor]


class LSTMStates(NamedTuple):
    """The states of every step; ``*`` is (T, N), or (S,) for packed data."""

    h: Tensor  # (L*dirs, *, P)
    c: Tensor  # (L*dirs, *, H)


# So that torch.export can save a program that returns it.
_register_namedtuple(LSTMStates, serialized_type_name="ltlstm.LSTMStates")


def lstm(
    input: Tensor,
    hx: State | None,
    weights: Sequence[Tensor],
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
) -> tuple[Any, ...]:
    """A stack of L time-LSTMs, each in one or both directions; time-major.

    Args:
        input: (T, N, D); with ``batch_sizes`` packed data (S, D) as in a PackedSequence.
        hx: ``(h0, c0)``, (L*dirs, N, P) and (L*dirs, N, H); None is zeros.
        weights: flat, by layer, the forward direction before the reverse: ``w_ih (4H, D or
            dirs*P), w_hh (4H, P), [b_ih, b_hh (4H)], [w_hr (P, H)], [peephole (3, H)]``; gate
            order i, f, g, o; the rows of a peephole are i, f, o.
        dropout: rate on the outputs of all layers but the last, while ``training``.
        lengths: (N,) integers in 0..T, on any device, in any order. Output and states are zero
            past the end of a row; h_n and c_n are those of its last step, or hx where it has none.
            Values are checked in eager calls only.
        reset: bool (T, N), or (S,): the state is zero before that step.
        return_states: also return :class:`LSTMStates`.
        backend: one of ``auto, cuda, triton, cpu, aten, reference``; None is what ``use_backend``
            or the variable LTLSTM_BACKEND says, else auto.

    Returns:
        ``(output, (h_n, c_n))`` or ``(output, (h_n, c_n), states)``; output (*, dirs*P).

    Raises:
        RuntimeError: for shapes, devices or dtypes that do not fit, and for a named backend that
            cannot run.
        ValueError: for other arguments that do not fit.

    Equations 1 to 6 of torch.nn.LSTM. Equivalent to::

        for x_t in input:                      # for each layer, on the outputs of the one below
            preact = linear(x_t, w_ih, b_ih) + linear(h, w_hh, b_hh)
            h, c = ltlstm.reference.cell(preact, c, peephole)
            h = linear(h, w_hr)                # if projected
    """
    flags = Flags(bias, projected, peephole, bidirectional)
    return _call(
        "lstm", _lstm, input, hx, weights, flags, dropout if training else 0.0, batch_sizes,
        lengths, reset, return_states, backend,
    )  # fmt: skip


def residual_lstm(
    input: Tensor,
    hx: State | None,
    weights: Sequence[Tensor],
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
) -> tuple[Any, ...]:
    """The stack with shortcuts around its layers; arguments, results and errors of :func:`lstm`.

    The baseline of "Layer Trajectory LSTM" (arXiv 1808.09522). Equivalent to::

        x = h[0]                               # h[l], the output of layer l, reads its x
        for l in range(1, L):
            h[l] = layer_l(x)
            x = x + h[l]
        output = x                             # h[0] if L == 1

    Dropout acts on h[l] of all layers but the last, before it is added.
    """
    flags = Flags(bias, projected, peephole, bidirectional)
    return _call(
        "residual_lstm", _residual, input, hx, weights, flags, dropout if training else 0.0,
        batch_sizes, lengths, reset, return_states, backend,
    )  # fmt: skip


def _call(
    op: str, compute: Compute, input: Tensor, hx: State | None, weights: Sequence[Tensor],
    flags: Flags, dropout: float, batch_sizes: Tensor | None, lengths: Tensor | None,
    reset: Tensor | None, return_states: bool, backend: str | None,
) -> tuple[Any, ...]:  # fmt: skip
    h0, c0 = initial_state(op, input, hx, weights, flags, batch_sizes)
    p = Problem(
        op, input, h0, c0, weights, flags, batch_sizes, lengths, reset, fresh=hx is None
    )  # fmt: skip
    r = run(
        p, compute, dropout=dropout, masks=p.layers - 1, return_states=return_states,
        beyond_torch=beyond_torch(flags, reset, return_states), backend=backend,
    )  # fmt: skip
    if not return_states:
        return r.output, (r.h_n, r.c_n)
    assert r.hidden is not None and r.cells is not None
    return r.output, (r.h_n, r.c_n), LSTMStates(states_h(r.hidden, flags), r.cells)


def beyond_torch(flags: Flags, reset: Tensor | None, return_states: bool) -> list[str]:
    """Features of this call that torch's own LSTM lacks."""
    found = []
    if flags.peephole:
        found.append("peephole")
    if reset is not None:
        found.append("reset")
    if return_states:
        found.append("states of every step")
    return found


def reference_arguments(p: Problem) -> dict[str, Any]:
    """Keyword arguments that every stack of the reference takes."""
    return {
        "masks": p.masks,
        "batch_sizes": p.batch_sizes,
        "lengths": p.lengths,
        "reset": p.reset,
        **p.flags._asdict(),
    }


def _lstm(p: Problem) -> Result:
    if p.backend == "reference":
        return Result(*reference.lstm(p.input, p.h0, p.c0, p.weights, **reference_arguments(p)))
    return time_lane.stack(p)


def _residual(p: Problem) -> Result:
    if p.backend == "reference":
        arguments = reference_arguments(p)
        return Result(*reference.residual_lstm(p.input, p.h0, p.c0, p.weights, **arguments))
    x = p.input
    lane = time_lane.Lane()
    for layer in range(p.layers):
        if layer > 0:
            below = lane.hidden[-1] * p.masks[layer - 1] if p.masks else lane.hidden[-1]
            x = below if layer == 1 else x + below
        lane.append(p, x)
    last = lane.hidden[-1]
    output = x + last if p.layers > 1 else time_lane.handed_out(last)
    result = Result(output, torch.cat(lane.h_n), torch.cat(lane.c_n))
    if p.states:
        result.hidden, result.cells = torch.stack(lane.hidden), torch.cat(lane.cells)
    return result
