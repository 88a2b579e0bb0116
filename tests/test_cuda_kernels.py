# SPDX-License-Identifier: Apache-2.0
"""The time-LSTM's CUDA kernels, run on the emulator, against the float64 reference.

Forward gives h, c, h_n and c_n; backward is given what forward saved, as in training. Each case
runs under several schedules, which must all give the same bits.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from emulated import build
from emulated_time_lstm import (
    Problem,
    inputs,
    output_gradients,
    reference,
    run_backward,
    run_forward,
)
from tolerance import assert_all_close

SEEDS = (0, 1, 2)

FP16, FP32 = torch.float16, torch.float32

CASES = [
    Problem("grid", T=5, N=8, H=64, units=8, columns=8, k_splits=2),
    Problem("grid", T=4, N=20, H=37, units=8, columns=16, k_splits=4),
    Problem("grid", T=3, N=37, H=56, units=16, columns=32, k_splits=4),
    Problem("grid", T=1, N=1, H=1, units=8, columns=8, k_splits=4),
    Problem("grid", T=6, N=11, H=24, units=8, columns=8, k_splits=4, packed=True, reset=True),
    Problem("grid", T=6, N=11, H=24, units=8, columns=16, k_splits=4, packed=True, reset=True,
            bidirectional=True, peephole=True),
    Problem("grid", T=5, N=9, H=40, P=19, units=16, columns=16, k_splits=4, bidirectional=True,
            packed=True, peephole=True, reset=True),
    Problem("grid", T=3, N=3, H=33, P=9, units=8, columns=8, k_splits=2, reverse=True),
    Problem("grid", T=4, N=5, H=20, units=8, columns=8, k_splits=4, peephole=True, recompute=True),
    Problem("block", T=5, N=13, H=64, units=64, columns=8),
    Problem("block", T=5, N=21, H=30, units=32, columns=16, reset=True),
    Problem("block", T=4, N=33, H=13, units=16, columns=32, k_splits=4, packed=True,
            bidirectional=True),
    Problem("block", T=4, N=5, H=21, units=24, columns=8, k_splits=4, reverse=True, packed=True),
    Problem("block", T=4, N=5, H=21, P=7, units=24, columns=8, k_splits=4, peephole=True),
    *[Problem("block", T=3, N=2, H=9, units=16, columns=8, k_splits=2, only=only)
      for only in ("d_hidden", "d_cells", "d_h_n", "d_c_n")],
]  # fmt: skip

CLUSTER = [
    Problem("cluster", T=5, N=8, H=64, units=16, columns=8),
    Problem("cluster", T=6, N=19, H=61, units=32, columns=16, reset=True),
    Problem("cluster", T=6, N=19, H=61, units=32, columns=16, k_splits=4, packed=True, reset=True),
    Problem("cluster", T=3, N=35, H=50, units=16, columns=32, k_splits=4, bidirectional=True),
    Problem("cluster", T=5, N=9, H=40, P=19, units=24, columns=8, k_splits=2, packed=True,
            bidirectional=True, reset=True, peephole=True),
    Problem("cluster", T=4, N=3, H=33, P=9, units=8, columns=16, k_splits=4, reverse=True),
    Problem("cluster", T=1, N=1, H=3, units=8, columns=8, k_splits=4),
    Problem("cluster", T=2, N=2, H=9, units=8, columns=8),
    Problem("cluster", T=4, N=9, H=128, units=8, columns=8, k_splits=4),
]  # fmt: skip

TYPES = [
    Problem("block", T=5, N=9, H=29, units=32, columns=8, dtype=FP16, peephole=True),
    Problem("block", T=5, N=9, H=29, units=32, columns=16, dtype=FP32, reset=True),
    Problem("block", T=4, N=3, H=29, P=11, units=32, columns=16, k_splits=4, dtype=FP32),
    Problem("grid", T=4, N=9, H=29, P=11, units=8, columns=8, k_splits=4, dtype=FP16, packed=True),
    Problem("grid", T=4, N=19, H=45, units=16, columns=16, k_splits=4, dtype=FP32, packed=True),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emulated")


@pytest.fixture(scope="module")
def programs(folder: Path) -> dict[str, Path]:
    return {
        regime: build(regime, "plain", folder) for regime in ("grid", "block", "cluster", "types")
    }


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def whole_preact(p: Problem, given: dict[str, Tensor], forward: dict[str, Tensor]) -> Tensor:
    """W_ih x + W_hh h + biases: what backward recomputes the gates from."""
    before = torch.cat([given["h0"], forward["hidden"][: -p.N]]).float()
    return (given["preact"].float() + before @ given["w_hh"].float().T).to(p.dtype)


def check(p: Problem, program: Path, folder: Path) -> None:
    given, gradients = inputs(p), output_gradients(p)
    truth = reference(p, given, gradients, torch.float64)
    plain = reference(p, given, gradients, p.dtype)
    forward = run_forward(p, given, program, folder, SEEDS[0])
    gates = {"gates": whole_preact(p, given, forward)} if p.recompute else {}
    saved = forward | gates
    found = run_backward(p, given, saved, gradients, program, folder, SEEDS[0])
    for seed in SEEDS[1:]:
        assert same(forward, run_forward(p, given, program, folder, seed))
        assert same(found, run_backward(p, given, saved, gradients, program, folder, seed))
    found |= {name: x for name, x in forward.items() if not name.startswith("gates")}
    # What the kernels keep in float is held to the tolerance of the storage type.
    assert_all_close({name: x.to(p.dtype) for name, x in found.items()}, truth, plain)


@pytest.mark.parametrize("p", CASES + CLUSTER, ids=str)
def test_bfloat16(p: Problem, programs: dict[str, Path], folder: Path) -> None:
    check(p, programs[p.regime], folder)


@pytest.mark.parametrize("p", TYPES, ids=str)
def test_other_types(p: Problem, programs: dict[str, Path], folder: Path) -> None:
    check(p, programs["types"], folder)
