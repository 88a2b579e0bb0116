# SPDX-License-Identifier: Apache-2.0
"""The time loop whose W_hh stays in memory, on the emulator, against the float64 reference: a
product and a pointwise kernel a step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from emulated_time_lstm import Problem, inputs, output_gradients, run_backward, run_forward
from emulator.builds import CSRC, KERNELS, build, missing_sanitizer
from test_cuda_kernels import check, check_no_steps

FP16, FP32 = torch.float16, torch.float32


def streamed(**sizes: Any) -> Problem:
    return Problem("streamed", **sizes)


# Widths of which a thread takes 16 bytes, and others.
CASES = [
    streamed(T=5, N=8, H=64),
    streamed(T=4, N=20, H=37),
    streamed(T=1, N=1, H=1),
    streamed(T=6, N=11, H=24, packed=True, reset=True),
    streamed(T=6, N=11, H=24, packed=True, reset=True, reverse=True),
    streamed(T=6, N=11, H=24, packed=True, reset=True, bidirectional=True, peephole=True),
    streamed(T=5, N=9, H=40, P=19, bidirectional=True, packed=True, peephole=True, reset=True),
    streamed(T=5, N=3, H=33, P=9, reset=True, reverse=True),
    streamed(T=4, N=5, H=32, P=16, reset=True),
    streamed(T=4, N=5, H=20, peephole=True, recompute=True),
    streamed(T=4, N=5, H=24, recompute=True),
    streamed(T=5, N=9, H=29, dtype=FP16, peephole=True, packed=True),
    streamed(T=5, N=9, H=32, P=8, dtype=FP16, bidirectional=True, reset=True),
    streamed(T=5, N=9, H=29, dtype=FP32, reset=True, packed=True),
    streamed(T=5, N=9, H=36, dtype=FP32, peephole=True, bidirectional=True),
    streamed(T=4, N=3, H=21, P=11, dtype=FP32, packed=True, reverse=True),
    *[streamed(T=3, N=2, H=9, only=only) for only in ("d_hidden", "d_cells", "d_h_n", "d_c_n")],
]

SMALL = [
    streamed(T=5, N=11, H=24, packed=True, reset=True, peephole=True, bidirectional=True),
    streamed(T=3, N=3, H=33, P=9, peephole=True, dtype=FP32),
    streamed(T=4, N=3, H=16, P=8, reset=True, recompute=True, dtype=FP16),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("plain", tmp_path_factory.mktemp("streamed"))


def built(watcher: str, folder: Path) -> Path:
    return build([KERNELS / "streamed.cpp", CSRC / "cuda" / "time_step.cu"], watcher, folder)


@pytest.mark.parametrize("p", CASES, ids=str)
def test_results_and_gradients(p: Problem, program: Path) -> None:
    check(p, program)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_in_its_row(value: float, program: Path) -> None:
    p = streamed(T=4, N=5, H=20, reset=True)
    given, gradients = inputs(p), output_gradients(p)

    def both() -> dict[str, Tensor]:
        saved = run_forward(p, given, program, 0)
        return saved | run_backward(p, given, saved, gradients, program, 0)

    right = both()
    given["preact"][p.N + 3, :] = value  # step 1 of row 3
    found = both()
    others = [n for n in range(p.N) if n != 3]
    for name in ("hidden", "cells", "d_preact"):
        a, b = (x[name].view(p.T, p.N, -1)[:, others] for x in (right, found))
        assert torch.equal(a, b), name
    assert not torch.equal(right["hidden"], found["hidden"])


def test_no_steps(program: Path) -> None:
    check_no_steps(streamed(T=0, N=3, H=9), program)


@pytest.mark.parametrize("watcher", ["memory", "threads"])
def test_sanitizers_have_nothing_to_say(watcher: str, tmp_path: Path) -> None:
    if reason := missing_sanitizer(watcher):
        pytest.skip(reason)
    program = built(watcher, tmp_path)
    for p in SMALL:
        given = inputs(p)
        saved = run_forward(p, given, program, 1)
        run_backward(p, given, saved, output_gradients(p), program, 2)
