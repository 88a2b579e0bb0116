# SPDX-License-Identifier: Apache-2.0
"""The H-LSTM's operators in autograd, opcheck, torch.compile; and the arguments they refuse."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from child import instruction_sets, run_alone
from h_lstm_problems import (
    BASE,
    CASES,
    EVERYTHING,
    TOGETHER,
    HCase,
    arguments,
    call,
    check,
    operator,
    oracle,
    raw,
)
from ltlstm_kernels import h_lstm_ops
from operators import DTYPES, F64, OUTPUTS, Calls, leaves, threads
from tolerance import assert_close

OPS = torch.ops.ltlstm
SMALL = HCase(T=3, N=2, D=2, H=3, L=2, K=3)
SMALL_EVERYTHING = replace(
    EVERYTHING, T=4, N=2, D=2, H=3, L=2, K=3, slope=0.3
)  # a slope that finite differences tell from zero
STATIC = ("test_schema", "test_autograd_registration", "test_faketensor")


def require_all(made: dict[str, Any]) -> list[Tensor]:
    return [leaf.requires_grad_() for leaf in leaves(made).values()]


def as_function(case: HCase, paths: tuple[str, ...]) -> tuple[Any, tuple[Tensor, ...]]:
    """The operator as a function of a flat tuple of tensors, for the gradient checkers."""
    made = arguments(case, F64)
    flat = tuple(require_all(made))

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        input, h0, c0, *weights = tensors
        results = operator(case, made | {"input": input, "h0": h0, "c0": c0, "weights": weights})
        return tuple(results[path] for path in paths)

    return function, flat


@pytest.mark.parametrize("case", [SMALL, SMALL_EVERYTHING], ids=str)
def test_gradcheck_and_gradgradcheck(case: HCase) -> None:
    function, flat = as_function(case, OUTPUTS)
    assert torch.autograd.gradcheck(function, flat, fast_mode=case.bidirectional)
    assert torch.autograd.gradgradcheck(function, flat, fast_mode=True)


@pytest.mark.parametrize("path", ["output", "h_n", "c_n", "cells"])
def test_gradgradcheck_of_one_output(path: str) -> None:
    function, flat = as_function(SMALL_EVERYTHING, (path,))
    assert torch.autograd.gradgradcheck(function, flat, fast_mode=True)


def test_second_derivative_agrees_with_the_reference() -> None:
    def gradient_penalty(how: Any) -> list[Tensor]:
        made = arguments(SMALL_EVERYTHING, F64)
        wanted = require_all(made)
        output = how(SMALL_EVERYTHING, made)["output"]
        (d_input,) = torch.autograd.grad(output.square().sum(), made["input"], create_graph=True)
        return list(torch.autograd.grad(d_input.square().sum(), wanted))

    for actual, expected in zip(gradient_penalty(operator), gradient_penalty(oracle), strict=True):
        assert expected.any()
        assert_close(actual, expected)


def test_first_derivatives_stay_on_the_kernel() -> None:
    made = arguments(EVERYTHING, torch.float32)
    wanted = require_all(made)
    with Calls() as calls:
        results = call(EVERYTHING, made)
        torch.autograd.grad(results[0], wanted, torch.ones_like(results[0]))
    assert calls.ours() == ["ltlstm::h_lstm_forward", "ltlstm::h_lstm_backward"]
    assert not {name for name, _ in calls.seen} & {"aten::mm", "aten::addmm", "aten::sigmoid"}
    # Only what the backward saves has no gradient.
    assert [i for i, r in enumerate(results) if not r.requires_grad] == [5, 6]


def test_gradients_of_an_inference_pass_come_from_a_second_one() -> None:
    made = arguments(EVERYTHING, torch.float32)
    wanted = require_all(made)
    found, want = (
        torch.autograd.grad(call(EVERYTHING, made, save=save)[0].square().sum(), wanted)
        for save in (False, True)
    )
    assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))


@pytest.mark.parametrize("save", [True, False])
@pytest.mark.parametrize("case", [EVERYTHING, replace(BASE, L=1, bias=False)], ids=str)
def test_opcheck_forward(case: HCase, save: bool) -> None:
    made = arguments(case, torch.float32)
    if save:
        require_all(made)
    found = torch.library.opcheck(
        OPS.h_lstm_forward.default, tuple(raw(made).values()), {**case.flags, "save": save},
        test_utils=(*STATIC, "test_aot_dispatch_dynamic"),
    )  # fmt: skip
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("case", [EVERYTHING, replace(BASE, T=2, N=4, L=1)], ids=str)
def test_opcheck_backward(case: HCase) -> None:
    made = arguments(case, torch.float32)
    results = call(case, made)
    outer = [torch.randn_like(r) for r in results[:5]]
    require_all(made)
    saved = [results[0], *results[3:]]
    # The second derivative follows the values in batch_sizes: that cannot be traced.
    tests = STATIC if case.packed else (*STATIC, "test_aot_dispatch_dynamic")
    found = torch.library.opcheck(
        OPS.h_lstm_backward.default, (*outer, *raw(made).values(), *saved), case.flags,
        test_utils=tests,
    )  # fmt: skip
    assert set(found.values()) == {"SUCCESS"}


def test_compile_whole_graph_for_training() -> None:
    def loss(made: dict[str, Any]) -> Tensor:
        return torch.stack([r.sin().sum() for r in operator(EVERYTHING, made).values()]).sum()

    gradients = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        made = arguments(EVERYTHING, torch.float32)
        wanted = require_all(made)
        value = function(made)
        gradients.append([value.detach(), *torch.autograd.grad(value, wanted)])
    for eager, compiled in zip(*gradients, strict=True):
        assert torch.equal(eager, compiled)


def values_and_gradients(isa: str) -> None:
    one_step = replace(BASE, T=1, N=2, H=77, K=35, J=2)  # reads its weights unpacked
    for case in (EVERYTHING, one_step, CASES[4]):
        for dtype in DTYPES:
            print(isa, case, dtype, flush=True)
            check(case, dtype)
    with threads(2):
        check(TOGETHER[1], torch.float32)


@pytest.mark.parametrize("isa", instruction_sets())
def test_every_instruction_set(isa: str) -> None:
    run_alone(values_and_gradients, isa, LTLSTM_CPU_ISA=isa)


@pytest.mark.parametrize(("count", "cores"), [(8, None), (2, 1)])
def test_more_threads_than_cores(count: int, cores: int | None) -> None:
    run_alone(together, count, cores=cores)


def together(count: int) -> None:
    with threads(count):
        for case in TOGETHER[:2]:
            check(case, torch.float32)


Change = Callable[[Any], Any]


def grown(dim: int) -> Change:
    return lambda t: torch.cat([t, t.narrow(dim, 0, 1)], dim)


def at(index: int, change: Change) -> Change:
    return lambda w: [*w[:index], change(w[index]), *w[index + 1 :]]


PADDED = replace(EVERYTHING, packed=False)
BAD: dict[str, tuple[str, str, Change]] = {
    "rank": ("input", "input", lambda t: t[0]),
    "half": ("input", "input", lambda t: t.half()),
    "wide input": ("weights[0]", "input", grown(2)),
    "h0 rank": ("h0", "h0", lambda t: t[0]),
    "h0 dtype": ("h0", "h0", lambda t: t.double()),
    "h0 layers": ("weights", "h0", lambda t: t[:-1]),
    "no states": ("weights", "h0", lambda t: t[:0]),
    "h0 width": ("h0", "h0", grown(2)),
    "c0 batch": ("c0", "c0", grown(1)),
    "no weights": ("weights", "weights", lambda w: []),
    "a weight too few": ("weights", "weights", lambda w: w[:-1]),
    "a cell too few": ("weights", "weights", lambda w: w[: len(w) * 5 // 6]),
    "no gate layer": ("weights", "weights", lambda w: w[: 3 * 6]),
    "rows of w_ih": ("weights[0]", "weights", at(0, grown(0))),
    "rank of w_ih": ("weights[0]", "weights", at(0, lambda t: t[0])),
    "no rows": ("weights[0]", "weights", at(0, lambda t: t[:0])),
    "w_hh columns": ("weights[1]", "weights", at(1, grown(1))),
    "bias size": ("weights[2]", "weights", at(2, lambda t: t[:-1])),
    "gates of a layer": ("weights[3]", "weights", at(3, lambda t: t[:3])),
    "outputs of the last layer": ("weights[5]", "weights", at(5, grown(1))),
    "later bias": ("weights[6]", "weights", at(6, lambda t: t.flatten())),
    "weight dtype": ("weights[5]", "weights", at(5, lambda t: t.double())),
    "one mask": ("masks", "masks", lambda m: m[:1]),
    "gate masks of a layer": ("gate_masks", "gate_masks", lambda m: m[:-1]),
    "gate masks by unit": ("gate_masks", "gate_masks", lambda m: m[..., :-1]),
    "gate mask dtype": ("gate_masks", "gate_masks", lambda m: m.bool()),
    "reset of steps": ("reset", "reset", lambda t: t[:, 0]),
}


def refused(op: Any, argument: str, *args: Any, **kwargs: Any) -> None:
    """One message form: <op>: <argument> must <contract>, got <value>."""
    form = rf"{op.__name__}: [^,]*{argument.replace('[', '.')[:-1]}.* must .+, got .+"
    with pytest.raises(RuntimeError, match=form):
        op(*args, **kwargs)


@pytest.mark.parametrize("name", BAD)
def test_forward_refuses(name: str) -> None:
    argument, where, change = BAD[name]
    made = arguments(PADDED, torch.float32)
    made[where] = change(made[where])
    refused(h_lstm_ops.h_lstm_forward, argument, **made, **PADDED.flags, save=True)


def test_flags_that_belie_the_rest() -> None:
    made, flags = arguments(PADDED, torch.float32), PADDED.flags
    for changed in ({"bias": False}, {"bidirectional": False}):
        refused(h_lstm_ops.h_lstm_forward, "", **made, **(flags | changed), save=True)
    for slope in (-0.1, float("nan")):
        wrong = flags | {"slope": slope}
        refused(h_lstm_ops.h_lstm_forward, "slope", **made, **wrong, save=True)


def test_backward_refuses_what_the_forward_did_not_give() -> None:
    made = arguments(PADDED, torch.float32)
    results = dict(zip(h_lstm_ops.HStack._fields, call(PADDED, made), strict=True))
    outer = {f"d_{name}": torch.randn_like(results[name]) for name in OUTPUTS}
    del results["h_n"], results["c_n"]
    given = outer | raw(made) | results | PADDED.flags
    OPS.h_lstm_backward(**given)
    for name in [*outer, *results]:
        for change in (grown(-1), grown(0), lambda t: t.double(), lambda t: t[0], lambda t: t[:0]):
            refused(OPS.h_lstm_backward, name, **(given | {name: change(given[name])}))
