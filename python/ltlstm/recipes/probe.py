# SPDX-License-Identifier: Apache-2.0
"""How much gradient reaches each layer: ||dL/dh_t^l|| a frame, the total derivative.

It must count every way from h_t^l to the loss: up through the layers, on through time and, in an
LTLSTM, through the layer lane. The operators pass h on inside, so the pass is repeated here, on
one chunk, with the oracle's cell and one tensor for each h_t^l.
"""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy, linear

from ltlstm import reference
from ltlstm.recipes.models import AcousticModel
from ltlstm.recipes.speech.corpus import IGNORED
from ltlstm.recipes.streams import Chunk


def gradient_norms(model: AcousticModel, chunk: Chunk) -> list[float]:
    """For each layer the mean over frames of ||dL/dh_t^l||, L summed over the chunk's frames."""
    logits, hidden = traced_forward(model, chunk.features, chunk.reset)
    loss = cross_entropy(
        logits.flatten(0, 1), chunk.labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    steps = [h for layer in hidden for h in layer]
    grads = torch.stack(torch.autograd.grad(loss, steps))  # (L * T, N, H)
    return grads.norm(dim=-1).view(len(hidden), -1).mean(1).tolist()


def knows(model: AcousticModel) -> bool:
    """Whether the pass can be repeated: for stacks of the oracle's cell."""
    return model.spec.kind != "HLSTM"


def traced_forward(
    model: AcousticModel, features: torch.Tensor, reset: torch.Tensor
) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
    """As `model(features, None, reset)` -> logits (T, N, classes) and h_t^l, [l][t] (N, H)."""
    hidden: list[list[torch.Tensor]] = []
    x = features
    for layer in range(model.spec.num_layers):
        hidden.append(_time_lstm(model, layer, x, reset))
        h = torch.stack(hidden[-1])
        x = x + h if model.spec.kind == "ResidualLSTM" and layer > 0 else h
    if model.spec.kind == "LTLSTM":
        lanes = torch.stack([torch.stack(layer) for layer in hidden])
        x = reference.layer_trajectory(lanes, _layer_lane_weights(model))[0][-1]
    return model.output(x), hidden


def _time_lstm(
    model: AcousticModel, layer: int, x: torch.Tensor, reset: torch.Tensor
) -> list[torch.Tensor]:
    w_ih, w_hh, b_ih, b_hh = (
        model.stack.get_parameter(f"{name}_l{layer}")
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    h = c = x.new_zeros(x.shape[1], model.spec.hidden_size)
    outputs = []
    for from_below, keep in zip(linear(x, w_ih, b_ih), ~reset[:, :, None], strict=True):
        h, c = reference.cell(from_below + linear(h * keep, w_hh, b_hh), c * keep)
        outputs.append(h)
    return outputs


def _layer_lane_weights(model: AcousticModel) -> list[torch.Tensor]:
    """In the oracle's order; the first layer has no weight_hh, since g^0 = 0."""
    names = ("traj_weight_ih", "traj_weight_hh", "traj_bias_ih", "traj_bias_hh")
    return [
        model.stack.get_parameter(f"{name}_l{layer}")
        for layer in range(model.spec.num_layers)
        for name in names
        if (layer, name) != (0, "traj_weight_hh")
    ]
