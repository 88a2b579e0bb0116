# SPDX-License-Identifier: Apache-2.0
"""The H-LSTM: an LSTM whose gates are small MLPs with hidden layers of their own."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, linear, relu

from ltlstm.reference.rows import Rows
from ltlstm.reference.time_lane import Layer, LayerResult, Scan, Stack, cell, each_way, scan, stack


class GateWeights(NamedTuple):
    """One cell's. The first hidden layer of all four gates is one product, K rows a gate."""

    ih: Tensor  # (4K, D)
    hh: Tensor  # (4K, H)
    b: Tensor | None  # (4K,)
    later: list[tuple[Tensor, Tensor | None]]  # (4, out, in) and (4, out); the last out is H


def gate_layers(tensors: int, bias: bool) -> int:
    """Hidden layers in a gate, of a cell that has so many tensors in the flat list."""
    return (tensors - 3) // 2 if bias else tensors - 2


def _read(flat: Iterator[Tensor], layers: int, bias: bool) -> GateWeights:
    def optional() -> Tensor | None:
        return next(flat) if bias else None

    ih, hh, b = next(flat), next(flat), optional()
    return GateWeights(ih, hh, b, [(next(flat), optional()) for _ in range(layers)])


def _phi(z: Tensor, slope: float) -> Tensor:
    return leaky_relu(z, slope) if slope else relu(z)


def _per_gate(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """(n, 4 in) -> (n, 4 out), each gate by its own weights."""
    of_gate = a.chunk(4, dim=-1)
    biases = (None,) * 4 if b is None else b.unbind(0)
    gates = zip(of_gate, w.unbind(0), biases, strict=True)
    outputs = [linear(x, w_k, b_k) for x, w_k, b_k in gates]
    return torch.cat(outputs, dim=-1)


def h_lstms(
    weights: Sequence[Tensor], count: int, rows: Rows, slope: float, gate_masks: Tensor | None,
    bias: bool, scan: Scan = scan,
) -> Layer:  # fmt: skip
    """Each layer, of the weights in the order of the flat list. count: hidden layers in a gate."""
    flat = iter(weights)

    def run(k: int, x: Tensor, h: Tensor, c: Tensor, reverse: bool) -> LayerResult:
        w = _read(flat, count, bias)
        entering = [linear(x, w.ih, w.b)]
        if gate_masks is not None:  # they go with the step that they are of
            entering += gate_masks[k * count : (k + 1) * count].unbind(0)

        def step(entered: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
            z, *masks = entered.split(w.hh.shape[0], dim=-1)
            z = z + linear(h, w.hh)
            for layer, (weight, b) in enumerate(w.later):
                a = _phi(z, slope)
                z = _per_gate(a * masks[layer] if masks else a, weight, b)
            return cell(z, c)

        return scan(torch.cat(entering, dim=-1), h, c, rows, reverse, step)

    return each_way(run)


def h_stack(
    input: Tensor, h0: Tensor, c0: Tensor, weights: Sequence[Tensor], masks: Sequence[Tensor],
    gate_masks: Tensor | None, rows: Rows, slope: float, bias: bool, bidirectional: bool,
) -> Stack:  # fmt: skip
    """Shapes of :func:`ltlstm.reference.time_lane.stack`. Flat weights, layer by layer, the forward
    direction before the reverse: ``w_ih (4K, D or dirs*H), w_hh (4K, H), [b (4K)]``, and for each
    hidden layer of the gates what follows it, ``w (4, K or H, K), [b (4, K or H)]``.

    slope: of phi below zero; 0 is ReLU. gate_masks: dropout masks (L*dirs*J, *, 4K), scaled, for
    the J hidden layers of each cell.
    """
    count = gate_layers(len(weights) // h0.shape[0], bias)
    layer = h_lstms(weights, count, rows, slope, gate_masks, bias)
    return stack(input, h0, c0, masks, rows, layer, bidirectional, residual=False)
