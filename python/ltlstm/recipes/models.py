# SPDX-License-Identifier: Apache-2.0
"""The acoustic models that the recipe compares, and the start that all of them get.

A stack of recurrent layers under one linear layer. A model may be sparse: grown and pruned as it
trains. The modules' own default start is torch's; with
it a plain stack of depth 6 does not learn in a short run at all, so every model here starts from
xavier (input weights) and orthogonal (recurrent weights) blocks, one block a gate, and a forget
bias of 1; the later layers of an HLSTM's gates are orthogonal too.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

import ltlstm

READERS = {"stack": ["output"]}  # what alone reads an AcousticModel's stack
State = tuple[torch.Tensor, torch.Tensor]
STACKS: dict[str, type[nn.Module]] = {
    "LSTM": ltlstm.LSTM,
    "ResidualLSTM": ltlstm.ResidualLSTM,
    "LTLSTM": ltlstm.LTLSTM,
    "HLSTM": ltlstm.HLSTM,
}


@dataclasses.dataclass(frozen=True)
class Sparsity:
    """How a model is grown and pruned: densities, when, and which weights go together."""

    target: float
    seed: float = 0.5
    grown: float = 0.8
    granularity: str = "bank"
    grow_share: tuple[float, float] = (0.02, 0.12)  # of the training, in which it grows
    prune_share: tuple[float, float] = (0.15, 0.6)
    prunings: int = 40
    distill: float = 0.7  # share of the loss that is the distance to the dense model's posteriors


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    kind: str  # a key of STACKS
    num_layers: int
    hidden_size: int
    sparsity: Sparsity | None = None
    gate_width: int | None = None  # of an HLSTM, where it is not hidden_size
    rate: float | None = None  # Adam's at its highest, where it is not the budget's

    @property
    def name(self) -> str:
        dense = f"{self.kind} {self.num_layers}x{self.hidden_size}"
        if self.gate_width is not None:
            dense += f"/{self.gate_width}"
        return dense if self.sparsity is None else f"{dense} at {100 * self.sparsity.target:g}%"

    @property
    def file_name(self) -> str:
        return self.name.replace(" ", "-").replace("/", "-").replace("%", "").lower()


class AcousticModel(nn.Module):
    def __init__(self, spec: ModelSpec, input_size: int, num_classes: int) -> None:
        super().__init__()
        self.spec = spec
        options = {"gate_hidden_size": spec.gate_width} if spec.kind == "HLSTM" else {}
        self.stack = STACKS[spec.kind](input_size, spec.hidden_size, spec.num_layers, **options)
        self.output = nn.Linear(spec.hidden_size, num_classes)
        start_weights(self)

    def forward(
        self, features: torch.Tensor, hx: State | None = None, reset: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, State]:
        """features (T, N, D), reset (T, N) -> logits (T, N, classes), and the state after them."""
        hidden, hx = self.stack(features, hx, reset=reset)
        return self.output(hidden), hx


@torch.no_grad()
def start_weights(model: AcousticModel) -> None:
    """Both lanes alike; time-LSTM and layer-LSTM parameters bear nn.LSTM's names."""
    # bias_hh stays 0: the two are added, and 1 is what counts. An HLSTM has one, in its last layer.
    forget_bias = ("bias_ih", "traj_bias_ih", "gate1_bias")
    for name, parameter in model.stack.named_parameters():
        gates = parameter.flatten(0, 1).chunk(4) if parameter.dim() == 3 else parameter.chunk(4)
        if "weight_ih" in name:
            for gate in gates:
                nn.init.xavier_uniform_(gate)
        elif "weight" in name:
            for gate in gates:
                nn.init.orthogonal_(gate)
        else:
            parameter.zero_()
            if name.startswith(forget_bias):
                gates[1].fill_(1.0)
    nn.init.xavier_uniform_(model.output.weight)
    model.output.bias.zero_()


def default_specs(depth: int, width: int) -> list[ModelSpec]:
    """The shallow network that one would try first, then the three kinds at the same depth."""
    shallow = ModelSpec("LSTM", min(2, depth), 2 * width)
    kinds = ("LSTM", "ResidualLSTM", "LTLSTM")
    return [shallow, *(ModelSpec(kind, depth, width) for kind in kinds)]


def hidden_gate_specs(depth: int, width: int, *others: ModelSpec) -> list[ModelSpec]:
    """The dense stack, which is what a teacher is, and one LSTM layer; then the others."""
    return [ModelSpec("LSTM", depth, width), ModelSpec("LSTM", 1, width), *others]
