# SPDX-License-Identifier: Apache-2.0
"""How the operator tests run one problem twice, on the operators and on the reference.

Both give the same names: the operator's differentiable outputs, and a gradient ``d_<name>`` for
each argument. lanes=1 is lstm_stack, lanes=2 lt_lstm.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import ltlstm.autograd  # noqa: F401  (registers the gradients)
from cases import Case, arguments
from ltlstm import reference
from ltlstm_kernels import ops
from tolerance import assert_all_close

Named = dict[str, Tensor]
Run = Callable[[Case, dict[str, Any]], Named]
DTYPES = [torch.float32, torch.float64]
F64 = torch.float64

OUTPUTS = ("output", "h_n", "c_n", "hidden", "cells")
LT_OUTPUTS = (*OUTPUTS, "traj_hidden", "traj_cells")


def names(lanes: int) -> tuple[str, ...]:
    return OUTPUTS if lanes == 1 else LT_OUTPUTS


def call(
    case: Case, made: dict[str, Any], save: bool = True, side_by_side: bool | None = None
) -> tuple[Tensor, ...]:
    """The operator's outputs as they come."""
    if "traj_weights" in made:
        return ops.lt_lstm_forward(**made, **case.flags, save=save, lanes=side_by_side)
    return ops.lstm_stack_forward(**made, **case.flags, save=save)


def raw(made: dict[str, Any]) -> dict[str, Any]:
    """The arguments as the bare operator takes them: masks stacked, or None."""
    return made | {"masks": torch.stack(made["masks"]) if made["masks"] else None}


def raw_flags(case: Case, lanes: int, side_by_side: bool | None = None) -> dict[str, Any]:
    """The flags of the bare operators; of lt_lstm also how it is to run."""
    return case.flags | ({"lanes": side_by_side} if lanes == 2 else {})


def operator(case: Case, made: dict[str, Any], side_by_side: bool | None = None) -> Named:
    results = call(case, made, side_by_side=side_by_side)
    if "traj_weights" not in made:
        return dict(zip(OUTPUTS, results[:5], strict=True))
    return dict(zip(LT_OUTPUTS, (*results[:5], *results[6:8]), strict=True))


def oracle(case: Case, made: dict[str, Any]) -> Named:
    if "traj_weights" not in made:
        output, h_n, c_n, hidden, cells = reference.lstm(**made, **case.flags)
        return dict(zip(OUTPUTS, (output, h_n, c_n, hidden[:-1], cells), strict=True))
    output, h_n, c_n, hidden, cells, g, m = reference.lt_lstm(**made, **case.flags)
    assert m is not None
    return dict(zip(LT_OUTPUTS, (output, h_n, c_n, hidden, cells, g[:-1], m), strict=True))


def leaves(made: dict[str, Any]) -> Named:
    """Every argument with a gradient, by name."""
    found: Named = {name: made[name] for name in ("input", "h0", "c0")}
    for list_name in ("weights", "traj_weights"):
        for i, w in enumerate(made.get(list_name, ())):
            found[f"{list_name}[{i}]"] = w
    return found


def run(how: Run, case: Case, made: dict[str, Any], paths: tuple[str, ...], seed: int = 7) -> Named:
    """The outputs, and the gradients that random gradients of the outputs ``paths`` give."""
    wanted = {name: leaf.requires_grad_() for name, leaf in leaves(made).items()}
    results = how(case, made)
    g = torch.Generator().manual_seed(seed)
    outer = {k: torch.randn(v.shape, generator=g).to(v.dtype) for k, v in results.items()}
    gradients = torch.autograd.grad(
        [results[name] for name in paths],
        list(wanted.values()),
        [outer[name] for name in paths],
        materialize_grads=True,
    )
    named = {f"d_{name}": grad for name, grad in zip(wanted, gradients, strict=True)}
    return results | named


def check(
    case: Case,
    dtype: torch.dtype,
    lanes: int,
    paths: tuple[str, ...] = (),
    how: Run = operator,
) -> None:
    """The operator against the reference: the outputs and every gradient, by the two-times rule."""
    paths = paths or names(lanes)
    assert_all_close(
        run(how, case, arguments(case, dtype, lanes), paths),
        run(oracle, case, arguments(case, F64, lanes), paths),
        run(oracle, case, arguments(case, torch.float32, lanes), paths),
    )


def assert_identical(actual: Named, expected: Named) -> None:
    """Bit for bit, NaN equal to NaN."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(actual[name].nan_to_num(nan=12345.0), value.nan_to_num(nan=12345.0)), (
            name
        )
        assert torch.equal(actual[name].isnan(), value.isnan()), name


class Calls(TorchDispatchMode):
    """Records (name, arguments) of every operator that reaches a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.seen.append((func._schema.name, args))
        return func(*args, **(kwargs or {}))

    def ours(self) -> list[str]:
        return [name for name, _ in self.seen if name.startswith("ltlstm::")]


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fills what torch leaves uninitialised with NaN."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
