# SPDX-License-Identifier: Apache-2.0
"""Gates that are MLPs, as parameters with masks: what HLSTM and HLSTMCell have in common."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter, init

from ltlstm.functional.h_lstm import activation_of, slope_of
from ltlstm.functional.masks import in_use, may_look

MASK = "_mask"  # after the name of a weight
SLOPE = "activation_slope"  # in a state dict
USUAL = "leaky_relu"


class GateMLPs(nn.Module):
    """A mixin. Each weight has a mask; a bias has none.

    Attributes:
        activation: "leaky_relu" or "relu", for the next call on. A state dict carries it: as the
            tensor ``activation_slope`` where it is "relu"; without that, "leaky_relu" is loaded.
            It is no parameter and no buffer: functional_call, stack_module_state and an
            AveragedModel that was made before it changed leave a module's own as it is.
        dense_gradients: while True, the gradient of a masked weight is, at every position, dormant
            ones included, that of the weight in use, instead of zero at dormant ones. The forward
            is the same.
    """

    hidden_size: int
    gate_hidden_size: int
    gate_num_layers: int
    gate_dropout: float
    activation: str
    backend: str | None
    dense_gradients: bool
    _version = 2  # of the state dict: since 2 the activation is there

    def _set_gates(
        self, gate_hidden_size: int | None, gate_num_layers: int, gate_dropout: float,
        activation: str,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        K = self.hidden_size if gate_hidden_size is None else gate_hidden_size
        for argument, value in (("gate_hidden_size", K), ("gate_num_layers", gate_num_layers)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name}: {argument} must be an int, got {type(value).__name__}")
            if value < 1:
                raise ValueError(f"{name}: {argument} must be positive, got {value}")
        if not 0 <= gate_dropout <= 1:
            raise ValueError(f"{name}: gate_dropout must lie in [0, 1], got {gate_dropout}")
        slope_of(name, activation)
        self.gate_hidden_size = K
        self.gate_num_layers = gate_num_layers
        self.gate_dropout = float(gate_dropout)
        self.activation = activation
        self.dense_gradients = False

    def _create(self, suffix: str, inputs: int, bias: bool, device: Any, dtype: Any) -> list[str]:
        """The parameters of one cell and its masks, all on; the names in the functional's order."""
        K, J = self.gate_hidden_size, self.gate_num_layers
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (4 * K, inputs), "weight_hh": (4 * K, self.hidden_size), "bias": (4 * K,)
        }  # fmt: skip
        for j in range(1, J + 1):
            out = self.hidden_size if j == J else K
            shapes |= {f"gate{j}_weight": (4, out, K), f"gate{j}_bias": (4, out)}
        names = []
        for name, shape in shapes.items():
            if name.endswith("bias") and not bias:
                continue
            names.append(name + suffix)
            setattr(self, names[-1], Parameter(torch.empty(shape, device=device, dtype=dtype)))
        for name in names:
            if "weight" in name:
                shape = getattr(self, name).shape
                self.register_buffer(name + MASK, torch.ones(shape, device=device).bool())
        return names

    def _gate_names(self) -> list[str]:
        """Of all parameters, in the functional's order."""
        raise NotImplementedError

    def _start(self) -> None:
        """Each layer of the gates uniform within 1 / sqrt(its inputs), H of them in the first, as
        nn.LSTM and nn.Linear start; every mask on."""
        for name, parameter in self.named_parameters():
            inputs = self.gate_hidden_size if name.startswith("gate") else self.hidden_size
            bound = 1.0 / math.sqrt(inputs)
            init.uniform_(parameter, -bound, bound)
        for name in self._gate_names():
            mask = self._buffers.get(name + MASK)
            if mask is not None:
                mask.fill_(True)

    def weight_in_use(self, name: str) -> Tensor:
        """The parameter ``name`` as it acts: masked, differentiable, the parameter itself where
        nothing is masked."""
        return in_use(getattr(self, name), getattr(self, name + MASK, None), self.dense_gradients)

    def _time_weights(self) -> list[Tensor]:
        return [self.weight_in_use(name) for name in self._gate_names()]

    @property
    def activation_slope(self) -> Tensor:
        """The activation as a state dict holds it. No buffer: a traced call must know its value.
        Setting it, as functional_call with a state dict does, sets ``activation``."""
        slope = slope_of(type(self).__name__, self.activation)
        return torch.tensor(slope, dtype=torch.float32, device="cpu")

    @activation_slope.setter
    def activation_slope(self, slope: Tensor) -> None:
        if may_look(slope, wait=True):
            self.activation = activation_of(type(self).__name__, float(slope))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.activation != USUAL:
            destination[prefix + SLOPE] = self.activation_slope

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], strict: bool,
        missing: list[str], unexpected: list[str], errors: list[str],
    ) -> None:  # fmt: skip
        """A weight that comes without its mask is all on; weights that come without an activation
        have the usual one."""
        state_dict = dict(state_dict)
        slope = state_dict.pop(prefix + SLOPE, None)
        came = False
        for name in self._gate_names():
            weight, mask = state_dict.get(prefix + name), self._buffers.get(name + MASK)
            came = came or weight is not None
            if mask is not None and weight is not None:
                full = torch.ones_like(mask, device=weight.device)
                state_dict.setdefault(prefix + name + MASK, full)
        if slope is not None:
            try:
                self.activation_slope = slope
            except ValueError as refused:
                errors.append(f"{prefix}{SLOPE}: {refused}")
        elif came and self.activation != USUAL:
            if local_metadata.get("version", 1) < 2:
                warnings.warn(
                    f"{type(self).__name__}: activation was {self.activation!r} and is {USUAL!r} "
                    f"now, for the state dict has no {SLOPE}: set it again after loading a state "
                    "dict of before it was kept there",
                    stacklevel=2,
                )
            self.activation = USUAL
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing, unexpected, errors
        )

    def _gates_repr(self) -> str:
        s = f"gate_hidden_size={self.gate_hidden_size}"
        for name, usual in (
            ("gate_num_layers", 1), ("gate_dropout", 0.0), ("activation", USUAL),
        ):  # fmt: skip
            if getattr(self, name) != usual:
                s += f", {name}={getattr(self, name)!r}"
        return s
