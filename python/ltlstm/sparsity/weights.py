# SPDX-License-Identifier: Apache-2.0
"""Which parameters of a model can be masked: their names, modules and layouts."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ltlstm.functional.depth_units import DEPTH_UNITS
from ltlstm.modules.gates import MASK, GateMLPs
from ltlstm.modules.trajectory import Trajectory
from ltlstm.sparsity.layout import Layout, matrix_layout

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Weight(NamedTuple):
    """A maskable parameter of a model."""

    name: str  # the first of its names, as in named_parameters
    module: nn.Module
    attribute: str
    layout: Layout
    owners: list[tuple[nn.Module, str]]  # all modules that hold it as a weight, and as which

    @property
    def parameter(self) -> nn.Parameter:
        return cast(nn.Parameter, getattr(self.module, self.attribute))

    @property
    def masking(self) -> list[tuple[GateMLPs, Tensor]]:
        """The modules that mask it themselves (HLSTM), and their masks."""
        found = [(m, m._buffers.get(a + MASK)) for m, a in self.owners if isinstance(m, GateMLPs)]
        return [(module, mask) for module, mask in found if mask is not None]

    @property
    def buffer(self) -> Tensor | None:
        """The mask of a module that masks it."""
        return next((mask for _, mask in self.masking), None)

    def mask(self) -> Tensor:
        """A copy of that, or one that is all on."""
        buffer = self.buffer
        if buffer is not None:
            return buffer.clone()
        return torch.ones_like(self.parameter, dtype=torch.bool)


def first_names(model: nn.Module) -> dict[str, str]:
    """For every name of a parameter, of which a tied one has several, its first."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return {name: first[id(parameter)] for name, parameter in every}


def find_weights(model: nn.Module, names: Iterable[str] | None = None) -> list[Weight]:
    """The maskable weights of a model, tied ones once, in the order of its modules.

    Those of nn.Linear, nn.Conv1d to 3d, LSTMs and their cells (nn's and this package's, layer
    trajectory and hidden-layer LSTMs included) that are plain parameters; biases, peepholes and
    look-ahead contexts are not.

    Args:
        names: only these, by their names in ``named_parameters``, of tied ones any; ValueError for
            others than maskable ones.
    """
    first = first_names(model)
    found: dict[int, Weight] = {}
    for prefix, module in model.named_modules():
        for attribute in weight_attributes(module):
            parameter = module._parameters.get(attribute)
            if parameter is None:
                continue
            if id(parameter) not in found:
                name = first[f"{prefix}.{attribute}" if prefix else attribute]
                layout = _layout(module, attribute, parameter)
                found[id(parameter)] = Weight(name, module, attribute, layout, [])
            found[id(parameter)].owners.append((module, attribute))
    by_name = {weight.name: weight for weight in found.values()}
    for weight in by_name.values():
        if hasattr(weight.parameter, "device_mesh"):
            raise TypeError(f"sparsity: {weight.name} must be a plain tensor, got a DTensor")
    if names is None:
        return list(by_name.values())
    chosen = set()
    for name in names:
        if first.get(name) not in by_name:
            raise ValueError(
                f"sparsity: weights must be of {', '.join(by_name) or 'nothing'}, got {name!r}"
            )
        chosen.add(first[name])
    return [weight for name, weight in by_name.items() if name in chosen]


def computed_weights(model: nn.Module) -> list[str]:
    """Names of what would be maskable weights, but is computed from other parameters: by a
    parametrization, weight_norm, spectral_norm, torch's pruning, a dropout of weights."""
    return [
        f"{prefix}.{attribute}" if prefix else attribute
        for prefix, module in model.named_modules()
        for attribute in weight_attributes(module)
        if attribute in vars(module) or is_parametrized(module, attribute)
    ]


def trained_weights(model: nn.Module, names: Iterable[str] | None) -> list[Weight]:
    """The weights that are named, or all that are not frozen; a warning for computed ones."""
    found = find_weights(model, names)
    if names is not None:
        for weight in found:
            if not weight.parameter.requires_grad:
                raise ValueError(
                    f"GrowPrune: {weight.name} must require gradients, got a frozen one"
                )
        return found
    computed = computed_weights(model)
    if computed:
        text = f"GrowPrune: {', '.join(computed)} left out: computed from other parameters"
        warnings.warn(text, stacklevel=3)
    return [weight for weight in found if weight.parameter.requires_grad]


def weight_attributes(module: nn.Module) -> list[str]:
    """The attributes that are weights by the module's kind, whether or not they are parameters."""
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return ["weight"]
    names: list[str] = []
    if isinstance(module, GateMLPs):
        names = module._gate_names()
    elif isinstance(module, nn.RNNBase) and module.mode == "LSTM":
        names = list(module._flat_weights_names)
        if isinstance(module, Trajectory):
            names += dict.fromkeys(module._traj_names)  # shared by all layers, each once
    elif isinstance(module, nn.RNNCellBase):
        rows = module._parameters.get("weight_ih")  # an LSTM's, of four gates
        if rows is None or rows.shape[0] == 4 * module.hidden_size:
            names = ["weight_ih", "weight_hh"]
    return [name for name in names if "weight" in name]


def _layout(module: nn.Module, attribute: str, parameter: Tensor) -> Layout:
    if isinstance(module, nn.Linear) or isinstance(module, CONVOLUTIONS):
        return matrix_layout(parameter.shape)
    if parameter.dim() == 3:  # a gate's later layers: (4, out, in)
        return Layout(*parameter.shape)
    if "weight_hr" in attribute:
        return matrix_layout(parameter.shape)
    if attribute.startswith("traj_"):
        unit = DEPTH_UNITS[cast(Trajectory, module).depth_unit]
        return matrix_layout(parameter.shape, unit.blocks)
    return matrix_layout(parameter.shape, 4)
