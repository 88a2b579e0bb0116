# SPDX-License-Identifier: Apache-2.0
"""The reference against values worked out by hand, one number at a time, in plain Python floats."""

from math import exp, tanh

import torch
from torch import Tensor

from ltlstm import reference
from tolerance import assert_close


def s(x: float) -> float:
    return 1 / (1 + exp(-x))


def tensor(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def expect(actual: Tensor, *values: float) -> None:
    assert_close(actual.flatten(), tensor(*values))


def column(*values: float) -> Tensor:
    return tensor(*values)[:, None]


def test_cell() -> None:
    h, c = reference.cell(tensor(0.5, -1.0, 2.0, 0.25), tensor(0.75))
    c_new = s(-1.0) * 0.75 + s(0.5) * tanh(2.0)
    expect(c, c_new)
    expect(h, s(0.25) * tanh(c_new))


def test_cell_with_peephole() -> None:
    h, c = reference.cell(tensor(0.5, -1.0, 2.0, 0.25), tensor(0.75), column(0.5, -0.25, 2.0))
    c_new = s(-1.0 - 0.25 * 0.75) * 0.75 + s(0.5 + 0.5 * 0.75) * tanh(2.0)
    expect(c, c_new)
    expect(h, s(0.25 + 2.0 * c_new) * tanh(c_new))  # the output gate looks at the new cell


# One unit, two steps, then a reset before the third; every weight another number.
W_IH, W_HH = column(0.5, -0.25, 1.0, 0.75), column(0.25, 0.5, -0.5, 1.5)
B_IH, B_HH = tensor(0.125, 1.0, -0.5, 0.25), tensor(0.25, -0.5, 0.75, 0.5)
X = tensor(0.5, -1.0, 2.0).reshape(3, 1, 1)


def step(x: float, h: float, c: float) -> tuple[float, float]:
    i = s(0.5 * x + 0.25 * h + 0.375)
    f = s(-0.25 * x + 0.5 * h + 0.5)
    g = tanh(1.0 * x - 0.5 * h + 0.25)
    o = s(0.75 * x + 1.5 * h + 0.75)
    c = f * c + i * g
    return o * tanh(c), c


def test_lstm_forward_with_reset() -> None:
    reset = torch.tensor([[False], [False], [True]])
    y, h_n, c_n, hidden, cells = reference.lstm(
        X, tensor([[0.25]]), tensor([[-0.5]]), [W_IH, W_HH, B_IH, B_HH], reset=reset
    )
    h1, c1 = step(0.5, 0.25, -0.5)
    h2, c2 = step(-1.0, h1, c1)
    h3, c3 = step(2.0, 0.0, 0.0)
    expect(y, h1, h2, h3)
    expect(hidden, h1, h2, h3)
    expect(cells, c1, c2, c3)
    expect(h_n, h3)
    expect(c_n, c3)


def test_lstm_reverse_with_reset() -> None:
    # Scanning back from the third step, the boundary before it is crossed on the way to the second;
    # a reset at the first step lies outside what the scan crosses.
    reset = torch.tensor([[True], [False], [True]])
    h0, c0 = column(0.0, 0.25)[:, None], column(0.0, -0.5)[:, None]
    y, h_n, c_n, _, cells = reference.lstm(
        X, h0, c0, [W_IH, W_HH, B_IH, B_HH] * 2, reset=reset, bidirectional=True
    )
    h3, c3 = step(2.0, 0.25, -0.5)
    h2, c2 = step(-1.0, 0.0, 0.0)
    h1, c1 = step(0.5, h2, c2)
    expect(y[..., 1], h1, h2, h3)
    expect(cells[1], c1, c2, c3)
    expect(h_n[1], h1)
    expect(c_n[1], c1)


def test_projection() -> None:
    w_hr = tensor([0.5, -2.0])  # (P = 1, H = 2)
    w_ih = tensor(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)[:, None]
    w_hh = tensor(-0.1, 0.2, -0.3, 0.4, -0.5, 0.6, -0.7, 0.8)[:, None]
    weights = [w_ih, w_hh, w_hr]
    state = torch.zeros(1, 1, 2, dtype=torch.float64)
    y, h_n, c_n, _, _ = reference.lstm(
        tensor(1.0, 1.0).reshape(2, 1, 1),
        state[..., :1],
        state,
        weights,
        bias=False,
        projected=True,
    )
    c_a, c_b = s(0.1) * tanh(0.5), s(0.2) * tanh(0.6)
    h1 = 0.5 * s(0.7) * tanh(c_a) - 2.0 * s(0.8) * tanh(c_b)
    c_a = s(0.3 - 0.3 * h1) * c_a + s(0.1 - 0.1 * h1) * tanh(0.5 - 0.5 * h1)
    c_b = s(0.4 + 0.4 * h1) * c_b + s(0.2 + 0.2 * h1) * tanh(0.6 + 0.6 * h1)
    h2 = 0.5 * s(0.7 - 0.7 * h1) * tanh(c_a) - 2.0 * s(0.8 + 0.8 * h1) * tanh(c_b)
    expect(y, h1, h2)
    expect(h_n, h2)
    expect(c_n, c_a, c_b)


HIDDEN = tensor(0.5, -0.25).reshape(2, 1, 1, 1)  # h^1, h^2 at the only (t, n)
U1, U2, V2 = column(0.5, -1.0, 0.75, 0.25), column(1.0, 0.5, -0.5, 2.0), column(0.3, 0.6, 0.9, -0.3)
D1, D2 = tensor(0.1, 0.2, 0.3, 0.4), tensor(-0.1, 0.3, 0.2, -0.4)


def test_layer_lstm() -> None:
    zero = torch.zeros(4, dtype=torch.float64)
    g, m = reference.layer_trajectory(HIDDEN, [U1, D1, D2, U2, V2, D2, zero])
    m1 = s(0.5 * 0.5 + 0.0) * tanh(0.75 * 0.5 + 0.5)  # both biases, and no forget term
    g1 = s(0.25 * 0.5 + 0.0) * tanh(m1)
    j = s(-0.25 + 0.3 * g1 - 0.1)
    e = s(0.5 * -0.25 + 0.6 * g1 + 0.3)
    m2 = e * m1 + j * tanh(0.125 + 0.9 * g1 + 0.2)
    g2 = s(-0.5 - 0.3 * g1 - 0.4) * tanh(m2)
    expect(g, g1, g2)
    assert m is not None
    expect(m, m1, m2)


def test_layer_lstm_with_peephole_and_projection() -> None:
    q1, q2, r = column(0.5, -0.5, 0.25), column(1.5, -0.75, -1.0), tensor([3.0])
    g, m = reference.layer_trajectory(
        HIDDEN, [U1, r, q1, U2, V2, -r, q2], bias=False, projected=True, peephole=True
    )
    m1 = s(0.25) * tanh(0.375)  # m^0 = 0: only the output gate's peephole is felt
    g1 = 3.0 * s(0.125 + 0.25 * m1) * tanh(m1)
    m2 = s(-0.125 + 0.6 * g1 - 0.75 * m1) * m1
    m2 += s(-0.25 + 0.3 * g1 + 1.5 * m1) * tanh(0.125 + 0.9 * g1)
    g2 = -3.0 * s(-0.5 - 0.3 * g1 - 1.0 * m2) * tanh(m2)
    expect(g, g1, g2)
    assert m is not None
    expect(m, m1, m2)


def test_gated_unit() -> None:
    weights = [
        column(0.5, 2.0),
        tensor(0.1),
        column(1.5, -1.0),
        column(-0.5, 4.0),
        tensor(0.2),
        tensor(0.3),
    ]
    g, m = reference.layer_trajectory(HIDDEN, weights, depth_unit="gated")
    g1 = s(0.5 * 0.5 + 0.1) * 2.0 * 0.5
    g2 = s(1.5 * -0.25 + 0.2) * 0.25 + s(-0.5 * g1 + 0.3) * 4.0 * g1
    expect(g, g1, g2)
    assert m is None


def test_max_unit() -> None:
    weights = [
        tensor([2.0]),
        tensor(-3.0),
        tensor(0.5),
        tensor([1.0]),
        tensor([2.0]),
        tensor(0.1),
        tensor(-0.7),
    ]
    g, m = reference.layer_trajectory(HIDDEN, weights, depth_unit="max")
    expect(g, max(1.0 - 3.0, 0.5), max(-0.25 + 0.1, 1.0 - 0.7))
    assert m is None
    no_bias = [tensor([-2.0]), tensor([1.0]), tensor([2.0])]
    g, _ = reference.layer_trajectory(HIDDEN, no_bias, depth_unit="max", bias=False)
    expect(g, 0.0, 0.0)  # max(-1, 0), then max(-0.25, 0)


def test_look_ahead() -> None:
    # Four frames; a reset before the third. The max unit with large biases passes g^1 through.
    hidden = torch.stack([tensor(1.0, 2.0, 4.0, 8.0), torch.zeros(4)]).reshape(2, 4, 1, 1)
    weights = [tensor([1.0]), tensor([1.0]), tensor([1.0])]
    reset = torch.tensor([0, 0, 1, 0], dtype=torch.bool)[:, None]
    context = column(10.0, 1.0, 0.5)

    def look(**kwargs: Tensor) -> Tensor:
        g, _ = reference.layer_trajectory(
            hidden, weights, bias=False, depth_unit="max", contexts=[context], **kwargs
        )
        return g[1]

    expect(look(), 10 + 2 + 2.0, 20 + 4 + 4.0, 40 + 8.0, 80.0)
    expect(look(reset=reset), 10 + 2.0, 20.0, 40 + 8.0, 80.0)
    expect(look(lengths=torch.tensor([3])), 10 + 2 + 2.0, 20 + 4.0, 40.0, 0.0)
    expect(look(batch_sizes=torch.tensor([1, 1, 1, 1])), 14.0, 28.0, 48.0, 80.0)


def test_each_layer_has_a_context_of_its_own() -> None:
    hidden = torch.zeros(3, 2, 1, 1, dtype=torch.float64)
    hidden[0] = column(1.0, 4.0)[:, None]
    q2, q3 = column(2.0, 1.0), column(1.0, 10.0)
    g, _ = reference.layer_trajectory(
        hidden, [tensor([1.0])] * 5, bias=False, depth_unit="max", contexts=[q2, q3]
    )
    expect(g, 1.0, 4.0, 2 + 4.0, 8.0, 6 + 80.0, 8.0)


def test_residual() -> None:
    # Three layers whose recurrent weights are zero: h^l depends on x^l alone.
    zero = torch.zeros(4, 1, dtype=torch.float64)
    masks = [tensor(2.0).reshape(1, 1, 1), tensor(0.5).reshape(1, 1, 1)]
    state = torch.zeros(3, 1, 1, dtype=torch.float64)

    def h(x: float) -> float:
        return s(0.75 * x) * tanh(s(0.5 * x) * tanh(1.0 * x))

    y, _, _, hidden, _ = reference.residual_lstm(
        tensor(0.5).reshape(1, 1, 1), state, state, [W_IH, zero] * 3, masks=masks, bias=False
    )
    h1 = h(0.5)
    x2 = 2.0 * h1
    x3 = x2 + 0.5 * h(x2)
    expect(hidden, h1, h(x2), h(x3))
    expect(y, x3 + h(x3))
    y, _, _, _, _ = reference.residual_lstm(
        tensor(0.5).reshape(1, 1, 1), state[:1], state[:1], [W_IH, zero], bias=False
    )
    expect(y, h1)
