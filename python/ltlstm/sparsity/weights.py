# SPDX-License-Identifier: Apache-2.0
"""Which parameters of a model can be masked: their names, modules and layouts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

from torch import Tensor, nn

from ltlstm.modules.gates import MASK, GateMLPs
from ltlstm.modules.trajectory import Trajectory
from ltlstm.sparsity.layout import Layout, matrix_layout

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
DEPTH_UNIT_GATES = {"lstm": 4, "gated": 2, "max": 1}


class Weight(NamedTuple):
    """A maskable parameter of a model."""

    name: str  # as in named_parameters
    module: nn.Module
    attribute: str
    layout: Layout

    @property
    def parameter(self) -> nn.Parameter:
        return cast(nn.Parameter, getattr(self.module, self.attribute))

    @property
    def buffer(self) -> Tensor | None:
        """The module's own mask, where it has one (HLSTM)."""
        return self.module._buffers.get(self.attribute + MASK)


def find_weights(model: nn.Module, names: Iterable[str] | None = None) -> list[Weight]:
    """The maskable weights of a model, tied ones once, in the order of its parameters.

    Those of nn.Linear, nn.Conv1d to 3d, LSTMs and their cells (nn's and this package's, layer
    trajectory and hidden-layer LSTMs included) that are plain parameters; biases, peepholes and
    look-ahead contexts are not.

    Args:
        names: only these, by their names in ``named_parameters``; ValueError for others than
            maskable ones.
    """
    found: dict[int, Weight] = {}
    for prefix, module in model.named_modules():
        for attribute, parameter in module._parameters.items():
            layout = None if parameter is None else _layout(module, attribute, parameter)
            if layout is not None:
                name = f"{prefix}.{attribute}" if prefix else attribute
                found[id(parameter)] = found.get(id(parameter)) or Weight(
                    name, module, attribute, layout
                )
    by_name = {weight.name: weight for weight in found.values()}
    for weight in by_name.values():
        if hasattr(weight.parameter, "device_mesh"):
            raise TypeError(f"sparsity: {weight.name} must be a plain tensor, got a DTensor")
    if names is None:
        return list(by_name.values())
    chosen = list(names)
    for name in chosen:
        if name not in by_name:
            raise ValueError(
                f"sparsity: weights must be of {', '.join(by_name) or 'nothing'}, got {name!r}"
            )
    return [weight for name, weight in by_name.items() if name in chosen]


def _layout(module: nn.Module, attribute: str, parameter: Tensor) -> Layout | None:
    """None for a parameter that is not masked."""
    if isinstance(module, nn.Linear) or isinstance(module, CONVOLUTIONS):
        return matrix_layout(parameter.shape) if attribute == "weight" else None
    recurrent = isinstance(module, nn.RNNBase) and module.mode == "LSTM"
    cell = isinstance(module, nn.RNNCellBase) and not isinstance(module, nn.RNNCell | nn.GRUCell)
    gated = isinstance(module, GateMLPs)
    if not (recurrent or cell or gated) or "weight" not in attribute or parameter.dim() < 2:
        return None
    if parameter.dim() == 3:  # a gate's later layers: (4, out, in)
        return Layout(*parameter.shape)
    if "weight_hr" in attribute:
        return matrix_layout(parameter.shape)
    if attribute.startswith("traj_"):
        return matrix_layout(parameter.shape, DEPTH_UNIT_GATES[cast(Trajectory, module).depth_unit])
    return matrix_layout(parameter.shape, 4)
