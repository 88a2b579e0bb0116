# SPDX-License-Identifier: Apache-2.0
"""The H-LSTM's reference: against sums written out, and against the LSTM it contains."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from h_lstm_problems import BASE, EVERYTHING, HCase, arguments, oracle
from ltlstm import reference
from operators import F64

SEVERAL = [BASE, replace(BASE, J=3, slope=0.0), replace(BASE, bias=False)]


def gate(w: list[Tensor], k: int, z: Tensor, case: HCase) -> list[float]:
    """Pre-activations of gate k, number by number: z = [x, h]."""
    K, D = case.K, z.shape[0] - case.H
    rows = range(k * K, (k + 1) * K)
    matrix = torch.cat([w[0], w[1]], dim=1)
    a = [sum(matrix[r, j] * z[j] for j in range(D + case.H)).item() for r in rows]
    if case.bias:
        a = [v + w[2][r].item() for v, r in zip(a, rows, strict=True)]
    later = w[3:] if case.bias else w[2:]
    for j in range(case.J):
        weight = later[j * (1 + case.bias)][k]
        a = [v if v > 0 else case.slope * v for v in a]
        a = [sum(weight[r, i].item() * a[i] for i in range(K)) for r in range(weight.shape[0])]
        if case.bias:
            a = [v + later[2 * j + 1][k, r].item() for r, v in enumerate(a)]
    return a


@pytest.mark.parametrize("case", SEVERAL, ids=str)
def test_one_layer_number_by_number(case: HCase) -> None:
    case = replace(case, T=2, N=2, L=1)
    made = arguments(case, F64)
    found = oracle(case, made)
    for n in range(case.N):
        h, c = made["h0"][0, n], made["c0"][0, n].tolist()
        for t in range(case.T):
            z = torch.cat([made["input"][t, n], h])
            i, f, g, o = (gate(made["weights"], k, z, case) for k in range(4))
            for u in range(case.H):
                c[u] = c[u] / (1 + math.exp(-f[u])) + math.tanh(g[u]) / (1 + math.exp(-i[u]))
            h = torch.tensor(
                [math.tanh(c[u]) / (1 + math.exp(-o[u])) for u in range(case.H)], dtype=F64
            )
            torch.testing.assert_close(found["output"][t, n], h)
            torch.testing.assert_close(found["cells"][0, t, n], torch.tensor(c, dtype=F64))


@pytest.mark.parametrize(
    "options", [{}, {"packed": True}, {"reset": True}, {"bidirectional": True, "dropout": True}]
)
@pytest.mark.parametrize("J", [1, 2])
def test_with_linear_gates_it_is_an_lstm(J: int, options: dict[str, bool]) -> None:
    # phi the identity: the layers of a gate are one matrix.
    case = replace(BASE, slope=1.0, J=J, **options)
    made = arguments(case, F64)
    per_cell, plain = len(made["weights"]) // (case.L * case.dirs), []
    for cell in range(case.L * case.dirs):
        w_ih, w_hh, b, *later = made["weights"][cell * per_cell :][:per_cell]
        for whole in (w_ih, w_hh, b[:, None]):
            for weight in later[::2]:
                whole = torch.bmm(weight, whole.reshape(4, -1, whole.shape[1])).flatten(0, 1)
            plain.append(whole)
        bias = plain.pop().squeeze(1)
        for j in range(J):
            above = later[2 * j + 1][..., None]
            for weight in later[2 * (j + 1) :: 2]:
                above = torch.bmm(weight, above)
            bias = bias + above.flatten()
        plain += [bias, torch.zeros_like(bias)]
    del made["gate_masks"]
    expected = reference.lstm(**(made | {"weights": plain}), bidirectional=case.bidirectional)
    names = ("output", "h_n", "c_n", "cells")
    found = oracle(case, made)
    for name, value in zip(names, (*expected[:3], expected[4]), strict=True):
        torch.testing.assert_close(found[name], value)


def test_a_dropped_unit_is_one_that_is_not_there() -> None:
    case = replace(BASE, L=1, J=2)
    made = arguments(case, F64)
    keep = torch.ones(case.J, case.T, case.N, 4 * case.K, dtype=F64)
    keep[0, :, :, 1] = 0  # unit 1 of the first hidden layer of gate i
    keep[1, :, :, 2 * case.K + 3] = 0  # unit 3 of the second of gate g
    dropped = oracle(case, made | {"gate_masks": keep})
    without = [w.clone() for w in made["weights"]]
    without[3][0, :, 1] = 0
    without[5][2, :, 3] = 0
    for name, value in oracle(case, made | {"weights": without}).items():
        torch.testing.assert_close(dropped[name], value)
    assert not torch.equal(dropped["output"], oracle(case, made)["output"])


def test_lengths_are_batch_sizes() -> None:
    case = replace(EVERYTHING, packed=True, dropout=False, gate_dropout=False, reset=False)
    made = arguments(case, F64)
    sizes = made["batch_sizes"]
    lengths = torch.tensor([int((sizes > n).sum()) for n in range(case.N)])
    padded = torch.full((case.T, case.N, case.D), torch.nan, dtype=F64)
    alive = torch.arange(case.T)[:, None] < lengths
    padded[alive] = made["input"]
    ragged = oracle(case, made)
    found = reference.h_lstm(
        **(made | {"input": padded, "batch_sizes": None}), lengths=lengths, **case.flags
    )
    torch.testing.assert_close(found[0][alive], ragged["output"])
    assert not found[0][~alive].any()
    torch.testing.assert_close(found[1], ragged["h_n"])
    torch.testing.assert_close(found[2], ragged["c_n"])


def test_derivatives_of_any_order() -> None:
    case = HCase(T=3, N=2, D=2, H=3, L=2, K=3, bidirectional=True, reset=True, gate_dropout=True)
    made = arguments(case, F64)
    x = made["input"].requires_grad_()
    weight = made["weights"][3].requires_grad_()

    def output(x: Tensor, weight: Tensor) -> Tensor:
        weights = [*made["weights"][:3], weight, *made["weights"][4:]]
        return oracle(case, made | {"input": x, "weights": weights})["output"]

    assert torch.autograd.gradcheck(output, (x, weight))
    assert torch.autograd.gradgradcheck(output, (x, weight))

    def second(x: Tensor) -> Tensor:
        (first,) = torch.autograd.grad(output(x, weight).sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x, create_graph=True)[0]

    assert torch.autograd.gradcheck(second, (x,))
