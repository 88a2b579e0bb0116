# SPDX-License-Identifier: Apache-2.0
"""The H-LSTM's Triton kernels on a GPU: what the interpreter and the compiler cannot show."""

import pytest
import torch

import ltlstm
from h_lstm_problems import HCase, arguments
from ltlstm_kernels import triton_plan
from triton_problems import CASES, EXACT, HALF, cast, check, planned, sparse_blocks

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [EXACT, *HALF])
def test_outputs_and_all_gradients(case: HCase, dtype: torch.dtype) -> None:
    check(case, dtype, device="cuda")


@pytest.mark.parametrize("N", [1, 64])
@pytest.mark.parametrize("shared", ["0", "1"])
@pytest.mark.parametrize("block", [16, 32])
def test_both_forms_at_a_real_size(
    N: int, shared: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LTLSTM_TRITON_SHARED", shared)
    case = HCase(T=40, N=N, D=64, H=512, K=512, reset=True)
    made = arguments(case, torch.bfloat16)
    thin = made | {"weights": sparse_blocks(made["weights"], block, 0.1)}
    with planned(block=block, depth=64 // block):
        check(case, torch.bfloat16, change=lambda made: thin, device="cuda")


def test_many_steps_give_the_same_from_run_to_run() -> None:
    case = HCase(T=5000, N=16, D=8, H=256, K=256)
    made = cast(arguments(case, torch.bfloat16), torch.bfloat16, "cuda")
    first, second = (
        ltlstm.functional.h_lstm(made["input"], None, made["weights"])[0] for _ in "12"
    )
    assert first.isfinite().all() and torch.equal(first, second)


def test_a_cuda_graph_replays_what_is_shared() -> None:
    made = cast(arguments(HCase(T=20, N=16, D=8, H=256, K=256), EXACT), EXACT, "cuda")
    x, weights = made["input"], made["weights"]
    assert triton_plan.plan(16, 256, 256, EXACT, False, triton_plan.processors(x.device)).shared

    def run() -> torch.Tensor:
        return ltlstm.functional.h_lstm(x, None, weights, backend="triton")[0]

    with torch.no_grad():
        run()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = run()
        x.copy_(torch.randn_like(x))
        graph.replay()
        assert torch.equal(output, run())


def test_a_module_compiles() -> None:
    module = ltlstm.HLSTM(8, 64, 2, device="cuda", backend="triton")
    x = torch.randn(5, 3, 8, device="cuda", requires_grad=True)
    compiled = torch.compile(module, fullgraph=True)
    output = compiled(x)[0]
    output.sum().backward()
    torch.testing.assert_close(output, module(x)[0])
