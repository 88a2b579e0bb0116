# SPDX-License-Identifier: Apache-2.0
"""Parameter names and shapes are frozen (checkpoints outlive code), and none is ever unused."""

import itertools
from typing import Any

import pytest
import torch
from torch import nn

import ltlstm

# D = 3, H = 4, P = 2; in the order of the state dict.
NAMES: dict[str, tuple[Any, dict[str, tuple[int, ...]]]] = {
    "lstm": (
        ltlstm.LSTM(3, 4, 2, bidirectional=True, proj_size=2),
        {
            "weight_ih_l0": (16, 3), "weight_hh_l0": (16, 2),
            "bias_ih_l0": (16,), "bias_hh_l0": (16,), "weight_hr_l0": (2, 4),
            "weight_ih_l0_reverse": (16, 3), "weight_hh_l0_reverse": (16, 2),
            "bias_ih_l0_reverse": (16,), "bias_hh_l0_reverse": (16,),
            "weight_hr_l0_reverse": (2, 4),
            "weight_ih_l1": (16, 4), "weight_hh_l1": (16, 2),
            "bias_ih_l1": (16,), "bias_hh_l1": (16,), "weight_hr_l1": (2, 4),
            "weight_ih_l1_reverse": (16, 4), "weight_hh_l1_reverse": (16, 2),
            "bias_ih_l1_reverse": (16,), "bias_hh_l1_reverse": (16,),
            "weight_hr_l1_reverse": (2, 4),
        },
    ),
    "residual": (
        ltlstm.ResidualLSTM(3, 4, 2, bias=False),
        {
            "weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4),
            "weight_ih_l1": (16, 4), "weight_hh_l1": (16, 4),
        },
    ),
    "lt": (
        ltlstm.LTLSTM(3, 4, 2, peephole=True, proj_size=2, lookahead=2),
        {
            "weight_ih_l0": (16, 3), "weight_hh_l0": (16, 2),
            "bias_ih_l0": (16,), "bias_hh_l0": (16,), "weight_hr_l0": (2, 4),
            "weight_ih_l1": (16, 2), "weight_hh_l1": (16, 2),
            "bias_ih_l1": (16,), "bias_hh_l1": (16,), "weight_hr_l1": (2, 4),
            "peephole_l0": (3, 4), "peephole_l1": (3, 4),
            "traj_weight_ih_l0": (16, 2),
            "traj_bias_ih_l0": (16,), "traj_bias_hh_l0": (16,),
            "traj_weight_hr_l0": (2, 4), "traj_peephole_l0": (3, 4),
            "traj_weight_ih_l1": (16, 2), "traj_weight_hh_l1": (16, 2),
            "traj_bias_ih_l1": (16,), "traj_bias_hh_l1": (16,),
            "traj_weight_hr_l1": (2, 4), "traj_peephole_l1": (3, 4),
            "traj_context_l1": (3, 2),
        },
    ),
    "lt_bidirectional": (
        ltlstm.LTLSTM(3, 4, bias=False, peephole=True, bidirectional=True),
        {
            "weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4),
            "weight_ih_l0_reverse": (16, 3), "weight_hh_l0_reverse": (16, 4),
            "peephole_l0": (3, 4), "peephole_l0_reverse": (3, 4),
            "traj_weight_ih_l0": (32, 8), "traj_peephole_l0": (3, 8),
        },
    ),
    "lt_shared": (
        ltlstm.LTLSTM(3, 4, 2, share_layer_weights=True, peephole=True, proj_size=2, lookahead=1),
        {
            "weight_ih_l0": (16, 3), "weight_hh_l0": (16, 2),
            "bias_ih_l0": (16,), "bias_hh_l0": (16,), "weight_hr_l0": (2, 4),
            "weight_ih_l1": (16, 2), "weight_hh_l1": (16, 2),
            "bias_ih_l1": (16,), "bias_hh_l1": (16,), "weight_hr_l1": (2, 4),
            "peephole_l0": (3, 4), "peephole_l1": (3, 4),
            "traj_weight_ih": (16, 2), "traj_weight_hh": (16, 2),
            "traj_bias_ih": (16,), "traj_bias_hh": (16,),
            "traj_weight_hr": (2, 4), "traj_peephole": (3, 4),
            "traj_context": (2, 2),
        },
    ),
    "lt_gated": (
        ltlstm.LTLSTM(3, 4, 2, depth_unit="gated", peephole=True),
        {
            "weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4),
            "bias_ih_l0": (16,), "bias_hh_l0": (16,),
            "weight_ih_l1": (16, 4), "weight_hh_l1": (16, 4),
            "bias_ih_l1": (16,), "bias_hh_l1": (16,),
            "peephole_l0": (3, 4), "peephole_l1": (3, 4),
            "traj_weight_ih_l0": (8, 4), "traj_bias_ih_l0": (4,),
            "traj_weight_ih_l1": (8, 4), "traj_weight_hh_l1": (8, 4),
            "traj_bias_ih_l1": (4,), "traj_bias_hh_l1": (4,),
        },
    ),
    "lt_max": (
        ltlstm.LTLSTM(3, 4, 2, depth_unit="max", proj_size=2),
        {
            "weight_ih_l0": (16, 3), "weight_hh_l0": (16, 2),
            "bias_ih_l0": (16,), "bias_hh_l0": (16,), "weight_hr_l0": (2, 4),
            "weight_ih_l1": (16, 2), "weight_hh_l1": (16, 2),
            "bias_ih_l1": (16,), "bias_hh_l1": (16,), "weight_hr_l1": (2, 4),
            "traj_weight_ih_l0": (2, 2), "traj_bias_ih_l0": (2,), "traj_bias_hh_l0": (2,),
            "traj_weight_ih_l1": (2, 2), "traj_weight_hh_l1": (2, 2),
            "traj_bias_ih_l1": (2,), "traj_bias_hh_l1": (2,),
        },
    ),
    "cell": (
        ltlstm.LSTMCell(3, 4),
        {"weight_ih": (16, 3), "weight_hh": (16, 4), "bias_ih": (16,), "bias_hh": (16,)},
    ),
    "lt_cell": (
        ltlstm.LTLSTMCell(3, 4, bias=False, peephole=True),
        {
            "weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4), "peephole_l0": (3, 4),
            "traj_weight_ih_l0": (16, 4), "traj_peephole_l0": (3, 4),
        },
    ),
    "h": (
        ltlstm.HLSTM(3, 4, bidirectional=True, gate_hidden_size=5, gate_num_layers=2),
        {
            "weight_ih_l0": (20, 3), "weight_hh_l0": (20, 4), "bias_l0": (20,),
            "gate1_weight_l0": (4, 5, 5), "gate1_bias_l0": (4, 5),
            "gate2_weight_l0": (4, 4, 5), "gate2_bias_l0": (4, 4),
            "weight_ih_l0_reverse": (20, 3), "weight_hh_l0_reverse": (20, 4),
            "bias_l0_reverse": (20,),
            "gate1_weight_l0_reverse": (4, 5, 5), "gate1_bias_l0_reverse": (4, 5),
            "gate2_weight_l0_reverse": (4, 4, 5), "gate2_bias_l0_reverse": (4, 4),
        },
    ),
    "h_stack": (
        ltlstm.HLSTM(3, 4, 2, bias=False),
        {
            "weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4), "gate1_weight_l0": (4, 4, 4),
            "weight_ih_l1": (16, 4), "weight_hh_l1": (16, 4), "gate1_weight_l1": (4, 4, 4),
        },
    ),
    "h_cell": (
        ltlstm.HLSTMCell(3, 4, gate_hidden_size=5),
        {
            "weight_ih": (20, 3), "weight_hh": (20, 4), "bias": (20,),
            "gate1_weight": (4, 4, 5), "gate1_bias": (4, 4),
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_shapes_and_order(name: str) -> None:
    module, expected = NAMES[name]
    masks = {}
    if name.startswith("h"):  # after all parameters, in their order
        masks = {f"{k}_mask": shape for k, shape in expected.items() if "weight" in k}
    found = {name: tuple(weight.shape) for name, weight in module.state_dict().items()}
    assert found == expected | masks and list(found) == [*expected, *masks]
    assert list(dict(module.named_parameters())) == list(expected)
    assert all(module.get_buffer(mask).dtype == torch.bool for mask in masks)


def test_a_context_comes_with_look_ahead_only() -> None:
    assert not any("context" in name for name in ltlstm.LTLSTM(3, 4, 3).state_dict())
    assert not any("context" in name for name in ltlstm.LTLSTM(3, 4, lookahead=2).state_dict())


def check_all_used(module: nn.Module) -> None:
    """Backward of the output alone reaches every parameter."""
    module(torch.randn(4, 2, 3))[0].sum().backward()
    assert [name for name, p in module.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("depth_unit", ["lstm", "gated", "max"])
def test_lt_lstm_uses_every_parameter(depth_unit: str, num_layers: int) -> None:
    flags = ("peephole", "share_layer_weights", "bidirectional", "bias")
    for *values, lookahead, proj_size, backend in itertools.product(
        *[[False, True]] * len(flags), [0, 1], [0, 2], ["cpu", "reference"]
    ):
        options = dict(zip(flags, values, strict=True))
        check_all_used(
            ltlstm.LTLSTM(
                3, 4, num_layers, **options, depth_unit=depth_unit, lookahead=lookahead,
                proj_size=proj_size, backend=backend,
            )
        )  # fmt: skip


@pytest.mark.parametrize("make", [ltlstm.LSTM, ltlstm.ResidualLSTM])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_stacks_use_every_parameter(make: Any, num_layers: int) -> None:
    for bias, bidirectional, proj_size in itertools.product([True, False], [False, True], [0, 2]):
        check_all_used(
            make(3, 4, num_layers, bias, bidirectional=bidirectional, proj_size=proj_size)
        )
