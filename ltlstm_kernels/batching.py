# SPDX-License-Identifier: Apache-2.0
"""The operators under vmap, registered on import: one call for each entry of the batch.

A backward is what usually meets one: `torch.autograd.grad(is_grads_batched=True)`, a vectorized
Jacobian, vmap over a gradient. Its entries are no rows of one larger batch, for every entry has
weight gradients of its own, and an operator sums those over its rows.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ltlstm_kernels.ops import AVAILABLE

OPERATORS = tuple(
    f"{name}_{pass_}"
    for name in ("lstm_stack", "lt_lstm", "h_lstm", "cell")
    for pass_ in ("forward", "backward")
)


def _map(function: Callable[..., Any], *trees: Any) -> Any:
    """Over arguments or results: tensors, other values, and lists or tuples of them."""
    if isinstance(trees[0], list | tuple):
        kind = list if isinstance(trees[0], list) else tuple
        return kind(_map(function, *parts) for parts in zip(*trees, strict=True))
    return function(*trees)


def _one_by_one(op: Callable[..., Any], count: int, arguments: Any, batched: Any) -> Any:
    """Results with the batch in front, from arguments that have it there where ``batched``."""

    def of(entry: int) -> Any:
        def take(argument: Any, split: bool) -> Any:
            return argument[entry].contiguous() if split else argument

        return op(*_map(take, arguments, batched))

    return _map(lambda *entries: torch.stack(entries), *map(of, range(count)))


def _rule(op: Callable[..., Any]) -> Callable[..., Any]:
    """For torch.func's vmap."""

    def vmap(info: Any, in_dims: Any, *arguments: Any) -> tuple[Any, Any]:
        def in_front(argument: Any, dim: int | None) -> Any:
            return argument if dim is None else argument.movedim(dim, 0)

        batched = _map(lambda dim: dim is not None, in_dims)
        moved = _map(in_front, arguments, in_dims)
        results = _one_by_one(op, info.batch_size, moved, batched)
        return results, _map(lambda _: 0, results)

    return vmap


def _legacy_rule(op: Callable[..., Any]) -> Callable[..., Any]:
    """For the vmap within torch.autograd, which has a dispatch key of its own."""

    def call(*arguments: Any) -> Any:
        level = torch._C._vmapmode_increment_nesting() - 1
        torch._C._vmapmode_decrement_nesting()
        while True:  # the innermost level that batches any of them
            sizes: set[int] = set()

            def size(argument: Any, level: int = level, sizes: set[int] = sizes) -> int:
                """Entries; 0, of which there is no batch, where this level does not batch it."""
                if not isinstance(argument, Tensor):
                    return 0
                found = torch._remove_batch_dim(argument, level, 0, 0).shape[0]  # type: ignore[attr-defined]
                sizes.add(found)
                return found

            batched = _map(lambda argument: size(argument) > 0, arguments)
            count = max(sizes)
            if count > 0 or level == 0:
                break
            level -= 1

        def in_front(argument: Any, split: bool) -> Any:
            return torch._remove_batch_dim(argument, level, count, 0) if split else argument  # type: ignore[attr-defined]

        results = _one_by_one(op, count, _map(in_front, arguments, batched), batched)
        return _map(lambda result: torch._add_batch_dim(result, 0, level), results)  # type: ignore[attr-defined]

    return call


if AVAILABLE:
    _LIBRARY = torch.library.Library("ltlstm", "IMPL")  # held: with it the rules would go
    for _name in OPERATORS:
        _op = getattr(torch.ops.ltlstm, _name).default
        torch.library.register_vmap(f"ltlstm::{_name}", _rule(_op))
        _LIBRARY.impl(_name, _legacy_rule(_op), "Batched")
