# SPDX-License-Identifier: Apache-2.0
"""Bad arguments to HLSTM, HLSTMCell and the functional call: the right error, with its text."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence

import ltlstm

T, N, D, H = 5, 4, 3, 6
HLSTM, HLSTMCell = ltlstm.HLSTM, ltlstm.HLSTMCell

WRONG: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    "projection": (
        ValueError, "HLSTM: proj_size must be 0, got 2",
        lambda: HLSTM(D, H, proj_size=2),
    ),
    "dropout": (ValueError, "dropout should be a number in range", lambda: HLSTM(D, H, dropout=2)),
    "K": (
        ValueError, "HLSTM: gate_hidden_size must be positive, got 0",
        lambda: HLSTM(D, H, gate_hidden_size=0),
    ),
    "J": (
        ValueError, "HLSTM: gate_num_layers must be positive, got 0",
        lambda: HLSTM(D, H, gate_num_layers=0),
    ),
    "type of J": (
        TypeError, "HLSTM: gate_num_layers must be an int, got float",
        lambda: HLSTM(D, H, gate_num_layers=1.0),  # type: ignore[arg-type]
    ),
    "gate dropout": (
        ValueError, r"HLSTMCell: gate_dropout must lie in \[0, 1\], got -0.1",
        lambda: HLSTMCell(D, H, gate_dropout=-0.1),
    ),
    "activation": (
        ValueError, "HLSTM: activation must be one of .*, got 'gelu'",
        lambda: HLSTM(D, H, activation="gelu"),
    ),
    "features": (
        RuntimeError, "input.size.-1. must be equal to input_size. Expected 3, got 4",
        lambda: HLSTM(D, H)(torch.randn(T, N, D + 1)),
    ),
    "hidden state": (
        RuntimeError, "Expected hidden",
        lambda: HLSTM(D, H)(torch.randn(T, N, D), (torch.randn(1, N, H + 1),) * 2),
    ),
    "lengths of packed": (
        ValueError, "HLSTM: lengths must be None for a PackedSequence",
        lambda: HLSTM(D, H)(PackedSequence(torch.randn(2, D), torch.tensor([1, 1])),
                            lengths=torch.tensor([2])),
    ),
    "rank of the cell": (
        ValueError, "HLSTMCell: Expected input to be 1D or 2D, got 3D instead",
        lambda: HLSTMCell(D, H)(torch.randn(1, N, D)),
    ),
    "features of the cell": (
        RuntimeError, "input has inconsistent input_size: got 4 expected 3",
        lambda: HLSTMCell(D, H)(torch.randn(N, D + 1)),
    ),
    "c of the cell": (
        RuntimeError, "hidden1 has inconsistent hidden_size: got 7, expected 6",
        lambda: HLSTMCell(D, H)(torch.randn(N, D), (torch.randn(N, H), torch.randn(N, H + 1))),
    ),
    "no gate layer": (
        ValueError, "h_lstm: weights must hold w_ih, w_hh, b and at least one later gate layer",
        lambda: ltlstm.functional.h_lstm(
            torch.randn(T, N, D), None, [torch.randn(8, D), torch.randn(8, H), torch.randn(8)]
        ),
    ),
    "shape of a weight": (
        RuntimeError, r"h_lstm: weights\[2\] must have shape \(4, 6, 2\), got .* \(K = 2 after",
        lambda: ltlstm.functional.h_lstm(
            torch.randn(T, N, D), None,
            [torch.randn(8, D), torch.randn(8, H), torch.randn(4, H, 3)], bias=False,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_bad_input(name: str) -> None:
    error, text, call = WRONG[name]
    with pytest.raises(error, match=text):
        call()
