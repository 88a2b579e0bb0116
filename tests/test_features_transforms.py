# SPDX-License-Identifier: Apache-2.0
"""Per-sample gradients, ensembles, Jacobians and tangents: right, and never a silent zero."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap

import ltlstm
from module_results import F64, random_state

T, N, D, H = 4, 3, 2, 3
MAKERS: dict[str, Any] = {
    "lstm": lambda **k: ltlstm.LSTM(D, H, 2, **k),
    "bidirectional": lambda **k: ltlstm.LSTM(D, H, bidirectional=True, proj_size=2, **k),
    "residual": lambda **k: ltlstm.ResidualLSTM(D, H, 2, **k),
    "lt": lambda **k: ltlstm.LTLSTM(D, H, 2, peephole=True, **k),
}
EVERY = pytest.mark.parametrize("name", MAKERS)


def parameters(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in module.named_parameters()}


@pytest.mark.parametrize("name", ["lstm", "lt"])
def test_an_ensemble_draws_its_own_dropout(name: str) -> None:
    module, x = MAKERS[name](dropout=0.5, backend="reference"), torch.randn(T, N, D)
    found = vmap(lambda x: module(x)[0], randomness="different")(x.expand(20, T, N, D))
    assert len({tuple(row.flatten().tolist()) for row in found}) == 20
    assert not found[0].isnan().any()
    same = vmap(lambda x: module(x)[0], randomness="same")(x.expand(3, T, N, D))
    torch.testing.assert_close(same[0], same[2])


@EVERY
def test_per_sample_gradients(name: str) -> None:
    module, x = MAKERS[name](dtype=F64), torch.randn(N, T, 1, D, dtype=F64)

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(module, weights, (x,))[0].square().sum()

    found = vmap(grad(loss), in_dims=(None, 0))(parameters(module), x)
    for sample in range(N):
        module.zero_grad()
        module(x[sample])[0].square().sum().backward()
        for key, parameter in module.named_parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(found[key][sample], parameter.grad)


@EVERY
def test_an_ensemble_trains(name: str) -> None:
    modules = [MAKERS[name](dtype=F64) for _ in range(3)]
    weights, _ = stack_module_state(modules)  # type: ignore[arg-type]
    x = torch.randn(T, N, D, dtype=F64)
    output = vmap(lambda w: functional_call(modules[0], w, (x,))[0])(weights)
    found = torch.autograd.grad(output.square().sum(), list(weights.values()))
    for i, module in enumerate(modules):
        module(x)[0].square().sum().backward()
        for gradient, parameter in zip(found, module.parameters(), strict=True):
            torch.testing.assert_close(gradient[i], parameter.grad)


@EVERY
def test_jacobians_agree(name: str) -> None:
    module, x = MAKERS[name](dtype=F64), torch.randn(T, 1, D, dtype=F64)
    forward, reverse = (jac(lambda x: module(x)[0])(x) for jac in (jacfwd, jacrev))
    torch.testing.assert_close(forward, reverse)
    torch.testing.assert_close(
        forward, torch.autograd.functional.jacobian(lambda x: module(x)[0], x)
    )
    assert forward.any()


def test_hessians_agree() -> None:
    module, x = ltlstm.LTLSTM(D, H, dtype=F64), torch.randn(2, 1, D, dtype=F64)

    def loss(x: Tensor) -> Tensor:
        return module(x)[0].pow(3).sum()

    torch.testing.assert_close(hessian(loss)(x), torch.autograd.functional.hessian(loss, x))


@pytest.mark.parametrize("place", ["input", "h0", "c0", "weight_ih_l0", "weight_hh_l0"])
@EVERY
def test_a_tangent_of_any_argument_arrives(name: str, place: str) -> None:
    module = MAKERS[name](dtype=F64)
    h, c = random_state(module, N)
    values = {"input": torch.randn(T, N, D, dtype=F64), "h0": h.double(), "c0": c.double()}
    values |= parameters(module)
    direction = torch.randn_like(values[place])

    def output(value: Tensor) -> Tensor:
        given = values | {place: value}
        weights = {k: given[k] for k in parameters(module)}
        state = (given["h0"], given["c0"])
        return functional_call(module, weights, (given["input"], state))[0]

    primal, step = values[place], 1e-6
    expected = (output(primal + step * direction) - output(primal - step * direction)) / (2 * step)
    tangent = jvp(output, (primal,), (direction,))[1]
    torch.testing.assert_close(tangent, expected, rtol=1e-5, atol=1e-8)
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(output(forward_ad.make_dual(primal, direction)))
        torch.testing.assert_close(dual.tangent, tangent)
    assert tangent.abs().max() > 1e-4


@EVERY
def test_a_named_kernel_refuses_rather_than_drop_a_tangent(name: str) -> None:
    for backend in ("cpu", "aten"):
        module = MAKERS[name](backend=backend)
        x = torch.randn(T, N, D)
        with pytest.raises(RuntimeError, match=f"backend '{backend}' cannot run"):
            jvp(lambda x, module=module: module(x)[0], (x,), (x,))
        with forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward-mode"):
            module(forward_ad.make_dual(x, x))
