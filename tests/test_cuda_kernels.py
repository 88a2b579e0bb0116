# SPDX-License-Identifier: Apache-2.0
"""The time-LSTM's CUDA kernels, run on the emulator, against the float64 reference.

Forward gives h, c, h_n and c_n; backward is given what forward saved, as in training. Each case
runs under several schedules, which must all give the same bits.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from emulated_time_lstm import (
    Problem,
    inputs,
    output_gradients,
    reference,
    run_backward,
    run_forward,
)
from emulator.builds import CSRC, KERNELS, build, missing_sanitizer
from tolerance import assert_all_close

SEEDS = (0, 1)

FP16, FP32 = torch.float16, torch.float32

CASES = [
    Problem("grid", T=5, N=8, H=64, units=8, columns=8, k_splits=2, held=True),
    Problem("grid", T=3, N=3, H=345, units=32, columns=8, k_splits=2, held=True),
    Problem("grid", T=4, N=20, H=37, units=8, columns=16, k_splits=4, held=True),
    Problem("grid", T=3, N=37, H=56, units=16, columns=32, k_splits=4),
    Problem("grid", T=1, N=1, H=1, units=8, columns=8, k_splits=4, held=True),
    Problem("grid", T=6, N=11, H=24, units=8, columns=8, k_splits=4, held=True, packed=True,
            reset=True),
    Problem("grid", T=6, N=11, H=24, units=8, columns=16, k_splits=4, held=True, packed=True,
            reset=True, bidirectional=True, peephole=True),
    Problem("grid", T=5, N=9, H=40, P=19, units=16, columns=16, k_splits=4, bidirectional=True,
            packed=True, peephole=True, reset=True),
    Problem("grid", T=3, N=3, H=33, P=9, units=8, columns=8, k_splits=2, reverse=True),
    Problem("grid", T=4, N=5, H=20, units=8, columns=8, k_splits=4, held=True, peephole=True,
            recompute=True),
    Problem("block", T=5, N=13, H=64, units=64, columns=8),
    Problem("block", T=5, N=21, H=30, units=32, columns=16, reset=True),
    Problem("block", T=4, N=33, H=13, units=16, columns=32, back_splits=4, packed=True,
            bidirectional=True),
    Problem("block", T=4, N=5, H=21, units=24, columns=8, back_splits=4, reverse=True,
            packed=True),
    Problem("block", T=4, N=5, H=21, P=7, units=24, columns=8, k_splits=4, peephole=True),
    *[Problem("block", T=3, N=2, H=9, units=16, columns=8, only=only)
      for only in ("d_hidden", "d_cells", "d_h_n", "d_c_n")],
]  # fmt: skip

CLUSTER = [
    Problem("cluster", T=5, N=8, H=64, units=16, columns=8),
    Problem("cluster", T=6, N=19, H=61, units=32, columns=16, reset=True),
    Problem("cluster", T=6, N=19, H=61, units=32, columns=16, packed=True, peephole=True),
    Problem("cluster", T=3, N=35, H=50, P=25, units=16, columns=32, k_splits=4,
            bidirectional=True),
    Problem("cluster", T=5, N=9, H=40, P=19, units=24, columns=8, k_splits=2, packed=True,
            bidirectional=True, reset=True, peephole=True),
    Problem("cluster", T=4, N=3, H=33, P=9, units=8, columns=8, k_splits=4, reverse=True),
    Problem("cluster", T=1, N=1, H=3, units=8, columns=8, k_splits=4, held=True),
    Problem("cluster", T=2, N=2, H=9, units=8, columns=8),
    Problem("cluster", T=4, N=9, H=128, units=8, columns=8, k_splits=4, held=True),
    Problem("cluster", T=3, N=3, H=236, units=16, columns=8, k_splits=2, held=True),
]  # fmt: skip

SMALL = [
    Problem(
        "grid", T=5, N=11, H=24, units=8, columns=8, k_splits=4, held=True, packed=True, reset=True
    ),
    Problem("grid", T=3, N=3, H=33, P=9, units=16, columns=8, k_splits=2, peephole=True),
    Problem(
        "cluster", T=5, N=9, H=40, units=24, columns=8, k_splits=2, held=True, bidirectional=True
    ),
    Problem("cluster", T=4, N=3, H=33, P=9, units=16, columns=8, k_splits=4, reset=True),
]

TYPES = [
    Problem("block", T=5, N=9, H=29, units=32, columns=8, dtype=FP16, peephole=True),
    Problem("block", T=5, N=9, H=29, units=32, columns=16, dtype=FP32, reset=True),
    Problem("block", T=4, N=3, H=21, P=11, units=24, columns=16, k_splits=4, dtype=FP32),
    Problem("grid", T=4, N=9, H=29, P=11, units=8, columns=8, k_splits=4, dtype=FP16, packed=True),
    Problem("grid", T=3, N=5, H=45, units=16, columns=8, k_splits=2, held=True, dtype=FP16),
    Problem("grid", T=4, N=19, H=45, units=16, columns=16, k_splits=4, dtype=FP32, packed=True),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kernel of the time-LSTM, by its launchers."""
    units = sorted((CSRC / "cuda").glob("time_lstm*.cu"))
    return build([KERNELS / "time_lstm.cpp", *units], "plain", tmp_path_factory.mktemp("kernels"))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def whole_preact(p: Problem, given: dict[str, Tensor], forward: dict[str, Tensor]) -> Tensor:
    """W_ih x + W_hh h + biases: what backward recomputes the gates from."""
    before = torch.cat([given["h0"], forward["hidden"][: -p.N]]).float()
    return (given["preact"].float() + before @ given["w_hh"].float().T).to(p.dtype)


