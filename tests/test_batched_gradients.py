# SPDX-License-Identifier: Apache-2.0
"""A batch of output gradients at once: vmap that meets only the backward. Right as one by one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.functional import hessian, jacobian
from torch.func import vmap
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import ltlstm
from module_results import F64, flat, random_state

T, N, D, H = 3, 2, 3, 4
MAKERS: dict[str, Callable[[], nn.RNNBase]] = {
    "lstm": lambda: ltlstm.LSTM(D, H, 2, dropout=0.3, dtype=F64),
    "bidirectional": lambda: ltlstm.LSTM(D, H, 2, bidirectional=True, proj_size=2, dtype=F64),
    "batch_first": lambda: ltlstm.LSTM(D, H, batch_first=True, bias=False, dtype=F64),
    "residual": lambda: ltlstm.ResidualLSTM(D, H, 3, dropout=0.3, dtype=F64),
    "lt": lambda: ltlstm.LTLSTM(D, H, 2, dropout=0.3, peephole=True, proj_size=2, dtype=F64),
    "lookahead": lambda: ltlstm.LTLSTM(D, H, 3, lookahead=2, bidirectional=True, dtype=F64),
    "gated": lambda: ltlstm.LTLSTM(D, H, 2, depth_unit="gated", dtype=F64),
    "max": lambda: ltlstm.LTLSTM(D, H, 2, depth_unit="max", dtype=F64),
    "hlstm": lambda: ltlstm.HLSTM(
        D, H, 2, gate_hidden_size=5, gate_dropout=0.2, bidirectional=True, dtype=F64
    ),
}
CELLS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: ltlstm.LSTMCell(D, H, dtype=F64, backend="cpu"),
    "lt": lambda: ltlstm.LTLSTMCell(D, H, 2, peephole=True, dtype=F64),
    "hlstm": lambda: ltlstm.HLSTMCell(D, H, gate_hidden_size=5, dtype=F64),
}
EVERY = pytest.mark.parametrize("name", MAKERS)
EVERY_CELL = pytest.mark.parametrize("name", CELLS)


def called(module: nn.RNNBase, form: str) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """What gradients are asked of, and every output."""
    x = torch.randn(T, N, D, dtype=F64, requires_grad=True)
    h, c = (s.double().requires_grad_() for s in random_state(module, N))
    lengths, kwargs = torch.tensor([2, 3]), {}
    given: Any = x.transpose(0, 1) if module.batch_first else x
    if form == "packed":
        given = pack_padded_sequence(given, lengths, module.batch_first, enforce_sorted=False)
    elif form == "lengths":
        kwargs["lengths"] = lengths
    elif form == "reset":
        kwargs["reset"] = torch.rand(given.shape[:2]) < 0.4
    results = module(given, (h, c), return_states=form == "states", **kwargs)
    return [x, h, c, *module.parameters()], tuple(flat(results).values())


def batches_of(outputs: tuple[Tensor, ...]) -> list[Tensor]:
    return [torch.randn(3, *o.shape, dtype=o.dtype) for o in outputs]


def one_by_one(gradient: Callable[..., tuple[Tensor, ...]], batches: list[Tensor]) -> list[Tensor]:
    rows = [gradient(*(b[i] for b in batches)) for i in range(len(batches[0]))]
    return [torch.stack(entries) for entries in zip(*rows, strict=True)]


def assert_equal(found: Any, want: Any) -> None:
    for a, b in zip(found, want, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("form", ["padded", "lengths", "reset", "packed", "states"])
@EVERY
def test_gradients_of_a_batch(name: str, form: str) -> None:
    wanted, outputs = called(MAKERS[name](), form)
    batches = batches_of(outputs)

    def gradient(*grads: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(outputs, wanted, grads, retain_graph=True)

    want = one_by_one(gradient, batches)
    together = torch.autograd.grad(
        outputs, wanted, batches, retain_graph=True, is_grads_batched=True
    )
    assert_equal(together, want)
    assert_equal(vmap(gradient)(*batches), want)


@EVERY
def test_batches_within_batches(name: str) -> None:
    wanted, outputs = called(MAKERS[name]().eval(), "padded")

    def gradient(weight: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(outputs[0], wanted, weight * outputs[0], retain_graph=True)

    weights = torch.randn(2, 3, 1, 1, 1, dtype=F64)
    found = vmap(vmap(gradient), in_dims=1, out_dims=1)(weights)
    want = [torch.stack([g[i] for g in map(gradient, weights.flatten(0, 1))]) for i in range(3)]
    assert_equal([f.flatten(0, 1) for f in found[:3]], want)


@pytest.mark.parametrize("name", ["lstm", "bidirectional", "batch_first"])
def test_vectorized_jacobians_as_nn_lstm(name: str) -> None:
    ours = MAKERS[name]().eval()
    assert isinstance(ours, ltlstm.LSTM)
    x = torch.randn(T, N, D, dtype=F64)
    found = [
        jacobian(lambda x, m=m: m(x)[0].sum(0), x, vectorize=vectorize)
        for m, vectorize in ((ours, True), (ours, False), (ours.to_torch(), True))
    ]
    assert found[0].any()
    assert_equal(found[:1] * 2, found[1:])


@EVERY
def test_second_derivatives_of_a_batch(name: str) -> None:
    wanted, outputs = called(MAKERS[name]().eval(), "padded")
    first = torch.autograd.grad(outputs[0].pow(3).sum(), wanted, create_graph=True)
    used = [w for w, f in zip(wanted, first, strict=True) if f.requires_grad]
    batches = batches_of(first)

    def gradient(*grads: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(first, used, grads, retain_graph=True)

    want = one_by_one(gradient, batches)
    together = torch.autograd.grad(first, used, batches, retain_graph=True, is_grads_batched=True)
    assert_equal(together, want)
    assert_equal(vmap(gradient)(*batches), want)


@EVERY
def test_second_derivatives_of_batched_gradients(name: str) -> None:
    module = MAKERS[name]().eval()
    x = torch.randn(2, 1, D, dtype=F64)
    if module.batch_first:
        x = x.transpose(0, 1)

    def loss(x: Tensor) -> Tensor:
        return module(x)[0].pow(3).sum()

    torch.testing.assert_close(hessian(loss, x, vectorize=True), hessian(loss, x))

    def rows(x: Tensor) -> Tensor:  # a batch of gradients that is differentiated itself
        jac = jacobian(lambda x: module(x)[0].sum((0, 1)), x, create_graph=True, vectorize=True)
        return jac.pow(3).sum()

    def rows_one_by_one(x: Tensor) -> Tensor:
        return jacobian(lambda x: module(x)[0].sum((0, 1)), x, create_graph=True).pow(3).sum()

    x.requires_grad_()
    assert_equal(torch.autograd.grad(rows(x), x), torch.autograd.grad(rows_one_by_one(x), x))


@EVERY
def test_gradcheck_with_batches(name: str) -> None:
    module = MAKERS[name]().eval()
    x = torch.randn(2, 2, D, dtype=F64, requires_grad=True)
    names = list(dict(module.named_parameters()))

    def outputs(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(names, weights, strict=True))
        return tuple(flat(torch.func.functional_call(module, given, (x,))).values())

    arguments = (x, *(p.detach().requires_grad_() for p in module.parameters()))
    assert gradcheck(outputs, arguments, check_batched_grad=True, fast_mode=True)
    assert gradgradcheck(outputs, arguments, check_batched_grad=True, fast_mode=True)


@EVERY_CELL
def test_cells(name: str) -> None:
    cell = CELLS[name]()
    x = torch.randn(N, D, dtype=F64, requires_grad=True)

    def outputs(x: Tensor) -> tuple[Tensor, ...]:
        return tuple(flat(cell(x)).values())

    assert gradcheck(outputs, (x,), check_batched_grad=True, fast_mode=True)
    assert gradgradcheck(outputs, (x,), check_batched_grad=True, fast_mode=True)
    found, want = (jacobian(lambda x: outputs(x)[-1], x, vectorize=v) for v in (True, False))
    torch.testing.assert_close(found, want)


def test_float32_and_a_single_entry() -> None:
    ours = ltlstm.LSTM(D, H, 2)
    x = torch.randn(T, N, D, requires_grad=True)
    output = ours(x)[0]
    assert not isinstance(output, PackedSequence)
    for count in (1, 4):
        grads = torch.randn(count, *output.shape)
        [found] = torch.autograd.grad(output, x, grads, retain_graph=True, is_grads_batched=True)
        [want] = one_by_one(lambda g: torch.autograd.grad(output, x, g, retain_graph=True), [grads])
        torch.testing.assert_close(found, want)
