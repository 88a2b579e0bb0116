# SPDX-License-Identifier: Apache-2.0
"""ltlstm.functional.h_lstm: stacks of LSTMs whose gates are MLPs."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ltlstm import reference
from ltlstm.functional.problem import Flags, Problem, Result, initial_state
from ltlstm.functional.run import run, states_h
from ltlstm.functional.stack import LSTMStates, State
from ltlstm.functional.time_lane import handed_out
from ltlstm_kernels import h_lstm_ops, sparse

# phi of the gates' hidden layers: its slope below zero.
ACTIVATIONS = {"leaky_relu": 0.01, "relu": 0.0}


def slope_of(op: str, activation: str) -> float:
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"{op}: activation must be one of {tuple(ACTIVATIONS)}, got {activation!r}"
        )
    return ACTIVATIONS[activation]


def activation_of(op: str, slope: float) -> str:
    """The activation of a slope, which may have been rounded to a half type."""
    for activation, known in ACTIVATIONS.items():
        if math.isclose(slope, known, rel_tol=0.01):
            return activation
    raise ValueError(f"{op}: slope must be one of {tuple(ACTIVATIONS.values())}, got {slope}")


def h_lstm(
    input: Tensor,
    hx: State | None,
    weights: Sequence[Tensor],
    *,
    bias: bool = True,
    dropout: float = 0.0,
    gate_dropout: float = 0.0,
    activation: str = "leaky_relu",
    training: bool = False,
    bidirectional: bool = False,
    batch_sizes: Tensor | None = None,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    return_states: bool = False,
    compiled: Sequence[Tensor] = (),
    backend: str | None = None,
) -> tuple[Any, ...]:
    """A stack of LSTMs whose gates are MLPs with J >= 1 hidden layers of width K.

    Arguments, results and errors of :func:`ltlstm.functional.lstm`, which has projection and
    peepholes beyond it, and:

    Args:
        weights: flat, by layer, the forward direction before the reverse: ``w_ih (4K, D or
            dirs*H), w_hh (4K, H), [b (4K)]``, and J times ``w (4, out, K), [b (4, out)]``, out = K
            but in the last, out = H. Gate order i, f, g, o. J is read off the list. A sparse
            weight is given as it acts, masked (:func:`ltlstm.functional.masks.in_use`): its
            gradient is dense.
        gate_dropout: rate on the gates' hidden layers, while ``training``; drawn by torch, after
            the masks between layers.
        activation: of the hidden layers: "leaky_relu", of slope 0.01, or "relu".
        compiled: for inference on the CPU, ``weights`` with each weight as
            :func:`ltlstm_kernels.sparse.sparse_compile` gives it; then the values of ``weights``
            are not read. Refused beside dropout, gradients and ``return_states``.

    Dai, Yin, Jha, "Grow and Prune Compact, Fast, and Accurate LSTMs", IEEE Trans. Computers 69(3)
    2020, arXiv 1805.11797. Equivalent to, with K rows a gate::

        for x_t in input:                      # for each layer, on the outputs of the one below
            z = linear(x_t, w_ih, b) + linear(h, w_hh)
            for w, b in later:                 # J times
                a = phi(z).chunk(4, -1)
                z = cat([linear(a[k], w[k], b[k]) for k in range(4)], -1)
            h, c = ltlstm.reference.cell(z, c)
    """
    op = "h_lstm"
    slope = slope_of(op, activation)
    flags = Flags(bias, projected=False, peephole=False, bidirectional=bidirectional)
    layers = _gate_layers(op, weights, bias)
    h0, c0 = initial_state(op, input, hx, weights, flags, batch_sizes, layers)
    p = Problem(
        op, input, h0, c0, weights, flags, batch_sizes, lengths, reset, gate_layers=layers,
        slope=slope, compiled=compiled,
    )  # fmt: skip
    r = run(
        p, _h_lstm, dropout=dropout if training else 0.0, masks=p.layers - 1,
        gate_dropout=gate_dropout if training else 0.0, return_states=return_states,
        beyond_torch=["hidden layer in its gates"], backend=backend,
    )  # fmt: skip
    if not return_states:
        return r.output, (r.h_n, r.c_n)
    assert r.hidden is not None and r.cells is not None
    return r.output, (r.h_n, r.c_n), LSTMStates(states_h(r.hidden, flags), r.cells)


def _gate_layers(op: str, weights: Sequence[Tensor], bias: bool) -> int:
    """How many the first cell has: its tensors of three dimensions, one after the other."""
    places = weights[2 + bias :: 1 + bias]
    flat = (i for i, w in enumerate(places) if w.dim() != 3)
    layers = next(flat, len(places))
    if layers == 0:
        raise ValueError(
            f"{op}: weights must hold w_ih, w_hh{', b' * bias} and at least one later gate layer "
            f"of 3 dimensions, got {len(weights)} tensors"
        )
    return layers


def _h_lstm(p: Problem) -> Result:
    if p.compiled:
        return _sparse(p)
    if p.backend != "reference":
        return _operator(p)
    return Result(
        *reference.h_lstm(
            p.input, p.h0, p.c0, p.weights, slope=p.slope, masks=p.masks, gate_masks=p.gate_masks,
            batch_sizes=p.batch_sizes, lengths=p.lengths, reset=p.reset, bias=p.flags.bias,
            bidirectional=p.flags.bidirectional,
        )
    )  # fmt: skip


def _operator(p: Problem) -> Result:
    r = h_lstm_ops.h_lstm_forward(
        p.input, p.h0, p.c0, p.weights, p.masks, p.gate_masks, p.batch_sizes, p.reset,
        bias=p.flags.bias, bidirectional=p.flags.bidirectional, slope=p.slope, save=p.save,
    )  # fmt: skip
    output = handed_out(r.output)
    if not p.states:
        return Result(output, r.h_n, r.c_n)
    return Result(output, r.h_n, r.c_n, torch.cat([r.hidden, r.output[None]]), r.cells)


def _sparse(p: Problem) -> Result:
    beside = {
        "dropout": p.masks, "gate_dropout": p.gate_masks is not None, "return_states": p.states,
        "gradients": p.save, f"backend {p.backend!r}": p.backend != "cpu",
    }  # fmt: skip
    for name, present in beside.items():
        if present:
            raise ValueError(
                f"{p.op}: compiled weights must not be used beside {name}, got "
                f"{len(p.compiled)} of them: use the module that compile_sparse() was called on"
            )
    return Result(
        *sparse.h_lstm_sparse_forward(
            p.input, p.h0, p.c0, p.compiled, p.batch_sizes, p.reset, bias=p.flags.bias,
            bidirectional=p.flags.bidirectional, slope=p.slope,
        )
    )  # fmt: skip
