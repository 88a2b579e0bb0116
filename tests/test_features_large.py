# SPDX-License-Identifier: Apache-2.0
"""More steps, rows and elements than 16 and 31 bits count, through the modules."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import ltlstm
from module_results import F32, F64, check_same, to
from tolerance import assert_all_close

MANY = 65_600  # and a multiple of 64


class InPieces(nn.Module):
    """A long sequence with a reset before each 64th step, as a batch of sequences without."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        pieces = x.view(MANY // 64, 64, -1).transpose(0, 1)
        return self.module(pieces)[0].transpose(0, 1).reshape(MANY, 1, -1)


@pytest.mark.parametrize("make", [ltlstm.LSTM, ltlstm.LTLSTM, ltlstm.ResidualLSTM])
def test_steps(make: Any) -> None:
    module = make(2, 2, 2)
    reset = (torch.arange(MANY) % 64 == 0)[:, None]
    x, outer = torch.randn(MANY, 1, 2), torch.randn(MANY, 1, 2)

    def results(dtype: torch.dtype, whole: bool) -> dict[str, Tensor]:
        twin = make(2, 2, 2, backend="cpu" if whole else "reference").to(dtype)
        twin.load_state_dict(module.state_dict())
        data = to(x, dtype).requires_grad_()
        output = twin(data, reset=reset)[0] if whole else InPieces(twin)(data)
        leaves = {"x": data, **dict(twin.named_parameters())}
        gradients = torch.autograd.grad(output, list(leaves.values()), to(outer, dtype))
        return {"output": output, **dict(zip(leaves, gradients, strict=True))}

    assert_all_close(results(F32, True), results(F64, False), results(F32, False))


@pytest.mark.parametrize("form", ["padded", "packed", "lengths"])
def test_rows(form: str) -> None:
    ours, theirs = ltlstm.LSTM(2, 3, bidirectional=True), nn.LSTM(2, 3, bidirectional=True)
    ours.load_state_dict(theirs.state_dict())
    x, lengths = torch.randn(2, MANY, 2), torch.randint(1, 3, (MANY,))
    if form == "padded":
        check_same(ours, theirs, x)
        return
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    if form == "packed":
        check_same(ours, theirs, packed)
        return
    output, (h_n, c_n) = theirs(packed)
    found, states = ours(x, lengths=lengths)
    torch.testing.assert_close(found, pad_packed_sequence(output, total_length=2)[0])
    torch.testing.assert_close(torch.stack(states), torch.stack([h_n, c_n]))


@pytest.mark.parametrize("backend", [None, "cpu", "aten"])
@pytest.mark.parametrize("make", [ltlstm.LSTM, ltlstm.LTLSTM])
def test_elements_of_a_fake(make: Any, backend: str | None) -> None:
    """Sizes alone, with no memory behind them: nothing on the way counts in 32 bits."""
    T, N, H = 70_000, 70_000, 3
    with FakeTensorMode():
        module = make(2, H, bidirectional=True, backend=backend)
        x = torch.empty(T, N, 2, requires_grad=True)
        output, (h_n, c_n) = module(x)
        assert output.shape == (T, N, 2 * H) and output.numel() > 2**31
        assert h_n.shape == c_n.shape == (2, N, H)
        output.sum().backward()
        assert x.grad is not None and x.grad.shape == x.shape


@pytest.mark.parametrize("make", [ltlstm.LSTM, ltlstm.LTLSTM])
def test_what_no_memory_holds_is_an_error(make: Any) -> None:
    x = torch.zeros(1, 1, 1).expand(2**38, 2**12, 1)  # more bytes than an address can name
    with pytest.raises(RuntimeError, match="allocate"):
        make(1, 1)(x)
