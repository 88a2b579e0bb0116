# SPDX-License-Identifier: Apache-2.0
"""Weights that are grown and pruned together: one, or for rows all that feed the same units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ltlstm.sparsity.grow import wake
from ltlstm.sparsity.held import Masks
from ltlstm.sparsity.layout import Layout
from ltlstm.sparsity.masks import BANK, check_groups, group_sizes, seed
from ltlstm.sparsity.prune import keep_largest, live_count
from ltlstm.sparsity.weights import Weight


class WeightSet:
    """Weights side by side as one matrix: (gates, rows, all their columns)."""

    def __init__(self, weights: list[Weight], granularity: str, sizes: Sequence[int]) -> None:
        first = weights[0].layout
        columns = sum(weight.layout.columns for weight in weights)
        self.weights = weights
        self.name = " + ".join(weight.name for weight in weights)
        self.layout = Layout(first.gates, first.rows, columns, first.span)
        self.granularity = granularity
        self.sizes = sorted(sizes)
        # What a density is a share of: groups, or the columns of a bank.
        groups = group_sizes(self.layout, granularity)
        self.whole = min(BANK, columns) if granularity == "bank" else groups.numel()

    def _joined(self, tensors: Mapping[str, Tensor]) -> Tensor:
        parts = [weight.layout.view(tensors[weight.name]) for weight in self.weights]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)

    def _split(self, joined: Tensor) -> Masks:
        parts = joined.split([weight.layout.columns for weight in self.weights], 2)
        return {
            weight.name: part.reshape(weight.parameter.shape)
            for weight, part in zip(self.weights, parts, strict=True)
        }

    def seed(self, fraction: float, generator: torch.Generator) -> Masks:
        """Drawn; at 1 what its modules have, all on where they have no masks."""
        if fraction == 1:
            return {weight.name: weight.mask() for weight in self.weights}
        device = self.weights[0].parameter.device
        mask = seed(self.layout, fraction, self.granularity, generator=generator, device=device)
        return self._split(mask)

    def check(self, masks: Masks) -> None:
        check_groups("GrowPrune", self._joined(masks), self.layout, self.granularity, self.name)

    def live(self, masks: Masks) -> int:
        return live_count(self._joined(masks), self.layout, self.granularity)

    def wanted(self, density: float) -> int:
        """Live groups at a density, so that the rounding of many small steps does not add up."""
        return min(self.whole, int(self.whole * density + 0.5))

    def grow(self, masks: Masks, scores: Mapping[str, Tensor], wanted: int) -> Masks:
        """``wanted`` live groups; a full set stays as it is, and so does one that has as many."""
        mask = self._joined(masks)
        if bool(mask.all()):
            return {}
        count = wanted - live_count(mask, self.layout, self.granularity)
        score = self._joined(scores)
        grown = wake(mask, score, max(count, 0), self.layout, self.granularity, name=self.name)
        return self._split(grown)

    def prune(
        self, masks: Masks, weights: Mapping[str, Tensor], wanted: float, floor: float
    ) -> Masks:
        """``wanted`` live groups, rounded, or to a fast size above; not under the floor."""
        live = self.live(masks)
        kept = max(int(wanted + 0.5), math.ceil(self.whole * floor))
        if self.sizes and kept < live:
            kept = min((size for size in self.sizes if kept <= size < live), default=live)
        if kept >= live:
            return {}
        mask, weight = self._joined(masks), self._joined(weights)
        left = keep_largest(mask, weight, kept, self.layout, self.granularity, name=self.name)
        return self._split(left)


def weight_sets(
    weights: Sequence[Weight], granularity: str, sizes: Sequence[int]
) -> list[WeightSet]:
    """By rows, an LSTM's input and recurrent weights of a layer stand together."""
    together: dict[tuple[int, str], list[Weight]] = {}
    for weight in weights:
        attribute = weight.attribute
        if granularity == "row":
            attribute = attribute.replace("weight_hh", "weight_ih")
        together.setdefault((id(weight.module), attribute), []).append(weight)
    return [WeightSet(each, granularity, sizes) for each in together.values()]
