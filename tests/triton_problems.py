# SPDX-License-Identifier: Apache-2.0
"""Problems for the H-LSTM's Triton kernels, and how one is compared with the oracle, in the
interpreter or on a GPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from h_lstm_problems import BASE, EVERYTHING, HCase, arguments, operator, oracle
from operators import F64, OUTPUTS, Named, leaves
from tolerance import assert_all_close

EXACT = torch.float32
HALF = [torch.bfloat16, torch.float16]
DEEP = replace(EVERYTHING, T=4, L=2)
CASES = [
    HCase(T=1, N=1, D=1, H=1, K=1),
    HCase(T=4, N=0, D=3, H=5, L=2),
    HCase(T=3, N=17, D=9, H=33, K=65),
    HCase(T=2, N=33, D=5, H=31, K=129, J=2, slope=0.0),
    replace(BASE, bias=False, reset=True),
    replace(BASE, bidirectional=True, reset=True, gate_dropout=True),
    replace(DEEP, N=20, packed=False, bias=False),
    DEEP,
]


@contextmanager
def planned(**changes: Any) -> Iterator[None]:
    """Every plan with these changes."""
    from ltlstm_kernels import triton_plan

    plan = triton_plan.plan
    triton_plan.plan = lambda *sizes: plan(*sizes)._replace(**changes)
    try:
        yield
    finally:
        triton_plan.plan = plan


def cast(made: dict[str, Any], dtype: torch.dtype, device: str) -> dict[str, Any]:
    """On the device all but batch_sizes, and what has a floating point in this type."""

    def one(x: Any) -> Any:
        if isinstance(x, list):
            return [one(t) for t in x]
        if not isinstance(x, Tensor):
            return x
        return x.detach().to(device, dtype if x.is_floating_point() else x.dtype)

    return {name: x if name == "batch_sizes" else one(x) for name, x in made.items()}


def run(how: Callable[..., Named], case: HCase, made: dict[str, Any], outer: Named) -> Named:
    """The outputs, and every gradient, for the gradients `outer` of the outputs it names."""
    wanted = {name: leaf.requires_grad_() for name, leaf in leaves(made).items()}
    results = how(case, made)
    found = torch.autograd.grad(
        [results[name] for name in outer], list(wanted.values()),
        [g.to(results[name].dtype) for name, g in outer.items()], materialize_grads=True,
    )  # fmt: skip
    return results | {f"d_{name}": d for name, d in zip(wanted, found, strict=True)}


def check(
    case: HCase, dtype: torch.dtype, paths: tuple[str, ...] = OUTPUTS,
    change: Callable[[Any], Any] = lambda made: made, device: str = "cpu",
) -> Named:  # fmt: skip
    """Outputs and all gradients, by the two-times rule; truth is of the values as rounded."""
    made = change(arguments(case, dtype))
    shapes = oracle(case, cast(made, F64, device))
    g = torch.Generator().manual_seed(7)
    outer = {name: torch.randn(shapes[name].shape, generator=g).to(device, dtype) for name in paths}
    found = run(operator, case, cast(made, dtype, device), outer)
    truth = run(oracle, case, cast(made, F64, device), outer)
    assert_all_close(found, truth, run(oracle, case, cast(made, dtype, device), outer))
    return found


def sparse_blocks(weights: list[Tensor], block: int, density: float) -> list[Tensor]:
    """The weights with whole blocks of the recurrent ones zero, one gate with none left."""
    g = torch.Generator().manual_seed(3)

    def thin(w: Tensor) -> Tensor:
        gates, out, inputs = w.shape
        live = torch.rand(gates, -(-out // block), -(-inputs // block), generator=g) < density
        live[1] = False
        wide = live.repeat_interleave(block, 1).repeat_interleave(block, 2)
        return w * wide[:, :out, :inputs].to(w.dtype)

    def recurrent(i: int, w: Tensor) -> Tensor:
        if w.dim() == 3:
            return thin(w)
        return thin(w.unflatten(0, (4, -1))).flatten(0, 1) if i == 1 else w

    return [recurrent(i, w) for i, w in enumerate(weights)]
