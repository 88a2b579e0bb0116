# SPDX-License-Identifier: Apache-2.0
"""The reference against torch.nn.LSTM in float64, forward and gradients."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from ltlstm import reference
from tolerance import assert_close

T, N, D, H = 7, 3, 4, 5
LENGTHS = torch.tensor([7, 5, 2])


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def build(layers: int, bidirectional: bool, p: int, bias: bool) -> tuple[nn.LSTM, Tensor, Tensor]:
    module = nn.LSTM(
        D, H, layers, bias=bias, bidirectional=bidirectional, proj_size=p, dtype=torch.float64
    )
    states = layers * (2 if bidirectional else 1)
    return module, draw(states, N, p or H), draw(states, N, H)


def run(module: nn.LSTM, x: Tensor, h0: Tensor, c0: Tensor, **kwargs: object) -> tuple[Tensor, ...]:
    return reference.lstm(
        x,
        h0,
        c0,
        list(module.parameters()),
        bias=module.bias,
        projected=module.proj_size > 0,
        bidirectional=module.bidirectional,
        **kwargs,
    )


OPTIONS = list(itertools.product([1, 3], [False, True], [0, 2], [True, False]))


@pytest.mark.parametrize("layers, bidirectional, p, bias", OPTIONS)
def test_padded(layers: int, bidirectional: bool, p: int, bias: bool) -> None:
    module, h0, c0 = build(layers, bidirectional, p, bias)
    x = draw(T, N, D)
    leaves = [t.requires_grad_() for t in (x, h0, c0)] + list(module.parameters())
    expected_y, (expected_h, expected_c) = module(x, (h0, c0))
    y, h_n, c_n, hidden, cells = run(module, x, h0, c0)
    assert hidden.shape == (layers, *y.shape) and cells.shape == (len(c0), T, N, H)
    results = [(y, expected_y), (h_n, expected_h), (c_n, expected_c), (hidden[-1], y)]
    results += [(cells[-1][0 if bidirectional else -1], c_n[-1])]
    for actual, expected in results:
        assert_close(actual, expected)
    outer = [torch.randn_like(t) for t in (y, h_n, c_n)]
    actual_grads = torch.autograd.grad((y, h_n, c_n), leaves, outer)
    expected_grads = torch.autograd.grad((expected_y, expected_h, expected_c), leaves, outer)
    for actual, expected in zip(actual_grads, expected_grads, strict=True):
        assert_close(actual, expected)


@pytest.mark.parametrize("layers, bidirectional, p, bias", OPTIONS)
def test_packed_and_lengths(layers: int, bidirectional: bool, p: int, bias: bool) -> None:
    module, h0, c0 = build(layers, bidirectional, p, bias)
    x = draw(T, N, D)
    packed = pack_padded_sequence(x, LENGTHS)
    expected, states = module(packed, (h0, c0))
    y, h_n, c_n, hidden, cells = run(module, packed.data, h0, c0, batch_sizes=packed.batch_sizes)
    assert_close(y, expected.data)
    assert_close(h_n, states[0])
    assert_close(c_n, states[1])
    # Lengths: the same numbers, laid out padded, with zeros past the end.
    padded = run(module, x, h0, c0, lengths=LENGTHS)

    def unpack(data: Tensor) -> Tensor:
        sequence = PackedSequence(data, packed.batch_sizes)
        return nn.utils.rnn.pad_packed_sequence(sequence)[0]

    assert_close(padded[0], unpack(y))
    assert_close(padded[1], h_n)
    assert_close(padded[2], c_n)
    assert_close(padded[3], torch.stack([unpack(h) for h in hidden]))
    assert_close(padded[4], torch.stack([unpack(c) for c in cells]))


def test_dropout_masks_are_the_ones_nn_lstm_draws() -> None:
    p, layers = 0.4, 3
    module, h0, c0 = build(layers, False, 0, True)
    module.dropout = p
    x = draw(T, N, D)
    torch.manual_seed(1)
    expected, _ = module(x, (h0, c0))
    torch.manual_seed(1)
    masks = [
        torch.empty(T, N, H, dtype=torch.float64).bernoulli_(1 - p).div_(1 - p)
        for _ in range(layers - 1)
    ]
    y = run(module, x, h0, c0, masks=masks)[0]
    assert_close(y, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    module, h0, c0 = build(2, True, 2, True)
    module = module.to(dtype)
    results = run(module, draw(T, N, D).to(dtype), h0.to(dtype), c0.to(dtype), lengths=LENGTHS)
    assert {t.dtype for t in results} == {dtype}


def test_cell_agrees_with_lstm_cell() -> None:
    module = nn.LSTMCell(D, H, dtype=torch.float64)
    x, h, c = draw(N, D), draw(N, H), draw(N, H)
    preact = nn.functional.linear(x, module.weight_ih, module.bias_ih)
    preact = preact + nn.functional.linear(h, module.weight_hh, module.bias_hh)
    for actual, expected in zip(reference.cell(preact, c), module(x, (h, c)), strict=True):
        assert_close(actual, expected)


def test_second_derivatives_and_transforms() -> None:
    module, h0, c0 = build(2, True, 2, True)
    x = draw(T, N, D)
    reset = torch.rand(T, N) < 0.3

    def output(x: Tensor) -> Tensor:
        return run(module, x, h0, c0, lengths=LENGTHS, reset=reset)[0]

    tangent = draw(T, N, D)
    forward = torch.func.jvp(output, (x,), (tangent,))[1]
    _, pull = torch.func.vjp(output, x)
    outer = torch.randn_like(forward)
    # <u, J v> == <J^T u, v>
    assert_close((outer * forward).sum(), (pull(outer)[0] * tangent).sum())
    batch = draw(2, T, N, D)
    mapped = torch.func.vmap(output)(batch)
    for one, each in zip(batch, mapped, strict=True):
        assert_close(each, output(one))
    small = draw(2, 1, D).requires_grad_()
    assert torch.autograd.gradgradcheck(
        lambda x: run(module, x, h0[:, :1], c0[:, :1])[0], (small,), fast_mode=True
    )
