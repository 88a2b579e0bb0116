# SPDX-License-Identifier: Apache-2.0
"""Properties that hold for any weights: how lengths, resets, chunks, masks and options must act."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cases import Case, arguments
from ltlstm import reference
from tolerance import assert_close

F64 = torch.float64
BOTH = pytest.mark.parametrize("bidirectional", [False, True])
LENGTHS = torch.tensor([4, 9, 1, 6])


def case(**options: Any) -> Case:
    return Case(**{"T": 9, "N": 4, "D": 3, "H": 5, "L": 3, "P": 2, "peephole": True} | options)


def lt_lstm(c: Case, made: dict[str, Any], **kwargs: Any) -> dict[str, Tensor]:
    names = ("output", "h_n", "c_n", "hidden", "cells", "g", "m")
    results = reference.lt_lstm(**(made | kwargs), **c.flags)
    return dict(zip(names, results, strict=True))


def contexts(c: Case, tau: int) -> list[Tensor]:
    return [torch.randn(tau + 1, c.dirs * c.out, dtype=F64) for _ in range(c.L - 1)]


def batch_dim(name: str) -> int:
    return {"input": 0, "output": 1, "h_n": 1, "c_n": 1}.get(name, 2)


@BOTH
@pytest.mark.parametrize("tau", [0, 2])
def test_lengths_equal_rows_run_alone(bidirectional: bool, tau: int) -> None:
    c = case(bidirectional=bidirectional, dropout=True, reset=True)
    made = arguments(c, F64, lanes=2)
    q = contexts(c, tau)
    whole = lt_lstm(c, made, contexts=q, lengths=LENGTHS)
    for n, length in enumerate(LENGTHS.tolist()):
        row = slice(n, n + 1)
        alone = lt_lstm(
            c,
            made,
            input=made["input"][:length, row],
            h0=made["h0"][:, row],
            c0=made["c0"][:, row],
            masks=[mask[:length, row] for mask in made["masks"]],
            reset=made["reset"][:length, row],
            contexts=q,
        )
        for name, expected in alone.items():
            actual = whole[name].narrow(batch_dim(name), n, 1)
            if name not in ("h_n", "c_n"):
                time = batch_dim(name) - 1
                assert not actual.narrow(time, length, c.T - length).any(), name
                actual = actual.narrow(time, 0, length)
            assert_close(actual, expected, name=name)


def test_what_lies_past_the_end_is_not_read() -> None:
    c = case(reset=True)
    made = arguments(c, F64, lanes=2)
    clean = made["input"].requires_grad_()
    past = torch.arange(c.T)[:, None] >= LENGTHS
    dirty = clean.detach().masked_fill(past[..., None], torch.nan).requires_grad_()
    q = contexts(c, 2)
    weights = [w.requires_grad_() for w in made["weights"]]
    grads = []
    for x in (clean, dirty):
        results = lt_lstm(c, made, input=x, lengths=LENGTHS, contexts=q)
        total = sum(result.sum() for result in results.values())
        grads.append([*results.values(), *torch.autograd.grad(total, [x, *weights])])
    for actual, expected in zip(*grads, strict=True):
        assert torch.equal(actual, expected)


@BOTH
@pytest.mark.parametrize("tau", [0, 2])
def test_reset_equals_running_the_pieces(bidirectional: bool, tau: int) -> None:
    c = case(bidirectional=bidirectional, dropout=True)
    made = arguments(c, F64, lanes=2)
    q = contexts(c, tau)
    at = 4
    reset = torch.zeros(c.T, c.N, dtype=torch.bool)
    reset[at] = True
    whole = lt_lstm(c, made, reset=reset, contexts=q)
    # h0 enters the forward direction in the first piece and the reverse one in the last.
    direction = torch.arange(len(made["h0"])) % c.dirs
    enters = [direction == 0, direction == 1]
    pieces = []
    for k, part in enumerate([slice(0, at), slice(at, c.T)]):
        states = {
            name: made[name].masked_fill(~enters[k][:, None, None], 0) for name in ("h0", "c0")
        }
        masks = [mask[part] for mask in made["masks"]]
        pieces.append(
            lt_lstm(c, made, input=made["input"][part], masks=masks, contexts=q, **states)
        )
    for name in ("output", "hidden", "cells", "g", "m"):
        joined = torch.cat([piece[name] for piece in pieces], dim=batch_dim(name) - 1)
        assert_close(whole[name], joined, name=name)
    for name in ("h_n", "c_n"):
        final = torch.where(enters[0][:, None, None], pieces[1][name], pieces[0][name])
        assert_close(whole[name], final, name=name)


@pytest.mark.parametrize("rows", ["packed", "lengths"])
def test_a_reset_of_some_rows_leaves_the_others(rows: str) -> None:
    c = case(bidirectional=True, packed=rows == "packed")
    made = arguments(c, F64, lanes=2)
    extra = {} if c.packed else {"lengths": LENGTHS}
    first_row = torch.zeros(c.rows, dtype=torch.bool)
    if c.packed:
        starts = made["batch_sizes"].cumsum(0) - made["batch_sizes"]
        first_row[starts[3]] = True
        others = torch.ones(c.rows[0], dtype=torch.bool)
        others[starts] = False
    else:
        first_row[3, 0] = True
        others = torch.ones(c.rows, dtype=torch.bool)
        others[:, 0] = False
    plain = lt_lstm(c, made, **extra)["output"]
    reset = lt_lstm(c, made | {"reset": first_row}, **extra)["output"]
    assert torch.equal(plain[others], reset[others])
    assert not torch.equal(plain, reset)


def test_chunk_by_chunk_equals_the_whole() -> None:
    c = case(dropout=True, reset=True)
    made = arguments(c, F64, lanes=2)
    whole = lt_lstm(c, made)
    h, cell, chunks = made["h0"], made["c0"], []
    for part in (slice(0, 1), slice(1, 6), slice(6, 9)):
        masks = [mask[part] for mask in made["masks"]]
        cut = {"input": made["input"][part], "reset": made["reset"][part], "masks": masks}
        chunks.append(lt_lstm(c, made | cut, h0=h, c0=cell))
        h, cell = chunks[-1]["h_n"], chunks[-1]["c_n"]
    for name in ("output", "hidden", "cells", "g", "m"):
        joined = torch.cat([chunk[name] for chunk in chunks], dim=batch_dim(name) - 1)
        assert_close(whole[name], joined, name=name)
    assert_close(whole["h_n"], h)
    assert_close(whole["c_n"], cell)


def test_reverse_is_forward_on_flipped_time() -> None:
    c = case(L=1, bidirectional=True)
    made = arguments(c, F64)
    y, h_n, c_n, _, cells = reference.lstm(**made, **c.flags)
    half = len(made["weights"]) // 2
    flipped = made | {
        "input": made["input"].flip(0),
        "h0": made["h0"][1:],
        "c0": made["c0"][1:],
        "weights": made["weights"][half:],
    }
    again = reference.lstm(**flipped, **(c.flags | {"bidirectional": False}))
    assert_close(y[..., c.out :], again[0].flip(0))
    assert_close(h_n[1:], again[1])
    assert_close(c_n[1:], again[2])
    assert_close(cells[1:], again[4].flip(1))


@pytest.mark.parametrize("depth_unit", ["lstm", "gated", "max"])
def test_a_context_of_this_frame_alone_is_no_context(depth_unit: str) -> None:
    c = case(P=0, peephole=False, bidirectional=True)
    width, rows = c.dirs * c.H, {"lstm": 4, "gated": 2, "max": 1}[depth_unit]
    hidden = torch.randn(c.L, c.T, c.N, width, dtype=F64)
    u = [torch.randn(rows * width, width, dtype=F64) for _ in range(2 * c.L - 1)]
    one = [torch.ones(1, width, dtype=F64)] * (c.L - 1)
    options: dict[str, Any] = {"bias": False, "depth_unit": depth_unit}
    plain = reference.layer_trajectory(hidden, u, **options)[0]
    assert torch.equal(plain, reference.layer_trajectory(hidden, u, contexts=one, **options)[0])
    # And packed rows look ahead as padded ones do.
    sizes = torch.tensor([4, 4, 3, 3, 3, 2, 1, 1, 1])
    ends = torch.tensor([9, 6, 5, 2])
    there = torch.arange(c.T)[:, None] < ends
    q = contexts(c, 2)
    padded = reference.layer_trajectory(hidden, u, contexts=q, lengths=ends, **options)[0]
    packed = reference.layer_trajectory(
        hidden[:, there], u, contexts=q, batch_sizes=sizes, **options
    )[0]
    assert_close(padded[:, there], packed)


def test_shared_layer_weights_are_the_same_tensors_repeated() -> None:
    c = case()
    made = arguments(c, F64, lanes=2)
    first, later = made["traj_weights"][:5], made["traj_weights"][5:11]
    separate = [w.clone().requires_grad_() for w in (*first, *later, *later)]
    shared = [w.requires_grad_() for w in later]
    one = lt_lstm(c, made, traj_weights=separate)["output"]
    two = lt_lstm(c, made, traj_weights=[*first, *shared, *shared])["output"]
    assert torch.equal(one, two)
    each = torch.autograd.grad(one.sum(), separate)[5:]
    summed = torch.autograd.grad(two.sum(), shared)
    for total, a, b in zip(summed, each[:6], each[6:], strict=True):
        assert_close(total, a + b)


def test_the_layer_lane_never_touches_the_time_lane() -> None:
    c = case(bidirectional=True, dropout=True, reset=True)
    made = arguments(c, F64, lanes=2)
    both = lt_lstm(c, made)
    del made["traj_weights"]
    made["masks"] = made["masks"][:-1]
    time = reference.lstm(**made, **c.flags)
    for name, expected in zip(("h_n", "c_n", "hidden", "cells"), time[1:], strict=True):
        assert torch.equal(both[name], expected)


def test_masks_for_the_time_lane_alone() -> None:
    c = case(dropout=True)
    made = arguments(c, F64, lanes=2)
    time_only = lt_lstm(c, made, masks=made["masks"][:-1])
    g, m = reference.layer_trajectory(
        time_only["hidden"], made["traj_weights"], projected=True, peephole=True
    )
    assert torch.equal(time_only["g"], g)
    assert m is not None and torch.equal(time_only["m"], m)
    everywhere = lt_lstm(c, made)
    assert torch.equal(time_only["hidden"], everywhere["hidden"])
    dropped = everywhere["hidden"] * torch.stack(made["masks"])
    g, _ = reference.layer_trajectory(dropped, made["traj_weights"], projected=True, peephole=True)
    assert_close(everywhere["g"], g)
