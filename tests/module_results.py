# SPDX-License-Identifier: Apache-2.0
"""How the module tests run a module: outputs, states and every gradient, by name, in any dtype."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from tolerance import assert_all_close

Named = dict[str, Tensor]
State = tuple[Tensor, Tensor]

F32, F64 = torch.float32, torch.float64


def to(value: Any, dtype: torch.dtype) -> Any:
    """Copies that are leaves, floating-point ones in ``dtype``."""
    if isinstance(value, Tensor):
        return value.detach().to(dtype) if value.is_floating_point() else value
    if isinstance(value, PackedSequence):
        return value.to(dtype)
    return tuple(to(v, dtype) for v in value) if isinstance(value, tuple) else value


def random_state(module: nn.RNNBase, N: int) -> State:
    """hx of a batch of N; N = 0 with no batch dimension is ``unbatched``."""
    states = module.num_layers * (2 if module.bidirectional else 1)
    P = module.proj_size or module.hidden_size
    return torch.randn(states, N, P), torch.randn(states, N, module.hidden_size)


def flat(results: Any, prefix: str = "out") -> Named:
    """Every tensor in nested results, by its place."""
    if isinstance(results, PackedSequence):
        return {prefix: results.data}
    if isinstance(results, Tensor):
        return {prefix: results}
    found: Named = {}
    for i, result in enumerate(results):
        if result is not None:
            found |= flat(result, f"{prefix}.{i}")
    return found


def results_of(
    module: nn.Module, input: Any, hx: State | None, dtype: torch.dtype,
    wrap: Callable[[nn.Module], Callable[..., Any]] = lambda module: module, **kwargs: Any,
) -> Named:  # fmt: skip
    """Outputs and, of a random functional of them, the gradients of input, hx and parameters.

    The module and its arguments are copied to ``dtype`` first; the functional and the dropout come
    from fixed seeds. ``wrap`` turns the copy into what is called.
    """
    module = copy.deepcopy(module).to(dtype)
    input, hx = to(input, dtype), to(hx, dtype)
    leaves: Named = {"input": input.data if isinstance(input, PackedSequence) else input}
    if hx is not None:
        leaves |= {"h0": hx[0], "c0": hx[1]}
    for leaf in leaves.values():
        leaf.requires_grad_()
    leaves |= dict(module.named_parameters())
    torch.manual_seed(17)
    outputs = flat(wrap(module)(input, hx, **kwargs))
    generator = torch.Generator().manual_seed(29)
    total = torch.zeros((), dtype=dtype)
    for output in outputs.values():
        total = total + (output * torch.randn(output.shape, generator=generator).to(dtype)).sum()
    gradients = torch.autograd.grad(total, list(leaves.values()))
    named = {f"d_{name}": g for name, g in zip(leaves, gradients, strict=True)}
    return {**{name: output.detach() for name, output in outputs.items()}, **named}


def check_same(
    actual: nn.Module, oracle: nn.Module, input: Any, hx: State | None = None,
    dtype: torch.dtype = F32, **kwargs: Any,
) -> None:  # fmt: skip
    """The tolerance rule between a module and another with the same parameters."""
    truth = results_of(oracle, input, hx, F64, **kwargs)
    plain = results_of(oracle, input, hx, F32, **kwargs)
    assert_all_close(results_of(actual, input, hx, dtype, **kwargs), truth, plain)
