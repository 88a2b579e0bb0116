# SPDX-License-Identifier: Apache-2.0
"""The time lane on the operators or on torch's own LSTM: a whole stack, or layer by layer."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ltlstm.functional.problem import Problem, Result, is_per_sample
from ltlstm_kernels import ops
from ltlstm_kernels.capture import is_captured


@dataclass
class Lane:
    """Outputs of the layers run so far; the last three may hold several layers in one tensor."""

    hidden: list[Tensor] = field(default_factory=list)  # (*, dirs*P)
    h_n: list[Tensor] = field(default_factory=list)
    c_n: list[Tensor] = field(default_factory=list)
    cells: list[Tensor] = field(default_factory=list)  # none on torch's own LSTM

    def append(self, p: Problem, x: Tensor) -> None:
        """Runs the next layer, reading x."""
        layer = len(self.hidden)
        span = slice(layer * p.flags.dirs, (layer + 1) * p.flags.dirs)
        group = slice(span.start * p.flags.per_cell, span.stop * p.flags.per_cell)
        arguments = (x, p.h0[span], p.c0[span], p.weights[group])
        if p.backend == "aten":
            output, h_n, c_n = _aten(p, *arguments)
        else:
            output, h_n, c_n, _, cells, _ = _operator(p, *arguments, [], p.save)
            self.cells.append(cells)
        self.hidden.append(output)
        self.h_n.append(h_n)
        self.c_n.append(c_n)


def stack(p: Problem) -> Result:
    """All layers, plain."""
    if p.backend == "aten":
        return Result(*_aten(p, p.input, p.h0, p.c0, p.weights))
    r = _operator(p, p.input, p.h0, p.c0, p.weights, p.masks, p.save)
    output = handed_out(r.output)
    if not p.states:
        return Result(output, r.h_n, r.c_n)
    return Result(output, r.h_n, r.c_n, torch.cat([r.hidden, r.output[None]]), r.cells)


def handed_out(output: Tensor) -> Tensor:
    """A copy of an operator's output, which the backward reads: the caller may change it in place.

    Not a clone in a graph: Inductor takes a clone and its source for one tensor.
    """
    if not output.requires_grad:
        return output
    return output * 1 if is_captured() else output.clone()


def all_layers(p: Problem) -> Lane:
    """All layers, plain, with the output of each; a mask of the top layer is not the stack's."""
    masks = p.masks[: p.layers - 1]
    if p.backend != "aten":
        r = _operator(p, p.input, p.h0, p.c0, p.weights, masks, save=True)
        return Lane([*r.hidden.unbind(0), r.output], [r.h_n], [r.c_n], [r.cells])
    lane = Lane()
    x = p.input
    for layer in range(p.layers):
        if layer > 0:
            x = lane.hidden[-1] * masks[layer - 1] if masks else lane.hidden[-1]
        lane.append(p, x)
    return lane


def _operator(
    p: Problem, x: Tensor, h0: Tensor, c0: Tensor, weights: Sequence[Tensor],
    masks: Sequence[Tensor], save: bool,
) -> ops.Stack:  # fmt: skip
    bias, projected, peephole, bidirectional = p.flags
    return ops.lstm_stack_forward(
        x, h0, c0, weights, masks, p.batch_sizes, p.reset, bias=bias, projected=projected,
        peephole=peephole, bidirectional=bidirectional, save=save,
    )  # fmt: skip


def _aten(
    p: Problem, x: Tensor, h0: Tensor, c0: Tensor, weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    layers = h0.shape[0] // p.flags.dirs
    flags = (p.flags.bias, layers, p.dropout, p.dropout > 0, p.flags.bidirectional)
    # Per-sample weights take the call apart, and know no operator of oneDNN's.
    apart = type(weights[0]) not in (Tensor, torch.nn.Parameter) and is_per_sample(weights)
    with torch.backends.mkldnn.flags(enabled=False) if apart else nullcontext():
        if p.batch_sizes is None:
            return torch._VF.lstm(x, (h0, c0), list(weights), *flags, False)
        return torch._VF.lstm(x, p.batch_sizes, (h0, c0), list(weights), *flags)
