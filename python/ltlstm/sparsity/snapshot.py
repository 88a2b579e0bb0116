# SPDX-License-Identifier: Apache-2.0
"""The last good network: parameters, buffers, masks, activations and optimiser state."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor

from ltlstm.sparsity.held import Held, Masks
from ltlstm.sparsity.shift import Activations, Shift


@dataclasses.dataclass
class Snapshot:
    model: dict[str, Any]  # tensors, and what get_extra_state gives
    optimizer: dict[int, Any]  # its state; learning rates go on
    masks: Masks
    activations: Activations = dataclasses.field(default_factory=dict)  # of those that shift

    @staticmethod
    def of(held: Held, shift: Shift) -> Snapshot:
        model = {
            name: value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)
            for name, value in held.model.state_dict().items()
        }
        optimizer = {} if held.optimizer is None else held.optimizer.state_dict()["state"]
        masks = {name: mask.clone() for name, mask in held.masks.items()}
        return Snapshot(model, copy.deepcopy(optimizer), masks, shift.activations())

    @torch.no_grad()
    def put_back(self, held: Held, shift: Shift) -> None:
        held.model.load_state_dict(self.model)
        if held.optimizer is not None:
            groups = held.optimizer.state_dict()["param_groups"]
            held.optimizer.load_state_dict(
                {"state": copy.deepcopy(self.optimizer), "param_groups": groups}
            )
        shift.put(self.activations)
        held.set(self.masks)
        held.apply()
