# SPDX-License-Identifier: Apache-2.0
"""A run of the tests on another default device, as far as it goes without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from default_device import OnDevice

ROOT = Path(__file__).resolve().parents[1]


def test_what_is_made_lies_where_torch_wants_it() -> None:
    with OnDevice("meta"):
        g = torch.Generator().manual_seed(0)
        on_device = [
            torch.randn(2, generator=g), torch.zeros(2), torch.arange(3), torch.tensor([0.5]),
            torch.tensor([True]), torch.nn.LSTM(2, 3).weight_hh_l0,
        ]  # fmt: skip
        assert {t.device.type for t in on_device} == {"meta"}
        assert torch.tensor([3, 5, 1]).device.type == "cpu"  # lengths
        assert torch.zeros(2, device="cpu").device.type == "cpu"
    assert torch.zeros(1).device.type == "cpu"


def test_a_device_that_is_not_there_is_refused() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/test_residual_lstm.py"], cwd=ROOT,
        capture_output=True, text=True,
        env={**os.environ, "LTLSTM_TEST_DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert run.returncode == 4, run.stdout
    assert "LTLSTM_TEST_DEVICE must name a device that is there: cuda, got 'cuda'" in run.stderr
