# SPDX-License-Identifier: Apache-2.0
"""Gradients of all positions of the masked weights, dormant ones included, summed for growth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ltlstm.sparsity.distributed import averaged
from ltlstm.sparsity.held import Held

Sums = dict[str, Tensor]


class Gradients:
    def __init__(
        self, held: Held, rank_by: str, scaler: torch.amp.GradScaler | None, group: Any
    ) -> None:
        self.held, self.rank_by, self.scaler, self.group = held, rank_by, scaler, group
        self.taken = False  # in this step, before the optimiser
        self.clear()

    def clear(self) -> None:
        self._sums: Sums = {}  # of dL/dW
        self._absolute: Sums = {}  # of |dL/dW|
        self._count = 0  # steps

    def ask(self, wanted: bool) -> None:
        """Modules with masks of their own give dense gradients only while they are wanted."""
        for weight in self.held.weights.values():
            for module, _ in weight.masking:
                module.dense_gradients = wanted

    @torch.no_grad()
    def take(self, wanted: bool) -> None:
        self.collect(wanted)
        self.taken = True
        for name, dormant in self.held.dormant():
            gradient = self.held.model.get_parameter(name).grad
            if gradient is not None:
                gradient.masked_fill_(dormant, 0)

    def collect(self, wanted: bool) -> None:
        """Adds the gradients of this step."""
        if not wanted:
            return
        found = {name: weight.parameter.grad for name, weight in self.held.weights.items()}
        missing = [name for name, gradient in found.items() if gradient is None]
        if missing:
            raise RuntimeError(
                f"GrowPrune: gradient of {missing[0]} must be there in growth, got None: "
                + self._cause(missing)
            )
        gradients = {name: gradient for name, gradient in found.items() if gradient is not None}
        if self.scaler is not None and self.scaler.is_enabled():
            if not all(bool(gradient.isfinite().all()) for gradient in gradients.values()):
                return  # a step that the scaler skips
        for name, gradient in gradients.items():
            dtype = torch.promote_types(gradient.dtype, torch.float32)
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(gradient, dtype=dtype)
            self._sums[name] += gradient
            if self.rank_by == "abs":
                if name not in self._absolute:
                    self._absolute[name] = torch.zeros_like(gradient, dtype=dtype)
                self._absolute[name] += gradient.abs()
        self._count += 1

    def _cause(self, missing: list[str]) -> str:
        """Of gradients that are not there."""
        if not self.held.weights[missing[0]].parameter.requires_grad:
            return "it is frozen; leave it out by weights=, or set requires_grad"
        if len(missing) < len(self.held.weights):
            return "others have one, so the loss does not depend on it; leave it out by weights="
        return "call step() after the optimiser's and before zero_grad()"

    def scores(self) -> Sums:
        """What growth ranks by; RuntimeError where it is not finite, or where no step counted."""
        if self._count == 0:
            raise RuntimeError("GrowPrune: gradients must be finite in a growth period, got none")
        self._sums = {name: averaged(total, self.group) for name, total in self._sums.items()}
        self._absolute = {n: averaged(total, self.group) for n, total in self._absolute.items()}
        found = self._absolute if self.rank_by == "abs" else self._sums
        for name, total in found.items():
            if not bool(total.isfinite().all()):
                bad = "nan" if bool(total.isnan().any()) else "inf"
                raise RuntimeError(
                    f"GrowPrune: gradient of {name} must be finite in growth, got {bad}"
                )
        return {name: total.abs() for name, total in found.items()}

    def one_step(self) -> Sums:
        """The mean gradient of a step."""
        return {name: total / self._count for name, total in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        sums, absolute = (
            {name: total.clone() for name, total in each.items()}
            for each in (self._sums, self._absolute)
        )
        return {"sums": sums, "absolute": absolute, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        def loaded(sums: Sums) -> Sums:
            weights = self.held.weights
            return {
                n: total.to(weights[n].parameter.device, copy=True) for n, total in sums.items()
            }

        self._sums, self._absolute = loaded(state["sums"]), loaded(state["absolute"])
        self._count = state["count"]
