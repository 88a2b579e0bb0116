# SPDX-License-Identifier: Apache-2.0
"""The H-LSTM's Triton kernels against the oracle, in Triton's interpreter.

The interpreter is chosen when Triton is imported, so each test runs in a Python of its own, where
the Triton kernels serve the operators on CPU tensors: what is compared is what a CUDA tensor gets,
autograd and all.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from child import run_alone
from h_lstm_problems import BASE, HCase, arguments, call, raw
from operators import OUTPUTS
from triton_problems import CASES, DEEP, EXACT, HALF, check, planned, sparse_blocks


def interpreted(*functions: Callable[[], None]) -> None:
    """Runs them where the operators are served by Triton kernels in the interpreter."""
    run_alone(
        _prepared, [f.__name__ for f in functions], TRITON_INTERPRET="1", OMP_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
    )  # fmt: skip


def _prepared(names: list[str]) -> None:
    import triton_interpreter as interpreter
    from ltlstm_kernels import triton_ops

    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True)
    triton_ops.register("CPU")
    for name in names:
        interpreter.launches.clear()
        globals()[name]()
        assert interpreter.launches, f"no Triton kernel ran in {name}"


def _cases() -> None:
    for case in CASES:
        check(case, EXACT)


def _each_output() -> None:
    for path in OUTPUTS:
        check(replace(BASE, T=3), EXACT, (path,))


def _half() -> None:
    for dtype in HALF:
        for case in (HCase(T=6, N=18, D=9, H=37, K=40), replace(BASE, J=2, reset=True, slope=0.0)):
            check(case, dtype)
            with torch.no_grad():
                call(case, arguments(case, dtype), save=False)


def test_half_precision() -> None:
    interpreted(_half)


def _inference_gives_the_same() -> None:
    for case in (CASES[2], DEEP):
        made = arguments(case, EXACT)
        kept = call(case, made, save=True)
        # Other blocks, another order of sums: 16 instead of 32.
        for name, one, other in zip(OUTPUTS, kept[:3], call(case, made, save=False), strict=False):
            torch.testing.assert_close(one, other, msg=name)


def _sparse() -> None:
    for block in (16, 32):
        _sparse_in_blocks_of(block)


def _sparse_in_blocks_of(block: int) -> None:
    import triton_interpreter as interpreter

    case = HCase(T=3, N=5, D=7, H=100, K=72, J=2)
    dense = arguments(case, EXACT)
    thin = dense | {"weights": sparse_blocks(dense["weights"], block, 0.2)}
    with planned(block=block, depth=64 // block):
        found = check(case, EXACT, change=lambda made: thin)
        # Growth ranks dormant positions by their gradient: it is there where a weight is zero.
        dormant = [w == 0 for w in thin["weights"]]
        for i in (1, 3, 5):
            assert found[f"d_weights[{i}]"][dormant[i]].any()
        counts = []
        for made in (dense, thin):
            call(case, made, save=False)
            counts.append(interpreter.loaded[-1])
    assert counts[1] < 0.4 * counts[0]


def test_empty_blocks_are_never_read() -> None:
    interpreted(_sparse)


def _shared() -> None:
    import triton_interpreter as interpreter

    wide, deep = HCase(T=3, N=20, D=5, H=40, K=50), replace(DEEP, T=3, H=37, L=1, N=18)
    for parts, case in ((2, wide), (3, deep)):
        interpreter.columns.clear()
        with planned(block=16, units=4, parts=parts):
            check(case, EXACT)
        assert set(interpreter.columns) == {parts}


def test_programs_that_share_the_units() -> None:
    """Each program in a process of its own: the barrier between them is a barrier."""
    interpreted(_shared)


def _opcheck() -> None:
    from torch.library import opcheck

    case = replace(BASE, T=2, N=2, H=3, K=4, reset=True, gate_dropout=True)
    made = raw(arguments(case, EXACT))
    for t in (made["input"], *made["weights"]):
        t.requires_grad_()
    positional = (*made.values(), *case.flags.values())
    opcheck(torch.ops.ltlstm.h_lstm_forward.default, (*positional, True))
    made = raw(arguments(case, EXACT))
    results = torch.ops.ltlstm.h_lstm_forward(*made.values(), *case.flags.values(), True)
    grads = [torch.randn_like(t) for t in results[:5]]
    backward = (*grads, *made.values(), results[0], *results[3:], *case.flags.values())
    opcheck(torch.ops.ltlstm.h_lstm_backward.default, backward)


def _module() -> None:
    import ltlstm
    import triton_interpreter as interpreter

    module = ltlstm.HLSTM(5, 7, 2, gate_hidden_size=6, bidirectional=True)
    x = torch.randn(3, 4, 5, requires_grad=True)
    lengths = torch.tensor([3, 1, 2, 3])

    def loss(run: Callable[..., Any], backend: str) -> list[Tensor]:
        with ltlstm.use_backend(backend):
            output, (h, c) = run(x, lengths=lengths)
            total = output.square().sum() + h.sum() + c.sum()
            first = torch.autograd.grad(total, [x, *module.parameters()], create_graph=True)
            return [output, *first, *torch.autograd.grad(first[0].square().sum(), [x])]

    want = loss(module, "reference")
    for got, expected in zip(loss(module, "cpu"), want, strict=True):
        torch.testing.assert_close(got, expected)
    count = len(interpreter.launches)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    with ltlstm.use_backend("cpu"):
        output = compiled(x, lengths=lengths)[0]
        output.sum().backward()
    torch.testing.assert_close(output, want[0])
    assert len(interpreter.launches) == count + 8


def test_opcheck_module_second_derivative_and_compile() -> None:
    interpreted(_opcheck, _module)


def _nan_and_infinity_stay_in_their_row() -> None:
    for value in (float("nan"), float("inf")):
        case = replace(BASE, T=4, N=18)
        made = arguments(case, EXACT)
        clean = call(case, made)
        made["input"][1, 2, 3] = value
        spoiled = call(case, made)
        rows = [n for n in range(case.N) if n != 2]
        for name, a, b in zip(OUTPUTS[:3], clean, spoiled, strict=False):
            assert torch.equal(a[:, rows], b[:, rows]), name
        assert spoiled[0][1:, 2].isfinite().logical_not().any()
        assert torch.equal(spoiled[0][0], clean[0][0])


def test_outputs_and_all_gradients() -> None:
    interpreted(
        _cases, _each_output, _inference_gives_the_same, _nan_and_infinity_stay_in_their_row
    )
