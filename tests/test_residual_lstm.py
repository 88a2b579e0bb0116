# SPDX-License-Identifier: Apache-2.0
"""ltlstm.ResidualLSTM against the reference, and against shortcuts around one-layer nn.LSTMs."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import ltlstm
from module_results import F32, F64, check_same, random_state

T, N, D, H = 5, 3, 4, 6
LENGTHS = torch.tensor([3, 5, 1])


def pair(**options: Any) -> tuple[ltlstm.ResidualLSTM, ltlstm.ResidualLSTM]:
    ours = ltlstm.ResidualLSTM(D, H, **options, backend="cpu")
    oracle = ltlstm.ResidualLSTM(D, H, **options, backend="reference")
    oracle.load_state_dict(ours.state_dict())
    return ours, oracle


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("form", ["padded", "batch_first", "packed", "lengths", "reset", "states"])
@pytest.mark.parametrize("num_layers", [1, 2, 4])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "proj_size": 2}], ids=str)
def test_values_and_gradients(
    options: dict[str, Any], num_layers: int, form: str, dtype: torch.dtype
) -> None:
    dropout = 0.3 if num_layers > 1 else 0.0
    ours, oracle = pair(
        num_layers=num_layers, dropout=dropout, batch_first=form == "batch_first", **options
    )
    x: Any = torch.randn(T, N, D)
    if form == "packed":
        x = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    kwargs: dict[str, Any] = {
        "lengths": {"lengths": LENGTHS},
        "reset": {"reset": torch.rand(T, N) < 0.3},
        "states": {"return_states": True},
    }.get(form, {})
    if form == "batch_first":
        x = x.transpose(0, 1)
    check_same(ours, oracle, x, random_state(ours, N), dtype, **kwargs)


@pytest.mark.parametrize("num_layers", [1, 2, 3, 4])
def test_shortcuts_around_nn_lstm(num_layers: int) -> None:
    ours = ltlstm.ResidualLSTM(D, H, num_layers)
    layers = [nn.LSTM(D if layer == 0 else H, H) for layer in range(num_layers)]
    for index, layer in enumerate(layers):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        layer.load_state_dict(
            {f"{name}_l0": ours.state_dict()[f"{name}_l{index}"] for name in names}
        )
    x = torch.randn(T, N, D)
    total, states = layers[0](x)
    last = [states]
    for layer in layers[1:]:
        h, states = layer(total)
        total = total + h
        last.append(states)
    output, (h_n, c_n) = ours(x)
    torch.testing.assert_close(output, total)
    torch.testing.assert_close(h_n, torch.cat([h for h, _ in last]))
    torch.testing.assert_close(c_n, torch.cat([c for _, c in last]))


def test_start_and_names_are_nn_lstms() -> None:
    torch.manual_seed(1)
    theirs = nn.LSTM(D, H, 3, bidirectional=True)
    torch.manual_seed(1)
    ours = ltlstm.ResidualLSTM(D, H, 3, bidirectional=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert torch.equal(ours.weight_hh_l2_reverse, theirs.weight_hh_l2_reverse)


@pytest.mark.parametrize("backend", ["aten", "cpu"])
def test_layers_on_each_backend(backend: str) -> None:
    ours, oracle = pair(num_layers=3, dropout=0.2, bidirectional=True)
    ours.backend = backend
    check_same(ours, oracle, torch.randn(T, N, D), random_state(ours, N), lengths=LENGTHS)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1, 2, 3, 5), (4, 0, 3, 5)], ids=str)
def test_small_sizes(sizes: tuple[int, ...]) -> None:
    steps, batch, inputs, cells = sizes
    ours = ltlstm.ResidualLSTM(inputs, cells, 3)
    oracle = ltlstm.ResidualLSTM(inputs, cells, 3, backend="reference")
    oracle.load_state_dict(ours.state_dict())
    check_same(ours, oracle, torch.randn(steps, batch, inputs), random_state(ours, batch))
