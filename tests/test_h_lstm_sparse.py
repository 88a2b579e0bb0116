# SPDX-License-Identifier: Apache-2.0
"""The operator of the H-LSTM over compiled sparse weights.

The matrices themselves: test_sparse.py; the module: test_h_lstm_compiled.py.
"""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import h_lstm_problems as problems
import ltlstm
from child import instruction_sets, run_alone
from h_lstm_problems import CASES, TOGETHER, HCase
from ltlstm import functional
from ltlstm_kernels import sparse
from operators import poisoned_memory
from sparse_masks import PATTERNS, mask_of
from tolerance import assert_all_close

F32, F64 = torch.float32, torch.float64
DROPLESS = [case for case in CASES if not (case.dropout or case.gate_dropout)]
# Wide enough for windows, with rows and columns that fill no vector.
WIDE = [
    HCase(T=5, N=1, D=45, H=70, L=2, K=67, J=2, packed=True, bidirectional=True),
    HCase(T=4, N=13, D=33, H=65, K=40, reset=True, packed=True),
    HCase(T=3, N=4, D=40, H=48, K=64, bias=False),
]  # fmt: skip
OUTPUTS = ("output", "h_n", "c_n")


def problem(case: HCase, dtype: torch.dtype, pattern: str, density: float) -> dict[str, Any]:
    """The arguments that the sparse operator and the reference share, with masked weights."""
    made = problems.arguments(case, dtype)
    made["weights"] = [
        torch.where(mask_of(pattern, w.shape, density, seed), w, 0) if is_weight(case, seed) else w
        for seed, w in enumerate(made["weights"])
    ]
    del made["masks"], made["gate_masks"]
    return made


def is_weight(case: HCase, index: int) -> bool:
    """Of the flat list; the others are biases."""
    if not case.bias:
        return True
    index %= 3 + 2 * case.J
    return index in (0, 1) or (index > 2 and index % 2 == 1)


def oracle(case: HCase, made: dict[str, Any]) -> dict[str, Tensor]:
    return dict(zip(OUTPUTS, ltlstm.reference.h_lstm(**made, **case.flags)[:3], strict=True))


def operator(case: HCase, made: dict[str, Any]) -> dict[str, Tensor]:
    compiled = [
        sparse.sparse_compile(w) if is_weight(case, i) else w for i, w in enumerate(made["weights"])
    ]
    r = sparse.h_lstm_sparse_forward(**made | {"weights": compiled}, **case.flags)
    return r._asdict()


def check(case: HCase, dtype: torch.dtype, pattern: str, density: float = 0.1) -> None:
    print(case, dtype, pattern, flush=True)
    with poisoned_memory():
        found = operator(case, problem(case, dtype, pattern, density))
    assert_all_close(
        found,
        oracle(case, problem(case, F64, pattern, density)),
        oracle(case, problem(case, F32, pattern, density)),
    )


@torch.no_grad()
def check_all(isa: str) -> None:
    for number, case in enumerate([*DROPLESS, *WIDE]):
        for dtype in (F32, F64):
            for pattern in ("element", list(PATTERNS)[number % len(PATTERNS)]):
                check(case, dtype, pattern)


@pytest.mark.parametrize("isa", instruction_sets())
def test_is_the_reference(isa: str) -> None:
    run_alone(check_all, isa, LTLSTM_CPU_ISA=isa)


@torch.no_grad()
def check_threads() -> None:
    """Threads share the units of a layer and meet after each product: the same bits as one."""
    for case in TOGETHER:
        made = problem(replace(case, gate_dropout=False), F32, "element", 0.5)
        torch.set_num_threads(1)
        alone = operator(case, made)
        torch.set_num_threads(2)
        for _ in range(20):
            with poisoned_memory():
                together = operator(case, made)
            assert all(torch.equal(together[name], alone[name]) for name in alone), case


def test_threads_change_nothing() -> None:
    run_alone(check_threads)


