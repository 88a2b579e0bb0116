# SPDX-License-Identifier: Apache-2.0
"""The time lane on the operators or on torch's own LSTM: a whole stack, or one layer of it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ltlstm.functional.problem import Problem, Result
from ltlstm_kernels import ops


class Lane(NamedTuple):
    """A stack whose every layer is wanted."""

    hidden: list[Tensor]  # L times (*, dirs*P)
    h_n: Tensor
    c_n: Tensor
    cells: Tensor | None  # (L*dirs, *, H); torch's own LSTM keeps them to itself


def stack(p: Problem) -> Result:
    """All layers, plain."""
    if p.backend == "aten":
        return Result(*_aten(p, p.input, p.h0, p.c0, p.weights))
    output, h_n, c_n, hidden, cells, _ = _operator(
        p, p.input, p.h0, p.c0, p.weights, p.masks, p.save
    )
    if not p.states:
        return Result(output, h_n, c_n)
    return Result(output, h_n, c_n, torch.cat([hidden, output[None]]), cells)


def all_layers(p: Problem) -> Lane:
    """All layers, plain, with the output of each; a mask of the top layer is not the stack's."""
    masks = p.masks[: p.layers - 1]
    if p.backend != "aten":
        output, h_n, c_n, hidden, cells, _ = _operator(
            p, p.input, p.h0, p.c0, p.weights, masks, save=True
        )
        return Lane([*hidden.unbind(0), output], h_n, c_n, cells)
    x = p.input
    steps = []
    for index in range(p.layers):
        if index > 0:
            x = steps[-1][0] * masks[index - 1] if masks else steps[-1][0]
        steps.append(layer(p, index, x))
    return Lane([h for h, *_ in steps], *(torch.cat([s[i] for s in steps]) for i in (1, 2)), None)


def layer(p: Problem, index: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Layer ``index`` alone, reading x -> h (*, dirs*P), h_n, c_n, and cells if it can."""
    span = slice(index * p.flags.dirs, (index + 1) * p.flags.dirs)
    group = slice(span.start * p.flags.per_cell, span.stop * p.flags.per_cell)
    arguments = (x, p.h0[span], p.c0[span], p.weights[group])
    if p.backend == "aten":
        return *_aten(p, *arguments), None
    output, h_n, c_n, _, cells, _ = _operator(p, *arguments, [], p.save)
    return output, h_n, c_n, cells


def _operator(
    p: Problem, x: Tensor, h0: Tensor, c0: Tensor, weights: Sequence[Tensor],
    masks: list[Tensor], save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    return ops.lstm_stack_forward(
        x.contiguous(), h0.contiguous(), c0.contiguous(), [w.contiguous() for w in weights],
        masks, p.batch_sizes, p.reset, **p.flags._asdict(), save=save,
    )  # fmt: skip


def _aten(
    p: Problem, x: Tensor, h0: Tensor, c0: Tensor, weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    layers = h0.shape[0] // p.flags.dirs
    flags = (p.flags.bias, layers, p.dropout, p.dropout > 0, p.flags.bidirectional)
    if p.batch_sizes is None:
        return torch._VF.lstm(x, (h0, c0), list(weights), *flags, False)
    return torch._VF.lstm(x, p.batch_sizes, (h0, c0), list(weights), *flags)
