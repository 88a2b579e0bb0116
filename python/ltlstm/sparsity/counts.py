# SPDX-License-Identifier: Apache-2.0
"""How large a model is: parameters and floating-point operations, all of them and the live ones."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from ltlstm.functional import masks
from ltlstm.modules.compiled import Frozen
from ltlstm.sparsity.weights import Weight, find_weights


class Count(NamedTuple):
    """Of a whole model. Live: weights that are not zero in use; all other parameters count."""

    parameters: int
    live_parameters: int
    flops: int
    live_flops: int


def in_use(weight: Weight) -> Tensor:
    """A weight as it acts: zero where its module masks it."""
    return masks.in_use(weight.parameter.detach(), weight.buffer)


def count(model: nn.Module) -> Count:
    """Parameters, and operations for one row of input: one time step, one position.

    Two operations, a product and a sum, for each weight of linear layers, LSTMs and convolutions
    (of these for one position of the output); what grows with the number of units only, such as
    biases and activations, is not counted. A compiled HLSTM counts as the one it was made from.
    """
    parameters = sum(p.numel() for p in model.parameters())
    weights = find_weights(model)
    total = sum(weight.layout.size for weight in weights)
    live = sum(int(in_use(weight).count_nonzero()) for weight in weights)
    for module in model.modules():
        if isinstance(module, Frozen):
            of_all, of_weights, of_live = module.counts
            parameters, total, live = parameters + of_all, total + of_weights, live + of_live
    return Count(parameters, parameters - total + live, 2 * total, 2 * live)
