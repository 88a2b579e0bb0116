# SPDX-License-Identifier: Apache-2.0
"""Masks held on a model through training: dormant weights and their optimiser state stay zero."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ltlstm.sparsity.layout import check_mask
from ltlstm.sparsity.weights import Weight

Masks = dict[str, Tensor]  # by the parameter's name, bool, of its shape: False is dormant


class Held:
    """The masks of some of a model's weights, and of the biases of units that were removed.

    A mask lives in the module that has a buffer for it (HLSTM) and here otherwise, so that no other
    module's state dict changes.
    """

    def __init__(
        self, model: nn.Module, weights: list[Weight], optimizer: torch.optim.Optimizer | None
    ) -> None:
        self.model = model
        self.weights = {weight.name: weight for weight in weights}
        self.optimizer = optimizer
        self._own: Masks = {}
        self._dormant: Masks | None = None  # made when it is needed

    @property
    def masks(self) -> Masks:
        """Of the weights, and of biases that have removed units."""
        found = {
            name: self._own[name] if weight.buffer is None else weight.buffer
            for name, weight in self.weights.items()
        }
        return found | {name: mask for name, mask in self._own.items() if name not in found}

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
            buffer = self.weights[name].buffer if name in self.weights else None
            if buffer is None:
                self._own[name] = mask.clone()
            else:
                buffer.copy_(mask)
        self._dormant = None

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
        """The opposite of each mask, on its parameter's device; full masks are left out."""
        if self._dormant is None:
            opposite = {name: ~mask for name, mask in self.masks.items()}
            self._dormant = {name: d for name, d in opposite.items() if bool(d.any())}
        for name, dormant in self._dormant.items():
            device = self.model.get_parameter(name).device
            if dormant.device != device:  # the model moved
                self._dormant[name] = dormant = dormant.to(device)
                if name in self._own:
                    self._own[name] = self._own[name].to(device)
            yield name, dormant

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
