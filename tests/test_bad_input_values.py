# SPDX-License-Identifier: Apache-2.0
"""NaN and infinity stay in their batch row, no rows are no error, bad checkpoints are named."""

import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import ltlstm

T, N, D, H = 5, 4, 3, 6
STACKS: dict[str, Any] = {
    "LSTM": lambda **k: ltlstm.LSTM(D, H, 2, **k),
    "bidirectional": lambda **k: ltlstm.LSTM(D, H, 2, bidirectional=True, proj_size=2, **k),
    "ResidualLSTM": lambda **k: ltlstm.ResidualLSTM(D, H, 3, **k),
    "LTLSTM": lambda **k: ltlstm.LTLSTM(D, H, 2, peephole=True, **k),
    "lookahead": lambda **k: ltlstm.LTLSTM(D, H, 2, lookahead=1, **k),
    "gated": lambda **k: ltlstm.LTLSTM(D, H, 2, depth_unit="gated", **k),
    "max": lambda **k: ltlstm.LTLSTM(D, H, 2, depth_unit="max", **k),
}
EVERY = pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("form", ["padded", "lengths", "packed"])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@EVERY
def test_values_that_are_no_numbers_stay_in_their_row(
    make: Any, backend: str, form: str, value: float
) -> None:
    module = make(backend=backend)
    x = torch.randn(T, N, D)
    bad = x.clone()
    bad[2, 1, 0] = value
    lengths = torch.tensor([5, 4, 2, 3])
    found = []
    for given in (x, bad):
        given.requires_grad_()
        if form == "packed":
            packed, _ = module(pack_padded_sequence(given, lengths, enforce_sorted=False))
            output, _ = pad_packed_sequence(packed)
        else:
            output, _ = module(given, lengths=lengths if form == "lengths" else None)
        (gradient,) = torch.autograd.grad(output.sum(), given)
        found.append((output.detach(), gradient))
    others = [0, 2, 3]
    for clean, dirty in zip(*found, strict=True):
        assert clean.isfinite().all()
        # Bit for bit: a row's result depends on no other row.
        assert torch.equal(clean[:, others], dirty[:, others])
    if value != value:
        assert found[1][0][2:4, 1].isnan().any()


@pytest.mark.parametrize("form", ["padded", "batch_first", "lengths", "hx"])
@pytest.mark.parametrize("backend", [None, "cpu", "reference"])
@EVERY
def test_an_empty_batch(make: Any, backend: str | None, form: str) -> None:
    module = make(backend=backend, batch_first=form == "batch_first")
    x = torch.randn(0, T, D) if form == "batch_first" else torch.randn(T, 0, D)
    dirs, P = 1 + module.bidirectional, module.proj_size or H
    states = module.num_layers * dirs
    hx = (torch.zeros(states, 0, P), torch.zeros(states, 0, H)) if form == "hx" else None
    lengths = torch.zeros(0, dtype=torch.long) if form == "lengths" else None
    output, (h, c) = module(x, hx, lengths=lengths)
    assert output.shape == (*x.shape[:2], dirs * P)
    assert h.shape == (states, 0, P) and c.shape == (states, 0, H)
    output.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in module.parameters())


def refused(module: nn.Module, state: dict[str, Any], *names: str) -> None:
    with pytest.raises(RuntimeError) as error:
        module.load_state_dict(state)
    for name in names:
        assert name in str(error.value)


def test_foreign_checkpoints_name_what_does_not_fit() -> None:
    module = ltlstm.LTLSTM(D, H, 2, peephole=True)
    mine = module.state_dict()
    refused(module, nn.LSTM(D, H, 2).state_dict(), "Missing", "traj_weight_ih_l1", "peephole_l0")
    refused(module, ltlstm.LTLSTM(D, H, 3, peephole=True).state_dict(), "Unexpected", "_hh_l2")
    refused(module, {f"encoder.{k}": v for k, v in mine.items()}, "encoder.weight_ih_l0", "Missing")
    refused(module, {}, *mine)
    wrong = {**mine, "traj_peephole_l1": torch.zeros(4, H), "bias_ih_l0": torch.zeros(3)}
    refused(module, wrong, "size mismatch for traj_peephole_l1", "bias_ih_l0", "[4, 6]", "[3, 6]")
    refused(module, {**mine, "weight_hh_l1": None}, "weight_hh_l1")
    refused(module, {**mine, "weight_hh_l1": "words"}, "weight_hh_l1")
    assert module(torch.randn(T, N, D))[0].isfinite().all()  # what did not fit was left alone
    with pytest.raises(TypeError, match="state_dict"):
        module.load_state_dict([1, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize("keep", [0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_an_error(tmp_path: Path, keep: float) -> None:
    file = io.BytesIO()
    torch.save(ltlstm.LTLSTM(D, 64, 2).state_dict(), file)
    data = file.getvalue()
    (tmp_path / "cut.pt").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises((RuntimeError, pickle.UnpicklingError), match="zip archive|corrupt|Weights"):
        torch.load(tmp_path / "cut.pt", weights_only=True)
