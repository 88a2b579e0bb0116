# SPDX-License-Identifier: Apache-2.0
"""The activation shift between growth and pruning: leaky ReLUs become ReLUs."""

from torch import nn

from ltlstm.modules.gates import GateMLPs


def shift_activation(model: nn.Module) -> None:
    """In place: HLSTM's by its attribute, nn.LeakyReLU's by its slope. arXiv 1805.11797."""
    for module in model.modules():
        if isinstance(module, GateMLPs):
            module.activation = "relu"
        elif isinstance(module, nn.LeakyReLU):
            module.negative_slope = 0.0
