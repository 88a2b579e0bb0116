# SPDX-License-Identifier: Apache-2.0
"""FlopCounterMode over the operators, against products counted by hand."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import ltlstm
import ltlstm_kernels.flops  # noqa: F401  registers what is tested

T, N, D, H, P = 5, 3, 4, 6, 3
# Multiplications a row of the input.
CELL = 4 * H * (D + H)
ABOVE = 4 * H * (H + H)
CASES: dict[str, tuple[Any, int]] = {
    "lstm": (lambda: ltlstm.LSTM(D, H, 2), CELL + ABOVE),
    "both directions": (lambda: ltlstm.LSTM(D, H, bidirectional=True, bias=False), 2 * CELL),
    "projection": (lambda: ltlstm.LSTM(D, H, proj_size=P), 4 * H * (D + P) + P * H),
    # P is 3, the rows of a peephole, which is no product.
    "trajectory": (
        lambda: ltlstm.LTLSTM(D, H, 2, proj_size=P, peephole=True),
        4 * H * (D + P) + P * H + 4 * H * 2 * P + P * H
        + 4 * H * P + P * H + 4 * H * 2 * P + P * H,
    ),
    "h_lstm": (
        lambda: ltlstm.HLSTM(D, H),
        4 * H * (D + H) + 4 * H * H,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_two_a_multiplication_and_twice_that_backward(name: str) -> None:
    make, products = CASES[name]
    module = make()
    module.backend = "cpu"
    forward = 2 * T * N * products
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients), FlopCounterMode(display=False) as counter:
            output = module(torch.ones(T, N, D, requires_grad=gradients))[0]
            if gradients:
                output.sum().backward()
        assert counter.get_total_flops() == forward * (3 if gradients else 1)
