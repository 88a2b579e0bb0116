# SPDX-License-Identifier: Apache-2.0
"""Masks held on a model through training: dormant weights and their optimiser state stay zero."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ltlstm.functional.masks import is_full
from ltlstm.sparsity.layout import check_mask
from ltlstm.sparsity.units import Graph
from ltlstm.sparsity.weights import Weight

Masks = dict[str, Tensor]  # by the parameter's name, bool, of its shape: False is dormant


class Held:
    """The masks of some of a model's weights, and of the biases of units that were removed.

    A mask lives in the modules that have a buffer for it (HLSTM) and here otherwise, so that no
    other module's state dict changes. Nothing else is kept: what is dormant is read off the masks
    as they are, whatever was loaded into them.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: list[Weight],
        optimizer: torch.optim.Optimizer | None,
        graph: Graph,
    ) -> None:
        self.model = model
        self.weights = {weight.name: weight for weight in weights}
        self.optimizer = optimizer
        self.graph = graph
        self._own: Masks = {}

    @property
    def masks(self) -> Masks:
        """Of the weights, and of biases that have removed units."""
        found, removed = {}, {}
        for name, weight in self.weights.items():
            found[name] = self._kept(name) if weight.buffer is None else weight.buffer
        for name in self._own:
            if name not in found:
                removed[name] = self._kept(name)
        return found | self.graph.without_units(removed, found)

    def _kept(self, name: str) -> Tensor:
        """A mask that lives here, where its parameter is, which may have moved."""
        self._own[name] = self._own[name].to(self.model.get_parameter(name).device)
        return self._own[name]

    def check(self, masks: Mapping[str, Tensor]) -> None:
        """That there is a mask for every weight that is masked, and none for what is no parameter;
        of its shape, dtype and device; TypeError or ValueError otherwise."""
        parameters = dict(self.model.named_parameters())
        missing = [name for name in self.weights if name not in masks]
        unknown = [name for name in masks if name not in parameters]
        if missing or unknown:
            raise ValueError(
                f"GrowPrune: masks must be of {', '.join(self.weights)}, got "
                + (f"none of {missing[0]}" if missing else f"one of {unknown[0]}")
            )
        for name, mask in masks.items():
            check_mask("GrowPrune", mask, parameters[name], name)
        for name in self.weights:
            if not bool(masks[name].any()):
                raise ValueError(f"GrowPrune: {name} must keep live weights, got an empty mask")

    @torch.no_grad()
    def set(self, masks: Mapping[str, Tensor]) -> None:
        """New masks, from any device; all are checked before any is set."""
        masks = {
            name: mask.to(self.model.get_parameter(name).device) for name, mask in masks.items()
        }
        self.check(masks)
        self._own = {}
        for name, mask in masks.items():
            masking = self.weights[name].masking if name in self.weights else []
            if not masking:
                self._own[name] = mask.clone()
            for _, buffer in masking:
                buffer.copy_(mask)

    @torch.no_grad()
    def apply(self, states: bool = True) -> None:
        """Makes dormant weights exactly zero and, with ``states``, what the optimiser keeps about
        them; where no gradient of theirs reached it, that is still zero."""
        for name, dormant in self.dormant():
            parameter = self.model.get_parameter(name)
            parameter.masked_fill_(dormant, 0)
            for state in optimizer_state(self.optimizer, parameter) if states else ():
                state.masked_fill_(dormant, 0)

    def dormant(self) -> Iterator[tuple[str, Tensor]]:
        """The opposite of each mask; those that are known to be full are left out."""
        for name, mask in self.masks.items():
            if not is_full(mask):
                yield name, ~mask

    def density(self) -> dict[str, float]:
        """The live share of each weight."""
        masks = self.masks
        return {name: int(masks[name].sum()) / masks[name].numel() for name in self.weights}

    def live(self) -> int:
        """Live weights in all."""
        return sum(int(mask.sum()) for name, mask in self.masks.items() if name in self.weights)


def optimizer_state(optimizer: torch.optim.Optimizer | None, parameter: Tensor) -> Iterator[Tensor]:
    """What an optimiser keeps for every element of a parameter: momentum, Adam's moments."""
    if optimizer is not None and parameter in optimizer.state:
        for value in optimizer.state[parameter].values():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.dim() > 0:
                yield value


def learning_rate(optimizer: torch.optim.Optimizer | None, parameter: Tensor) -> float:
    """That of the parameter's group; 0 where there is none."""
    for group in optimizer.param_groups if optimizer is not None else ():
        if any(p is parameter for p in group["params"]):
            return float(group["lr"])
    return 0.0
