# SPDX-License-Identifier: Apache-2.0
"""LSTM and its kin under torch.compile, torch.export, torch.func, and differentiated twice."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.export import Dim
from torch.func import functional_call, jvp, stack_module_state, vjp, vmap
from torch.nn.utils.rnn import pack_padded_sequence

import ltlstm
from module_results import flat, random_state, results_of
from tolerance import assert_all_close

T, N, D, H = 4, 3, 3, 4
LENGTHS = torch.tensor([2, 4, 1])
MAKERS = {
    "lstm": lambda: ltlstm.LSTM(D, H, 2, dropout=0.2),
    "bidirectional": lambda: ltlstm.LSTM(D, H, 2, bidirectional=True, proj_size=2),
    "residual": lambda: ltlstm.ResidualLSTM(D, H, 3, dropout=0.2),
    "lt": lambda: ltlstm.LTLSTM(D, H, 2, dropout=0.2, peephole=True, proj_size=2),
    "lookahead": lambda: ltlstm.LTLSTM(D, H, 3, lookahead=2, bidirectional=True),
    "gated": lambda: ltlstm.LTLSTM(D, H, 2, depth_unit="gated", share_layer_weights=True),
    "max": lambda: ltlstm.LTLSTM(D, H, 2, depth_unit="max"),
}
EVERY = pytest.mark.parametrize("name", MAKERS)


FORMS = ["padded", "lengths", "reset", "packed", "states", "no_state"]


def arguments(module: nn.Module, form: str) -> tuple[Any, Any, dict[str, Any]]:
    x, hx = torch.randn(T, N, D), random_state(module, N)
    if form == "lengths":
        return x, hx, {"lengths": LENGTHS}
    if form == "reset":
        return x, hx, {"reset": torch.rand(T, N) < 0.3}
    if form == "packed":
        return pack_padded_sequence(x, LENGTHS, enforce_sorted=False), hx, {}
    return x, None if form == "no_state" else hx, {"return_states": form == "states"}


def check_compiled(module: nn.Module, form: str, backend: str) -> None:
    """Compiled whole, values and gradients are as they are eagerly, dropout included."""
    x, hx, kwargs = arguments(module, form)

    def compiled(module: nn.Module) -> Any:
        return torch.compile(module, fullgraph=True, backend=backend)

    found = results_of(module, x, hx, torch.float32, compiled, **kwargs)
    eager = results_of(module, x, hx, torch.float32, **kwargs)
    truth = results_of(module, x, hx, torch.float64, **kwargs)
    assert_all_close(found, truth, eager)


@pytest.mark.parametrize("form", FORMS)
@EVERY
def test_compile_whole_graph(name: str, form: str) -> None:
    torch._dynamo.reset()
    check_compiled(MAKERS[name](), form, "aot_eager")


@pytest.mark.parametrize("name", ["bidirectional", "lookahead"])
def test_compile_by_inductor(name: str) -> None:
    torch._dynamo.reset()
    check_compiled(MAKERS[name](), "lengths", "inductor")


@EVERY
def test_new_sizes_do_not_compile_again(name: str) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    module = torch.compile(MAKERS[name](), fullgraph=True, backend=counter)
    for steps, batch in ((4, 3), (5, 3), (6, 2), (7, 5), (9, 8)):
        module(torch.randn(steps, batch, D))[0].sum().backward()
    assert counter.frame_count <= 3  # as given, then any T, then any N


@pytest.mark.parametrize("lengths", [False, True])
@EVERY
def test_export_with_any_time_and_batch(name: str, lengths: bool) -> None:
    module = MAKERS[name]().eval()
    time, batch = Dim("T", max=1000), Dim("N", max=1000)
    args: dict[str, Any] = {"input": torch.randn(T, N, D)}
    dynamic: dict[str, Any] = {"input": {0: time, 1: batch}}
    if lengths:
        args["lengths"], dynamic["lengths"] = LENGTHS, {0: batch}
    program = torch.export.export(module, (), args, dynamic_shapes=dynamic)
    x = torch.randn(7, 5, D)
    more = {"lengths": torch.tensor([7, 1, 3, 5, 7])} if lengths else {}
    found, want = program.module()(input=x, **more), module(x, **more)
    for a, b in zip(flat(found).values(), flat(want).values(), strict=True):
        torch.testing.assert_close(a, b)


@EVERY
def test_derivatives_of_both_orders(name: str) -> None:
    module = MAKERS[name]().double().eval()
    weights = {k: w.detach().requires_grad_() for k, w in module.named_parameters()}
    x = torch.randn(2, 2, D, dtype=torch.float64, requires_grad=True)

    def outputs(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(weights, values, strict=True))
        return tuple(flat(functional_call(module, given, (x,))).values())

    assert gradcheck(outputs, (x, *weights.values()), fast_mode=True)
    assert gradgradcheck(outputs, (x, *weights.values()), fast_mode=True)


@EVERY
def test_second_derivative_of_a_loss(name: str) -> None:
    # Unlike in gradgradcheck, the gradient that enters depends on the arguments itself.
    module = MAKERS[name]().double().eval()
    x = torch.randn(T, N, D, dtype=torch.float64, requires_grad=True)
    found = []
    for backend in ("cpu", "reference"):
        module.backend = backend
        wanted = [x, *module.parameters()]
        first = torch.autograd.grad(module(x)[0].pow(3).sum(), wanted, create_graph=True)
        penalty = torch.stack([g.square().sum() for g in first]).sum()
        found.append(torch.autograd.grad(penalty, wanted, allow_unused=True))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@EVERY
def test_forward_mode_tangents(name: str) -> None:
    module = MAKERS[name]().double().eval()
    x, dx = torch.randn(T, N, D).double(), torch.randn(T, N, D).double()
    step = 1e-6

    def output(x: Tensor) -> Tensor:
        return module(x)[0]

    expected = (output(x + step * dx) - output(x - step * dx)) / (2 * step)
    tangent = jvp(output, (x,), (dx,))[1]
    torch.testing.assert_close(tangent, expected, rtol=1e-6, atol=1e-8)
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(output(forward_ad.make_dual(x, dx)))
        torch.testing.assert_close(dual.tangent, tangent)
    assert tangent.abs().max() > 1e-3


@EVERY
def test_reverse_mode_transform(name: str) -> None:
    module = MAKERS[name]().eval()
    x = torch.randn(T, N, D, requires_grad=True)
    output, pull = vjp(lambda x: module(x)[0], x)
    torch.testing.assert_close(pull(output)[0], torch.autograd.grad(module(x)[0], x, output)[0])


@EVERY
def test_vmap_over_models(name: str) -> None:
    modules = [MAKERS[name]().eval() for _ in range(3)]
    weights, _ = stack_module_state(modules)
    empty = copy.deepcopy(modules[0]).to("meta")
    x = torch.randn(T, N, D)
    found = vmap(lambda w: functional_call(empty, w, (x,))[0])(weights)
    torch.testing.assert_close(found, torch.stack([module(x)[0] for module in modules]))


def test_a_tensor_subclass_stays_one() -> None:
    class Marked(Tensor):
        pass

    module = ltlstm.LTLSTM(D, H, 2)
    x = torch.randn(T, N, D)
    output = module(x.as_subclass(Marked))[0]
    assert type(output) is Marked
    torch.testing.assert_close(output.as_subclass(Tensor), module(x)[0])
