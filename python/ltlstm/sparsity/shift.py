# SPDX-License-Identifier: Apache-2.0
"""The activation shift between growth and pruning: leaky ReLUs become ReLUs."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ltlstm.modules.gates import GateMLPs

Activations = dict[str, str | float]  # by module: HLSTM's attribute, nn.LeakyReLU's slope


class Shift:
    """The modules of a model that shift: HLSTMs by their attribute, nn.LeakyReLU by its slope.

    Dai, Yin, Jha, arXiv 1805.11797.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, GateMLPs | nn.LeakyReLU)
        }

    def to_relu(self) -> None:
        """In place."""
        self.put({n: "relu" if isinstance(m, GateMLPs) else 0.0 for n, m in self.modules.items()})

    def activations(self) -> Activations:
        """As they are."""
        return {
            name: module.activation if isinstance(module, GateMLPs) else module.negative_slope
            for name, module in self.modules.items()
        }

    def put(self, activations: Mapping[str, str | float]) -> None:
        """As they were when these were read."""
        for name, value in activations.items():
            module = self.modules[name]
            setattr(
                module, "activation" if isinstance(module, GateMLPs) else "negative_slope", value
            )
