# SPDX-License-Identifier: Apache-2.0
"""lengths and reset wherever they come from: device, integer type, order, strides, compiled too."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import ltlstm

D, H = 3, 4
LENGTHS = [3, 7, 1, 7, 2]
T, N = 7, len(LENGTHS)
MAKERS: dict[str, Any] = {
    "lstm": lambda **k: ltlstm.LSTM(D, H, 2, bidirectional=True, **k),
    "residual": lambda **k: ltlstm.ResidualLSTM(D, H, 3, **k),
    "lt": lambda **k: ltlstm.LTLSTM(D, H, 2, lookahead=1, **k),
}
EVERY = pytest.mark.parametrize("name", MAKERS)
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@EVERY
def test_any_integer_on_any_device(name: str, dtype: torch.dtype, device: str) -> None:
    module, x = MAKERS[name](device=device), torch.randn(T, N, D, device=device)
    lengths = torch.tensor(LENGTHS)
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    output, states = module(packed)
    expected = [pad_packed_sequence(output, total_length=T)[0], *states]
    for place in {device, "cpu"}:
        given = lengths.to(place, dtype)
        output, states = module(x, lengths=given)
        for a, b in zip([output, *states], expected, strict=True):
            torch.testing.assert_close(a, b)
        assert given.tolist() == LENGTHS


@EVERY
def test_small_integers_under_compile(name: str) -> None:
    """There the lengths enter sums that a small type could not hold."""
    torch._dynamo.reset()
    module, steps = MAKERS[name]().eval(), 300
    x, lengths = torch.randn(steps, 2, D), torch.tensor([200, 7])
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    found = compiled(x, lengths=lengths.to(torch.uint8))[0]
    torch.testing.assert_close(found, module(x, lengths=lengths)[0])


@EVERY
def test_strides_and_sources(name: str) -> None:
    module = MAKERS[name](batch_first=True)
    x, lengths = torch.randn(N, T, D), torch.tensor(LENGTHS)
    reset = torch.rand(N, T) < 0.3
    want = module(x, lengths=lengths, reset=reset)[0]
    strided = torch.stack([lengths, lengths], 1)[:, 0]
    again = module(
        torch.stack([x, x], -1)[..., 0],
        lengths=strided,
        reset=torch.stack([reset, reset], -1)[..., 0],
    )[0]
    assert torch.equal(again, want)
    ends = torch.zeros(N, T, dtype=torch.bool)
    ends[:, 0] = True  # a reset before the first step: the state is zero there anyway
    assert torch.equal(module(x, reset=ends)[0], module(x)[0])


@EVERY
def test_what_lies_past_the_end_does_not_count(name: str) -> None:
    module, lengths = MAKERS[name](), torch.tensor(LENGTHS)
    x = torch.randn(T, N, D)
    past = torch.arange(T)[:, None] >= lengths
    results = []
    for filling in (0.0, torch.nan, torch.inf):
        module.zero_grad()
        data = x.masked_fill(past[..., None], filling).requires_grad_()
        output, states = module(data, lengths=lengths)
        torch.stack([t.square().sum() for t in (output, *states)]).sum().backward()
        results.append([output, *states, data.grad, *(p.grad for p in module.parameters())])
        assert data.grad is not None and not data.grad[past].any()
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_lengths_equal_nn_lstm_row_by_row() -> None:
    ours, theirs = ltlstm.LSTM(D, H, 2, bidirectional=True), nn.LSTM(D, H, 2, bidirectional=True)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(T, N, D)
    output, (h, c) = ours(x, lengths=torch.tensor(LENGTHS))

    def row(t: Tensor, n: int) -> Tensor:
        return t[:, n : n + 1]

    for n, length in enumerate(LENGTHS):
        want, (h_n, c_n) = theirs(row(x, n)[:length])
        torch.testing.assert_close(row(output, n)[:length], want)
        torch.testing.assert_close(torch.stack([row(h, n), row(c, n)]), torch.stack([h_n, c_n]))
