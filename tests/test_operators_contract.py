# SPDX-License-Identifier: Apache-2.0
"""Bad arguments to the raw operators: each is refused by name, none crashes."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import ltlstm.autograd  # noqa: F401
from cases import EVERYTHING, Case, arguments
from ltlstm_kernels import ops
from operators import raw, raw_flags

Made = dict[str, Any]
Change = Callable[[Made], None]
CASE = replace(EVERYTHING, packed=False)


def put(name: str, change: Callable[[Any], Any]) -> Change:
    def apply(made: Made) -> None:
        made[name] = change(made[name])

    return apply


def put_in(name: str, index: int, change: Callable[[Any], Any]) -> Change:
    def apply(made: Made) -> None:
        made[name] = list(made[name])
        made[name][index] = change(made[name][index])

    return apply


def grown(dim: int) -> Callable[[Any], Any]:
    return lambda t: torch.cat([t, t.narrow(dim, 0, 1)], dim)


def double(t: Any) -> Any:
    return t.double()


def to_sparse(t: Any) -> Any:
    return t.to_sparse()


def backwards(t: Any) -> Any:
    """The same tensor with its dimensions laid out in memory the other way round."""
    return t.permute(*reversed(range(t.dim()))).contiguous().permute(*reversed(range(t.dim())))


BAD: dict[str, tuple[str, Change]] = {
    "rank 1": ("input", put("input", lambda t: t[0, 0])),
    "rank 2": ("input", put("input", lambda t: t[0])),
    "rank 4": ("input", put("input", lambda t: t[None])),
    "rank 0": ("input", put("input", lambda t: t[0, 0, 0])),
    "integers": ("input", put("input", lambda t: t.long())),
    "half": ("input", put("input", lambda t: t.half())),
    "complex": ("input", put("input", lambda t: t.cfloat())),
    "wide input": ("weights[0]", put("input", grown(2))),
    "h0 rank": ("h0", put("h0", lambda t: t[0])),
    "c0 rank": ("h0 and c0", put("c0", lambda t: t[..., None])),
    "h0 dtype": ("h0", put("h0", double)),
    "c0 dtype": ("c0", put("c0", double)),
    "h0 layers": ("h0", put("h0", grown(0))),
    "c0 layers": ("c0", put("c0", grown(0))),
    "h0 batch": ("h0", put("h0", grown(1))),
    "c0 batch": ("c0", put("c0", grown(1))),
    "h0 width": ("weights", put("h0", grown(2))),
    "c0 width": ("weights", put("c0", grown(2))),
    "no weights": ("weights", put("weights", lambda w: [])),
    "a weight too few": ("weights", put("weights", lambda w: w[:-1])),
    "a weight too many": ("weights", put("weights", lambda w: [*w, w[-1]])),
    "a layer too few": ("h0", put("weights", lambda w: w[: len(w) * 2 // 3])),
    "w_ih rows": ("weights[0]", put_in("weights", 0, grown(0))),
    "w_hh columns": ("weights[1]", put_in("weights", 1, grown(1))),
    "b_ih rank": ("weights[2]", put_in("weights", 2, lambda t: t[None])),
    "b_hh size": ("weights[3]", put_in("weights", 3, lambda t: t[:-1])),
    "w_hr transposed": ("weights[4]", put_in("weights", 4, lambda t: t.t())),
    "peephole rows": ("weights[5]", put_in("weights", 5, grown(0))),
    "w_ih of layer 2": ("weights[12]", put_in("weights", 12, lambda t: t[:, :-1])),
    "weight dtype": ("weights[7]", put_in("weights", 7, double)),
    "mask shape": ("masks", put("masks", lambda m: [t[:-1] for t in m])),
    "mask rank": ("masks", put("masks", lambda m: [t[0] for t in m])),
    "mask dtype": ("masks", put("masks", lambda m: [t.bool() for t in m])),
    "one mask": ("masks", put("masks", lambda m: m[:1])),
    "too many masks": ("masks", put("masks", lambda m: [*m, *m])),
    "reset of numbers": ("reset", put("reset", lambda t: t.float())),
    "reset of steps": ("reset", put("reset", lambda t: t[:, 0])),
    "reset too short": ("reset", put("reset", lambda t: t[:-1])),
    "batch_sizes for padded": ("input", put("batch_sizes", lambda b: torch.tensor([5] * 7))),
}
BAD_LT: dict[str, tuple[str, Change]] = {
    "no traj weights": ("traj_weights", put("traj_weights", lambda w: [])),
    "a traj weight too few": ("traj_weights", put("traj_weights", lambda w: w[:-1])),
    "u_ih shape": ("traj_weights[0]", put_in("traj_weights", 0, lambda t: t[:, :-1])),
    "u_hh shape": ("traj_weights[6]", put_in("traj_weights", 6, lambda t: t.t())),
    "u_hh dtype": ("traj_weights[6]", put_in("traj_weights", 6, double)),
}
BAD_PACKED: dict[str, tuple[str, Change]] = {
    "padded input": ("input", put("input", lambda t: t[None])),
    "sizes int32": ("batch_sizes", put("batch_sizes", lambda b: b.int())),
    "sizes float": ("batch_sizes", put("batch_sizes", lambda b: b.float())),
    "sizes rank": ("batch_sizes", put("batch_sizes", lambda b: b[None])),
    "sizes rank 0": ("batch_sizes", put("batch_sizes", lambda b: b.sum())),
    "sizes rise": ("batch_sizes", put("batch_sizes", lambda b: b.flip(0))),
    "sizes negative": ("batch_sizes", put("batch_sizes", lambda b: torch.cat([b[:-1], -b[-1:]]))),
    "sizes sum low": ("batch_sizes", put("batch_sizes", lambda b: b[:-1])),
    "sizes sum high": ("batch_sizes", put("batch_sizes", lambda b: torch.cat([b, b[-1:]]))),
    "sizes over the batch": ("batch_sizes", put("batch_sizes", lambda b: b + 1)),
    "no sizes": ("input", put("batch_sizes", lambda b: None)),
    "reset per step": ("reset", put("reset", lambda t: t[:7])),
    "mask per step": ("masks", put("masks", lambda m: [t[:7] for t in m])),
}


def refused(op: Any, argument: str, *args: Any, **kwargs: Any) -> None:
    """One message form: <op>: <argument> must <contract>, got <value>."""
    form = rf"^{op.__name__}: [^,]*{re.escape(argument)}[^,]* must .+, got .+"
    with pytest.raises(RuntimeError, match=form):
        op(*args, **kwargs)


def rows_of(*tables: tuple[Case, dict[str, tuple[str, Change]], tuple[int, ...]]) -> list[Any]:
    return [
        pytest.param(lanes, case, *row, id=f"{name}-{'lt' if lanes == 2 else 'stack'}")
        for case, table, which in tables
        for lanes in which
        for name, row in table.items()
    ]


@pytest.mark.parametrize(
    "lanes, case, argument, change",
    rows_of((CASE, BAD, (1, 2)), (CASE, BAD_LT, (2,)), (EVERYTHING, BAD_PACKED, (1, 2))),
)
def test_forward_refuses(lanes: int, case: Case, argument: str, change: Change) -> None:
    made = arguments(case, torch.float32, lanes)
    change(made)
    op = ops.lt_lstm_forward if lanes == 2 else ops.lstm_stack_forward
    refused(op, argument, **made, **case.flags, save=True)


@pytest.mark.parametrize("flag", ["bias", "projected", "peephole", "bidirectional"])
@pytest.mark.parametrize("lanes", [1, 2], ids=["stack", "lt"])
def test_a_flag_that_belies_the_weights(flag: str, lanes: int) -> None:
    made = arguments(CASE, torch.float32, lanes)
    op = ops.lt_lstm_forward if lanes == 2 else ops.lstm_stack_forward
    refused(op, "", **made, **(CASE.flags | {flag: not CASE.flags[flag]}), save=True)


@pytest.mark.parametrize("name", ["input", "h0", "c0", "weights", "masks", "reset"])
def test_a_sparse_tensor(name: str) -> None:
    made = raw(arguments(CASE, torch.float32))
    sparse = put_in(name, 0, to_sparse) if isinstance(made[name], list) else put(name, to_sparse)
    sparse(made)
    with pytest.raises((RuntimeError, NotImplementedError)):  # torch itself refuses
        torch.ops.ltlstm.lstm_stack_forward(*made.values(), **CASE.flags, save=True)


@pytest.mark.parametrize("name", ["input", "h0", "c0", "weights", "masks", "reset"])
def test_a_strided_tensor_is_for_the_wrapper_to_copy(name: str) -> None:
    made = raw(arguments(CASE, torch.float32))
    strided = put_in(name, 0, backwards) if isinstance(made[name], list) else put(name, backwards)
    strided(made)
    op = torch.ops.ltlstm.lstm_stack_forward
    refused(op, name, *made.values(), **CASE.flags, save=True)


def backward_arguments(lanes: int) -> tuple[Any, dict[str, Any]]:
    made = arguments(CASE, torch.float32, lanes)
    forward = ops.lt_lstm_forward if lanes == 2 else ops.lstm_stack_forward
    saved = ["output", "h_n", "c_n", "hidden", "cells", "gates"]
    saved += ["traj_hidden", "traj_cells", "traj_gates"] if lanes == 2 else []
    results = dict(zip(saved, forward(**made, **CASE.flags, save=True), strict=True))
    outer = {f"d_{k}": torch.randn_like(v) for k, v in results.items() if "gates" not in k}
    del results["h_n"], results["c_n"]
    op = torch.ops.ltlstm.lt_lstm_backward if lanes == 2 else torch.ops.ltlstm.lstm_stack_backward
    return op, outer | raw(made) | results | raw_flags(CASE, lanes)


@pytest.mark.parametrize("lanes", [1, 2], ids=["stack", "lt"])
def test_backward_refuses_what_the_forward_did_not_give(lanes: int) -> None:
    op, given = backward_arguments(lanes)
    op(**given)
    changed = [k for k, v in given.items() if k.startswith("d_") or "gates" in k or "hidden" in k]
    for name in [*changed, "output", "cells"]:
        for change in (grown(-1), grown(0), double, lambda t: t[0]):
            refused(op, name, **(given | {name: change(given[name])}))


@pytest.mark.parametrize("lanes", [1, 2], ids=["stack", "lt"])
def test_backward_refuses_the_outputs_of_an_inference_pass(lanes: int) -> None:
    op, given = backward_arguments(lanes)
    refused(op, "hidden", **(given | {"hidden": given["hidden"][:0]}))
    refused(op, "gates", **(given | {"gates": given["gates"][:0]}))


def test_the_cell_refuses() -> None:
    preact, c, p = torch.randn(3, 20), torch.randn(3, 5), torch.randn(3, 5)
    refused(ops.cell_forward, "preact", preact[0], c, p)
    refused(ops.cell_forward, "preact", preact[:, :-1], c, p)
    refused(ops.cell_forward, "preact", preact.half(), c, p)
    refused(ops.cell_forward, "c", preact, c[:-1], p)
    refused(ops.cell_forward, "c", preact, c.double(), p)
    refused(ops.cell_forward, "peephole", preact, c, p[:2])
    refused(ops.cell_forward, "peephole", preact, c, p[0])
    refused(ops.cell_backward, "d_h", c[:-1], None, preact, c, p)
    refused(ops.cell_backward, "d_c_new", None, c.double(), preact, c, p)
