# SPDX-License-Identifier: Apache-2.0
"""How the operators sit in autograd: what arrives, what is paid, what is differentiable twice."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import EVERYTHING, Case, arguments
from operators import F64, Calls, assert_identical, call, leaves, names, operator, oracle, run
from tolerance import assert_all_close, assert_close

LANES = pytest.mark.parametrize("lanes", [1, 2], ids=["lstm_stack", "lt_lstm"])
BASE = Case(T=5, N=3, D=5, H=7, L=2)
SMALL = Case(T=3, N=2, D=2, H=3, L=2)
SMALL_EVERYTHING = replace(
    SMALL, T=4, P=2, peephole=True, bidirectional=True, packed=True, reset=True, dropout=True
)
FORWARD = {1: "ltlstm::lstm_stack_forward", 2: "ltlstm::lt_lstm_forward"}
BACKWARD = {1: "ltlstm::lstm_stack_backward", 2: "ltlstm::lt_lstm_backward"}


def require_all(made: dict[str, Any]) -> list[Tensor]:
    return [leaf.requires_grad_() for leaf in leaves(made).values()]


@LANES
def test_expanded_output_gradients(lanes: int) -> None:
    made = arguments(EVERYTHING, torch.float32, lanes)
    wanted = require_all(made)
    grads = []
    for copy in (False, True):
        results = operator(EVERYTHING, made)
        ones = [torch.ones(()).expand(r.shape) for r in results.values()]  # stride 0 throughout
        outer = [one.clone() if copy else one for one in ones]
        grads.append(torch.autograd.grad(list(results.values()), wanted, outer))
    for expanded, plain in zip(*grads, strict=True):
        assert torch.equal(expanded, plain)


@LANES
def test_transposed_output_gradients(lanes: int) -> None:
    made = arguments(BASE, torch.float32, lanes)
    wanted = require_all(made)
    output = operator(BASE, made)["output"]
    outer = torch.randn(output.shape[::-1]).permute(2, 1, 0)
    strided = torch.autograd.grad(output, wanted, outer, retain_graph=True)
    plain = torch.autograd.grad(output, wanted, outer.contiguous())
    for a, b in zip(strided, plain, strict=True):
        assert torch.equal(a, b)


@LANES
def test_tied_weights(lanes: int) -> None:
    # Both layers share every tensor, and the two biases of a cell are one tensor.
    case = Case(T=5, N=3, D=7, H=7, L=2, bidirectional=False)

    def tied(dtype: torch.dtype) -> tuple[dict[str, Any], list[Tensor]]:
        made = arguments(case, dtype, lanes)
        w_ih, w_hh, b, _ = (w.requires_grad_() for w in made["weights"][:4])
        made["weights"] = [w_ih, w_hh, b, b] * case.L
        shared = [w_ih, w_hh, b]
        if lanes == 2:
            made["traj_weights"] = [w_ih, b, b, w_ih, w_hh, b, b]  # shared between the lanes too
        return made, shared

    def gradients(how: Any, dtype: torch.dtype) -> dict[str, Tensor]:
        made, shared = tied(dtype)
        total = sum(r.square().sum() for r in how(case, made).values())
        grads = torch.autograd.grad(total, shared)
        return dict(zip(("d_w_ih", "d_w_hh", "d_b"), grads, strict=True))

    assert_all_close(
        gradients(operator, torch.float32),
        gradients(oracle, F64),
        gradients(oracle, torch.float32),
    )


@LANES
def test_only_what_backward_saves_is_not_differentiable(lanes: int) -> None:
    case = replace(BASE, L=3)
    made = arguments(case, torch.float32, lanes)
    made["weights"][0].requires_grad_()
    results = call(case, made)
    saved = {5} if lanes == 1 else {5, 8}  # the gates
    assert {i for i, r in enumerate(results) if not r.requires_grad} == saved


@LANES
def test_absent_gradients_stay_absent(lanes: int) -> None:
    made = arguments(BASE, torch.float32, lanes)
    made["weights"][0].requires_grad_()
    results = operator(BASE, made)
    for path in names(lanes):
        with Calls() as calls:
            torch.autograd.grad(results[path].sum(), made["weights"][0], retain_graph=True)
        arrived = [args for name, args in calls.seen if name == BACKWARD[lanes]]
        assert len(arrived) == 1
        given = [outer is not None for outer in arrived[0][: len(results)]]
        assert given == [name == path for name in names(lanes)]


@LANES
def test_first_derivatives_stay_on_the_kernel(lanes: int) -> None:
    made = arguments(EVERYTHING, torch.float32, lanes)
    wanted = require_all(made)
    with Calls() as calls:
        output = call(EVERYTHING, made)[0]
        torch.autograd.grad(output, wanted, torch.ones_like(output))
    assert calls.ours() == [FORWARD[lanes], BACKWARD[lanes]]
    computed = {name for name, _ in calls.seen} & {"aten::mm", "aten::addmm", "aten::sigmoid"}
    assert not computed


@LANES
@pytest.mark.parametrize("only", ["input", "h0", "c0", "weights[1]", "traj_weights[0]"])
def test_a_gradient_for_one_argument_alone(lanes: int, only: str) -> None:
    if lanes == 1 and only.startswith("traj"):
        only = "weights[0]"
    made = arguments(EVERYTHING, torch.float32, lanes)
    full = run(operator, EVERYTHING, made, names(lanes))[f"d_{only}"]
    fresh = arguments(EVERYTHING, torch.float32, lanes)
    leaf = leaves(fresh)[only].requires_grad_()
    results = operator(EVERYTHING, fresh)
    g = torch.Generator().manual_seed(7)
    outer = [torch.randn(r.shape, generator=g) for r in results.values()]
    # Results that do not depend on this argument alone carry no graph.
    pairs = [(r, o) for r, o in zip(results.values(), outer, strict=True) if r.requires_grad]
    alone = torch.autograd.grad([r for r, _ in pairs], leaf, [o for _, o in pairs])[0]
    assert torch.equal(alone, full)


@LANES
def test_no_graph_where_nothing_needs_it(lanes: int) -> None:
    made = arguments(BASE, torch.float32, lanes)
    assert not any(r.requires_grad for r in call(BASE, made))
    require_all(made)
    with torch.no_grad():
        assert not any(r.requires_grad for r in call(BASE, made))


@LANES
def test_gradients_of_an_inference_pass_come_from_a_second_one(lanes: int) -> None:
    made = arguments(EVERYTHING, torch.float32, lanes)
    wanted = require_all(made)
    found, want = (
        torch.autograd.grad(call(EVERYTHING, made, save=save)[0].square().sum(), wanted)
        for save in (False, True)
    )
    assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))


@LANES
def test_backward_twice_over_one_graph(lanes: int) -> None:
    made = arguments(EVERYTHING, torch.float32, lanes)
    wanted = require_all(made)
    output = call(EVERYTHING, made)[0]
    first = torch.autograd.grad(output.sum(), wanted, retain_graph=True)
    second = torch.autograd.grad(output.sum(), wanted)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def as_function(case: Case, lanes: int, paths: tuple[str, ...]) -> tuple[Any, tuple[Tensor, ...]]:
    """The operator as a function of a flat tuple of tensors, for the gradient checkers."""
    made = arguments(case, F64, lanes)
    flat = tuple(require_all(made))
    count = len(made["weights"])

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = made | {"input": tensors[0], "h0": tensors[1], "c0": tensors[2]}
        given["weights"] = list(tensors[3 : 3 + count])
        if lanes == 2:
            given["traj_weights"] = list(tensors[3 + count :])
        results = operator(case, given)
        return tuple(results[path] for path in paths)

    return function, flat


@LANES
@pytest.mark.parametrize("case", [SMALL, SMALL_EVERYTHING], ids=str)
def test_gradcheck(case: Case, lanes: int) -> None:
    function, flat = as_function(case, lanes, names(lanes))
    assert torch.autograd.gradcheck(function, flat, fast_mode=case.bidirectional)


@LANES
@pytest.mark.parametrize("case", [SMALL, SMALL_EVERYTHING], ids=str)
def test_gradgradcheck(case: Case, lanes: int) -> None:
    function, flat = as_function(case, lanes, names(lanes))
    assert torch.autograd.gradgradcheck(function, flat, fast_mode=True)


@LANES
@pytest.mark.parametrize("path", ["output", "h_n", "c_n", "cells"])
def test_gradgradcheck_of_one_output(lanes: int, path: str) -> None:
    function, flat = as_function(SMALL_EVERYTHING, lanes, (path,))
    assert torch.autograd.gradgradcheck(function, flat, fast_mode=True)


@LANES
def test_second_derivative_agrees_with_the_reference(lanes: int) -> None:
    def gradient_penalty(how: Any) -> list[Tensor]:
        made = arguments(SMALL_EVERYTHING, F64, lanes)
        wanted = require_all(made)
        output = how(SMALL_EVERYTHING, made)["output"]
        (d_input,) = torch.autograd.grad(output.square().sum(), made["input"], create_graph=True)
        return list(torch.autograd.grad(d_input.square().sum(), wanted))

    ours, theirs = gradient_penalty(operator), gradient_penalty(oracle)
    for actual, expected in zip(ours, theirs, strict=True):
        assert expected.any()
        assert_close(actual, expected)
    assert len(ours) == len(theirs)


@LANES
def test_second_derivative_of_tied_weights(lanes: int) -> None:
    # Each place of the list counts once: a tensor at two places is not counted four times.
    case = Case(T=3, N=2, D=3, H=3, L=2)
    made = arguments(case, F64, lanes)
    w_ih, w_hh, b, _ = (w.requires_grad_() for w in made["weights"][:4])

    def output(w_ih: Tensor, w_hh: Tensor, b: Tensor) -> Tensor:
        given = made | {"weights": [w_ih, w_hh, b, b] * case.L}
        if lanes == 2:
            given["traj_weights"] = [w_ih, b, b, w_ih, w_hh, b, b]
        return operator(case, given)["output"]

    assert torch.autograd.gradgradcheck(output, (w_ih, w_hh, b))


@LANES
def test_gradients_accumulate_as_autograd_expects(lanes: int) -> None:
    made = arguments(BASE, torch.float32, lanes)
    wanted = require_all(made)
    call(BASE, made)[0].sum().backward()
    once = [leaf.grad.clone() for leaf in wanted if leaf.grad is not None]
    call(BASE, made)[0].sum().backward()
    twice = [leaf.grad for leaf in wanted if leaf.grad is not None]
    assert len(once) == len(twice) == len(wanted)
    assert_identical(
        {str(i): t for i, t in enumerate(twice)}, {str(i): 2 * t for i, t in enumerate(once)}
    )