def check(p: Problem, program: Path) -> None:
    given, gradients = inputs(p), output_gradients(p)
    truth = reference(p, given, gradients, torch.float64)
    plain = reference(p, given, gradients, p.dtype)
    forward = run_forward(p, given, program, SEEDS[0])
    gates = {"gates": whole_preact(p, given, forward)} if p.recompute else {}
    saved = forward | gates
    found = run_backward(p, given, saved, gradients, program, SEEDS[0])
    for seed in SEEDS[1:]:
        assert same(forward, run_forward(p, given, program, seed))
        assert same(found, run_backward(p, given, saved, gradients, program, seed))
    found |= {name: x for name, x in forward.items() if not name.startswith("gates")}
    # What the kernels keep in float is held to the tolerance of the storage type.
    assert_all_close({name: x.to(p.dtype) for name, x in found.items()}, truth, plain)


@pytest.mark.parametrize("p", CASES + CLUSTER + TYPES, ids=str)
def test_results_and_gradients(p: Problem, program: Path) -> None:
    check(p, program)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("regime", ["grid", "cluster"])
def test_what_is_not_finite_ends_and_stays_in_its_row(
    regime: str, value: float, program: Path
) -> None:
    p = Problem(regime, T=4, N=5, H=20, units=8, columns=8, k_splits=4, held=True)
    given, gradients = inputs(p), output_gradients(p)
    right = run_forward(p, given, program, 0)
    right_back = run_backward(p, given, right, gradients, program, 0)
    given["preact"][p.N + 3, :] = value  # step 1 of row 3
    found = run_forward(p, given, program, 1)
    back = run_backward(p, given, found, gradients, program, 1)
    others = [n for n in range(p.N) if n != 3]
    for name in ("hidden", "cells", "d_preact"):
        a, b = ({**right, **right_back}[name], {**found, **back}[name])
        a, b = (x.view(p.T, p.N, -1) for x in (a, b))
        assert torch.equal(a[:, others], b[:, others]), name
    assert not torch.equal(right["hidden"], found["hidden"])


def test_passes_and_more_groups_than_the_batch_needs(program: Path) -> None:
    """A launch of some batch rows leaves the others alone."""
    p = Problem("block", T=3, N=13, H=9, units=16, columns=8)
    given = inputs(p)
    whole = run_forward(p, given, program, 0)
    one = run_forward(replace(p, groups=1), given, program, 0)
    hidden = one["hidden"].view(p.T, p.N, -1)
    assert torch.equal(hidden[:, :8], whole["hidden"].view(p.T, p.N, -1)[:, :8])
    assert hidden[:, 8:].isnan().all()
    last = run_forward(replace(p, groups=1, first_row=8), given, program, 0)
    hidden = last["hidden"].view(p.T, p.N, -1)
    assert torch.equal(hidden[:, 8:], whole["hidden"].view(p.T, p.N, -1)[:, 8:])
    assert hidden[:, :8].isnan().all()
    assert same(whole, run_forward(replace(p, groups=3), given, program, 0))


def test_no_steps(program: Path) -> None:
    check_no_steps(
        Problem("cluster", T=0, N=3, H=9, units=8, columns=8, k_splits=4, held=True), program
    )


def check_no_steps(p: Problem, program: Path) -> None:
    given, gradients = inputs(p), output_gradients(p)
    found = run_forward(p, given, program, 0)
    assert torch.equal(found["h_n"], given["h0"]) and torch.equal(found["c_n"], given["c0"])
    back = run_backward(p, given, found, gradients, program, 0)
    assert torch.equal(back["d_h0"], gradients["d_h_n"])
    assert torch.equal(back["d_c0"], gradients["d_c_n"])


@pytest.mark.parametrize("watcher", ["memory", "threads"])
def test_sanitizers_have_nothing_to_say(
    watcher: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if reason := missing_sanitizer(watcher):
        pytest.skip(reason)
    small = build([KERNELS / "small.cpp"], watcher, tmp_path_factory.mktemp("small"))
    for p in SMALL:
        given = inputs(p)
        saved = run_forward(p, given, small, 1)
        run_backward(p, given, saved, output_gradients(p), small, 2)


PRODUCTION = [
    Problem("grid", T=3, N=16, H=1024, units=8, columns=16, k_splits=4, held=True),
    Problem("grid", T=2, N=3, H=2048, units=16, columns=8, k_splits=4, back_splits=8, held=True),
]


@pytest.mark.parametrize("p", PRODUCTION, ids=str)
def test_production_tiling(p: Problem, program: Path) -> None:
    """The blocks, warps and slices of K that a GPU will run; of both passes for the largest H."""
    given, gradients = inputs(p), output_gradients(p)
    found = run_forward(p, given, program, 0)
    names = ["hidden", "cells", "h_n", "c_n"]
    if p.back_splits:
        found |= run_backward(p, given, found, gradients, program, 0)
        names += ["d_preact", "d_h0", "d_c0"]
    truth, plain = (reference(p, given, gradients, dtype) for dtype in (torch.float64, p.dtype))
    assert_all_close(
        {name: found[name].to(p.dtype) for name in names},
        {name: truth[name] for name in names},
        {name: plain[name] for name in names},
    )
