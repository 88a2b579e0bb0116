# SPDX-License-Identifier: Apache-2.0
"""The depth units: what recurs over the layers at each frame. Each is one row of DEPTH_UNITS.

A unit says which weights a layer of it has, and computes one layer. The layer-LSTM is that of Li,
Liu, Gong (Interspeech 2018), gated and max-out units those of Li, Lu, Liu, Gong (SLT 2018).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

Shapes = dict[str, tuple[int, ...]]
Weights = dict[str, Tensor]  # of one layer, by the names of shapes()
Cell = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]  # preact, c, peephole
# h of the time lane, g and m of the layer below (None: there is none), weights, the pointwise cell
# -> g, m (None: the unit has no cell).
Layer = Callable[
    [Tensor, Tensor | None, Tensor | None, Weights, Cell], tuple[Tensor, Tensor | None]
]


def layer_lstm(
    h: Tensor, below: Tensor | None, m: Tensor | None, w: Weights, cell: Cell
) -> tuple[Tensor, Tensor | None]:
    """The LSTM's cell again, its "previous" one layer down instead of one step back; g^0 = 0."""
    preact = linear(h, w["weight_ih"], w.get("bias_ih"))
    if below is not None and "weight_hh" in w:
        preact = preact + linear(below, w["weight_hh"], w.get("bias_hh"))
    elif "bias_hh" in w:
        preact = preact + w["bias_hh"]
    if m is None:
        m = preact.new_zeros(*preact.shape[:-1], preact.shape[-1] // 4)
    g, m = cell(preact, m, w.get("peephole"))
    return (linear(g, w["weight_hr"]) if "weight_hr" in w else g), m


def gated(
    h: Tensor, below: Tensor | None, m: Tensor | None, w: Weights, cell: Cell
) -> tuple[Tensor, Tensor | None]:
    """g = a (.) (S_h h) + b (.) (S_g g'), a = s(O_h h + b_ih), b = s(O_g g' + b_hh)."""

    def branch(x: Tensor, weight: Tensor, b: Tensor | None) -> Tensor:
        gate, value = weight.chunk(2)
        return linear(x, gate, b).sigmoid() * linear(x, value)

    g = branch(h, w["weight_ih"], w.get("bias_ih"))
    if below is not None and "weight_hh" in w:
        g = g + branch(below, w["weight_hh"], w.get("bias_hh"))
    return g, None


def max_out(
    h: Tensor, below: Tensor | None, m: Tensor | None, w: Weights, cell: Cell
) -> tuple[Tensor, Tensor | None]:
    """g = max(S_h h + b_ih, S_g g' + b_hh); g' = 0 in the first layer."""
    from_h = linear(h, w["weight_ih"], w.get("bias_ih"))
    if below is not None and "weight_hh" in w:
        return torch.maximum(from_h, linear(below, w["weight_hh"], w.get("bias_hh"))), None
    from_g = torch.zeros_like(from_h)
    return torch.maximum(from_h, from_g + w["bias_hh"] if "bias_hh" in w else from_g), None


class DepthUnit(NamedTuple):
    compute: Layer
    blocks: int  # of rows in weight_ih and weight_hh, one a gate
    has_cell: bool  # with it peepholes, a projection, blocks of G rows, a fused operator
    first_bias_hh: bool  # the first layer, which reads no g, has the bias of it all the same

    def shapes(
        self, layer: int, Q: int, G: int, bias: bool, projected: bool, peephole: bool
    ) -> Shapes:
        """The weights of a layer in flat order: g is Q wide, the cell G."""
        rows = self.blocks * (G if self.has_cell else Q)
        shapes: Shapes = {"weight_ih": (rows, Q)}
        if layer > 0:  # g^0 = 0
            shapes["weight_hh"] = (rows, Q)
        biases = (rows if self.has_cell else Q,)
        if bias:
            shapes["bias_ih"] = biases
        if bias and (layer > 0 or self.first_bias_hh):
            shapes["bias_hh"] = biases
        if self.has_cell and projected:
            shapes["weight_hr"] = (Q, G)
        if self.has_cell and peephole:
            shapes["peephole"] = (3, G)
        return shapes


DEPTH_UNITS = {
    "lstm": DepthUnit(layer_lstm, blocks=4, has_cell=True, first_bias_hh=True),
    "gated": DepthUnit(gated, blocks=2, has_cell=False, first_bias_hh=False),
    "max": DepthUnit(max_out, blocks=1, has_cell=False, first_bias_hh=True),
}


def check_depth_unit(op: str, depth_unit: str) -> None:
    if depth_unit not in DEPTH_UNITS:
        units = tuple(DEPTH_UNITS)
        raise ValueError(f"{op}: depth_unit must be one of {units}, got {depth_unit!r}")


def weight_count(
    depth_unit: str, layers: int, bias: bool, projected: bool, peephole: bool
) -> int:
    """How many tensors the flat list holds."""
    unit = DEPTH_UNITS[depth_unit]
    first, later = (len(unit.shapes(layer, 0, 0, bias, projected, peephole)) for layer in (0, 1))
    return first + (layers - 1) * later


def by_layer(
    flat: Sequence[Tensor], depth_unit: str, layers: int, bias: bool, projected: bool,
    peephole: bool,
) -> list[Weights]:  # fmt: skip
    """The flat list, read: one dict a layer."""
    tensors, unit = iter(flat), DEPTH_UNITS[depth_unit]
    return [
        {name: next(tensors) for name in unit.shapes(layer, 0, 0, bias, projected, peephole)}
        for layer in range(layers)
    ]