def test_rows_do_not_depend_on_each_other() -> None:
    case = HCase(T=3, N=13, D=40, H=64, K=48)
    made = problem(case, F32, "element", 0.1)
    whole = operator(case, made)["output"]
    for n in (0, 7, 12):
        row = made | {name: made[name][:, n : n + 1] for name in ("input", "h0", "c0")}
        assert torch.equal(operator(case, row)["output"][:, 0], whole[:, n])


def test_more_steps_than_stay_in_the_cache() -> None:
    # The product for the inputs runs for some steps at a time.
    case = HCase(T=900, N=3, D=2, H=33, K=160, J=2, reset=True, bidirectional=True)
    check(case, F32, "element")


def test_arguments_are_not_written() -> None:
    case = HCase(T=3, N=3, D=9, H=7, K=6, reset=True)
    made, again = (problem(case, F32, "element", 0.5) for _ in range(2))
    operator(case, made)
    for name in ("input", "h0", "c0", "reset"):
        assert torch.equal(made[name], again[name])


def test_opcheck() -> None:
    case = HCase(T=3, N=2, D=5, H=7, L=2, K=6, J=2, bidirectional=True)
    made = problem(case, F32, "element", 0.3)
    weights = [
        sparse.sparse_compile(w) if is_weight(case, i) else w for i, w in enumerate(made["weights"])
    ]
    arguments = (*[made[name] for name in ("input", "h0", "c0")], weights, None, None)
    flags = (case.bias, case.bidirectional, case.slope)
    tests = ("test_schema", "test_faketensor")
    op = torch.ops.ltlstm.h_lstm_sparse_forward.default
    assert set(torch.library.opcheck(op, (*arguments, *flags), test_utils=tests).values()) == {
        "SUCCESS"
    }


def test_a_list_that_does_not_fit_is_refused() -> None:
    case = HCase(T=2, N=2, D=5, H=7, K=6)
    made = problem(case, F32, "element", 0.5)
    good = [
        sparse.sparse_compile(w) if is_weight(case, i) else w for i, w in enumerate(made["weights"])
    ]
    bad: list[tuple[int, Tensor, str]] = [
        (0, made["weights"][0], "weights[0] must be a contiguous uint8 CPU tensor"),
        (0, good[3], "weights[0] must have 4K rows, K positive, got (4, 7, 6)"),
        (1, good[0], "weights[1] must be compiled from shape (24, 7), got (1, 24, 5)"),
        (1, good[1][:-4].clone(), "weights must come from sparse_compile"),
        (1, sparse.sparse_compile(made["weights"][1].double()), "weights must come from"),
        (2, good[1], "weights[2] must be a contiguous float32 CPU tensor of shape (24)"),
        (3, good[1], "weights[3] must be compiled from shape (4, 7, 6), got (1, 24, 7)"),
    ]  # fmt: skip
    for index, tensor, text in bad:
        weights = [*good[:index], tensor, *good[index + 1 :]]
        with pytest.raises(RuntimeError, match=re.escape(f"h_lstm_sparse_forward: {text}")):
            sparse.h_lstm_sparse_forward(**made | {"weights": weights}, **case.flags)
    half = made | {"weights": good, "input": made["input"].bfloat16()}
    with pytest.raises(RuntimeError, match="input must be float32 or float64, got bfloat16"):
        sparse.h_lstm_sparse_forward(**half, **case.flags)


BESIDE: dict[str, dict[str, Any]] = {
    "dropout": {"dropout": 0.5, "training": True},
    "gate_dropout": {"gate_dropout": 0.5, "training": True},
    "return_states": {"return_states": True},
    "backend 'reference'": {"backend": "reference"},
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_does_not_go_together_is_refused(name: str) -> None:
    case = HCase(T=2, N=2, D=5, H=7, L=2, K=6)
    made = problem(case, F32, "element", 0.5)
    compiled = [
        sparse.sparse_compile(w) if is_weight(case, i) else w for i, w in enumerate(made["weights"])
    ]
    text = f"h_lstm: compiled weights must not be used beside {name}, got 10"
    with pytest.raises(ValueError, match=re.escape(text)):
        functional.h_lstm(made["input"], None, made["weights"], compiled=compiled, **BESIDE[name])
