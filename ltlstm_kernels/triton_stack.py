# SPDX-License-Identifier: Apache-2.0
"""`h_lstm_forward` and `h_lstm_backward` on the Triton kernels: a whole stack, cell by cell.

Arguments, results and shapes: `ltlstm_kernels/h_lstm_ops.py`. Rows are (S,) here, padded or not.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from ltlstm_kernels.triton_checks import check
from ltlstm_kernels.triton_h_lstm import Cell, Loop, Saved, plain_copy, read
from ltlstm_kernels.triton_plan import ROWS
from ltlstm_kernels.triton_rows import Rows


class Stack:
    """The loops of a call, and what every one of them is given."""

    def __init__(
        self, op: str, input: Tensor, h0: Tensor, c0: Tensor, weights: Sequence[Tensor],
        masks: Tensor | None, gate_masks: Tensor | None, batch_sizes: Tensor | None,
        reset: Tensor | None, bias: bool, bidirectional: bool, slope: float, save: bool,
    ) -> None:  # fmt: skip
        check(
            op, input, h0, c0, weights, masks, gate_masks, batch_sizes, reset, bias, bidirectional
        )
        self.leading = input.shape[:-1]
        self.rows = Rows(input, h0.shape[1], batch_sizes, ROWS)
        self.h0, self.c0, self.slope, self.save = h0, c0, slope, save
        self.input = input.flatten(0, -2)
        self.masks = None if masks is None else masks.flatten(1, -2)
        self.gate_masks = None if gate_masks is None else gate_masks.flatten(1, -2).contiguous()
        self.reset = None if reset is None else reset.flatten()
        self.dirs = 2 if bidirectional else 1
        self.cells = read(weights, h0.shape[0], bias)
        self.layers = len(self.cells) // self.dirs
        self.H, self.J = h0.shape[2], len(self.cells[0].later)

    def directions(self, layer: int) -> Iterator[tuple[int, Cell, Loop, slice]]:
        """Of a layer: the number among all cells, the cell, its loop, its columns of the output."""
        for d in range(self.dirs):
            k = layer * self.dirs + d
            drop = self.gate_masks
            if drop is not None:
                drop = drop[k * self.J : (k + 1) * self.J]
            loop = Loop(self.cells[k], self.rows, self.slope, d == 1, drop, self.reset, self.save)
            yield k, self.cells[k], loop, slice(d * self.H, (d + 1) * self.H)

    def above(self, layer: int, output: Tensor) -> Tensor:
        """The input of the layer above, from this one's output."""
        return output if self.masks is None else output * self.masks[layer]


def forward(
    input: Tensor, h0: Tensor, c0: Tensor, weights: Sequence[Tensor], masks: Tensor | None,
    gate_masks: Tensor | None, batch_sizes: Tensor | None, reset: Tensor | None, bias: bool,
    bidirectional: bool, slope: float, save: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    s = Stack(
        "h_lstm_forward", input, h0, c0, weights, masks, gate_masks, batch_sizes, reset, bias,
        bidirectional, slope, save,
    )  # fmt: skip
    S, count = s.rows.S, len(s.cells) if save else 0
    new, width = input.new_empty, s.dirs * s.H
    h_n, c_n = torch.empty_like(h0), torch.empty_like(c0)
    hidden = new(max(s.layers - 1, 0) if save else 0, S, width)
    cells, gates = new(count, S, s.H), new(count, S, 4 * s.H)
    gate_hidden = new(count * s.J, S, weights[0].shape[0])
    x = s.input
    for layer in range(s.layers):
        last = layer == s.layers - 1
        output = hidden[layer] if save and not last else new(S, width)
        for k, cell, loop, columns in s.directions(layer):
            saved = None
            if save:
                saved = Saved(cells[k], gates[k], gate_hidden[k * s.J : (k + 1) * s.J])
            preact = linear(x, cell.ih, cell.b)
            h_n[k], c_n[k] = loop.forward(preact, h0[k], c0[k], output[:, columns], saved)
        if not last:
            x = s.above(layer, output)

    def rows(t: Tensor) -> Tensor:
        return t.unflatten(-2, s.leading)

    return rows(output), h_n, c_n, rows(hidden), rows(cells), rows(gates), rows(gate_hidden)


def backward(
    d_output: Tensor | None, d_h_n: Tensor | None, d_c_n: Tensor | None, d_hidden: Tensor | None,
    d_cells: Tensor | None, input: Tensor, h0: Tensor, c0: Tensor, weights: Sequence[Tensor],
    masks: Tensor | None, gate_masks: Tensor | None, batch_sizes: Tensor | None,
    reset: Tensor | None, output: Tensor, hidden: Tensor, cells: Tensor, gates: Tensor,
    gate_hidden: Tensor, bias: bool, bidirectional: bool, slope: float,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:  # fmt: skip
    s = Stack(
        "h_lstm_backward", input, h0, c0, weights, masks, gate_masks, batch_sizes, reset, bias,
        bidirectional, slope, save=True,
    )  # fmt: skip
    outputs = [*hidden.flatten(1, -2), output.flatten(0, -2)]
    cells, gates, gate_hidden = (t.flatten(1, -2) for t in (cells, gates, gate_hidden))
    d_above = torch.zeros_like(output) if d_output is None else d_output
    d_above = d_above.flatten(0, -2).contiguous()
    d_h0, d_c0 = torch.empty_like(h0), torch.empty_like(c0)
    d_weights: list[list[Tensor]] = [[] for _ in s.cells]
    for layer in reversed(range(s.layers)):
        x = s.above(layer - 1, outputs[layer - 1]) if layer else s.input
        if d_hidden is not None and layer < s.layers - 1:
            d_above = d_above + d_hidden[layer].flatten(0, -2)
        d_x = torch.zeros_like(x)
        for k, cell, loop, columns in s.directions(layer):
            saved = Saved(cells[k], gates[k], gate_hidden[k * s.J : (k + 1) * s.J])
            dh, dc = (
                plain_copy(torch.zeros_like(h0[k]) if d is None else d[k]).float()
                for d in (d_h_n, d_c_n)
            )
            of_cells = None if d_cells is None else d_cells[k].flatten(0, -2).contiguous()
            dz, dz_gates = loop.backward(d_above[:, columns], of_cells, dh, dc, c0[k], saved)
            d_h0[k], d_c0[k] = dh, dc
            d_weights[k] = loop.weight_gradients(
                x, h0[k], outputs[layer][:, columns], saved.hidden, dz, dz_gates
            )
            d_x = d_x + dz[0] @ cell.ih
        d_above = d_x if layer == 0 or s.masks is None else d_x * s.masks[layer - 1]
    return d_above.view_as(input), d_h0, d_c0, [d for group in d_weights for d in group]
