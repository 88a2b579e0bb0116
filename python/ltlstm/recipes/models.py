# SPDX-License-Identifier: Apache-2.0
"""The acoustic models that the recipe compares, and the start that all of them get.

A stack of recurrent layers under one linear layer. The modules' own default start is torch's; with
it a plain stack of depth 6 does not learn in a short run at all, so every model here starts from
xavier (input weights) and orthogonal (recurrent weights) blocks, one block a gate, and a forget
bias of 1.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

import ltlstm

State = tuple[torch.Tensor, torch.Tensor]
STACKS: dict[str, type[nn.Module]] = {
    "LSTM": ltlstm.LSTM,
    "ResidualLSTM": ltlstm.ResidualLSTM,
    "LTLSTM": ltlstm.LTLSTM,
}


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    kind: str  # a key of STACKS
    num_layers: int
    hidden_size: int

    @property
    def name(self) -> str:
        return f"{self.kind} {self.num_layers}x{self.hidden_size}"

    @property
    def file_name(self) -> str:
        return self.name.replace(" ", "-").lower()


class AcousticModel(nn.Module):
    def __init__(self, spec: ModelSpec, input_size: int, num_classes: int) -> None:
        super().__init__()
        self.spec = spec
        self.stack = STACKS[spec.kind](input_size, spec.hidden_size, spec.num_layers)
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
    for name, parameter in model.stack.named_parameters():
        gates = parameter.chunk(4)  # i, f, g, o
        if "weight_ih" in name:
            for gate in gates:
                nn.init.xavier_uniform_(gate)
        elif "weight_hh" in name:
            for gate in gates:
                nn.init.orthogonal_(gate)
        else:
            parameter.zero_()
            if "bias_ih" in name:  # bias_hh stays 0: the two are added, and 1 is what counts
                gates[1].fill_(1.0)
    nn.init.xavier_uniform_(model.output.weight)
    model.output.bias.zero_()


def default_specs(depth: int, width: int) -> list[ModelSpec]:
    """The shallow network that one would try first, then the three kinds at the same depth."""
    shallow = ModelSpec("LSTM", min(2, depth), 2 * width)
    return [shallow, *(ModelSpec(kind, depth, width) for kind in STACKS)]
