# SPDX-License-Identifier: Apache-2.0
"""What stands around the Triton kernels and needs no Triton: lists of live blocks, rows, the plan,
checks, and when the backend is chosen."""

from itertools import pairwise

import pytest
import torch

import ltlstm.autograd  # noqa: F401  (registers the operators)
from ltlstm_kernels import backend, triton_ops, triton_plan
from ltlstm_kernels.backend import Asked
from ltlstm_kernels.triton_blocks import backward_lists, forward_lists, live_blocks
from ltlstm_kernels.triton_checks import check
from ltlstm_kernels.triton_rows import Rows


@pytest.mark.parametrize("block", [16, 32])
@pytest.mark.parametrize("out, inputs", [(1, 1), (32, 16), (33, 95)])
def test_live_blocks_are_those_with_a_weight(block: int, out: int, inputs: int) -> None:
    weight = torch.randn(4, out, inputs) * (torch.rand(4, out, inputs) < 0.003)
    found = live_blocks(weight, block)
    assert found.shape == (4, -(-out // block), -(-inputs // block))
    for gate, i, j in torch.cartesian_prod(*map(torch.arange, found.shape)).tolist():
        part = weight[gate, i * block : (i + 1) * block, j * block : (j + 1) * block]
        assert found[gate, i, j] == part.any()


def test_lists_name_the_live_blocks_in_order() -> None:
    live = [torch.rand(4, 3, 5) < 0.5, torch.rand(4, 3, 3) < 0.5, torch.rand(4, 5, 3) < 0.5]
    for lists, layers in (
        (forward_lists(live), live),
        (backward_lists(live), [live[1].mT, live[2].mT, live[0].mT]),
    ):
        rows = [row for layer in layers for row in layer.flatten(0, 1)]
        assert lists.columns.shape == (len(rows), 5) and lists.columns.dtype == torch.int32
        for row, columns, count in zip(rows, lists.columns, lists.counts, strict=True):
            assert columns[:count].tolist() == row.nonzero().flatten().tolist()


@pytest.mark.parametrize("sizes", [None, [4, 4, 3, 1], [2, 1, 1, 0]])
@pytest.mark.parametrize("reverse", [False, True])
def test_rows_know_what_came_before(sizes: list[int] | None, reverse: bool) -> None:
    T, N, F = 4, 4, 3
    batch_sizes = None if sizes is None else torch.tensor(sizes)
    steps = [N] * T if sizes is None else sizes
    starts = [sum(steps[:t]) for t in range(T + 1)]
    x, x0 = torch.randn(starts[-1], F), torch.randn(N, F)
    reset = torch.rand(starts[-1]) < 0.5
    rows = Rows(x.view(T, N, F) if sizes is None else x, N, batch_sizes, 2)
    assert rows.offsets.tolist() == starts
    assert rows.steps.tolist() == [sum(n > b for n in steps) for b in (0, 2)]
    previous, keep = rows.previous(x, x0, reverse), rows.keep(reset, reverse)
    for t in range(T):
        other = t + 1 if reverse else t - 1
        for r in range(steps[t]):
            at = starts[t] + r
            begun = 0 <= other < T and r < steps[other]
            assert torch.equal(previous[at], x[starts[other] + r] if begun else x0[r])
            crossed = starts[other] + r if reverse else at
            assert bool(keep[at]) == (not reset[crossed] if begun or not reverse else True)


def test_a_plan_keeps_all_that_share_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    for N in (1, 16, 17, 64, 500, 5000):
        for H, K in ((1, 1), (64, 200), (1024, 512)):
            for dtype in (torch.float32, torch.bfloat16):
                for save in (False, True):
                    p = triton_plan.plan(N, H, K, dtype, save, 132)
                    assert p.parts == 1 or p.parts * -(-N // triton_plan.ROWS) <= 132
                    assert p.parts <= -(-max(H, K) // p.block) and p.units % 4 == 0
    assert triton_plan.plan(16, 512, 512, torch.bfloat16, True, 132).shared
    assert not triton_plan.plan(16 * 132, 512, 512, torch.bfloat16, True, 132).shared
    monkeypatch.setenv("LTLSTM_TRITON_SHARED", "0")
    assert not triton_plan.plan(16, 512, 512, torch.bfloat16, True, 132).shared


def test_the_plan_does_not_change_with_time_steps_or_within_a_row_block() -> None:
    plans = [triton_plan.plan(N, 512, 512, torch.bfloat16, True, 132) for N in range(1, 33)]
    assert all(a == b for n, (a, b) in enumerate(pairwise(plans), 1) if n != 16)


def test_the_backend_serves_cuda_tensors_of_the_types_it_computes() -> None:
    def reasons(**changes: object) -> list[str]:
        asked = Asked("h_lstm", "cuda", torch.bfloat16, (), None)._replace(**changes)
        return backend.reasons("triton", asked)

    assert reasons() == []
    assert reasons(dtype=torch.float64) == ["it does not compute in torch.float64"]
    assert reasons(device="cpu") == ["the input is on cpu"]
    assert reasons(op="lstm") == ["no Triton kernel computes lstm"]
    assert reasons(python_only="a torch.func transform is active") != []
    asked = Asked("h_lstm", "cuda", torch.float32, ("hidden layer in its gates",), None)
    assert backend.reasons("cuda", asked)[-1] == "no CUDA kernel computes h_lstm"
    assert backend.choose("auto", asked) == "triton"
    autocast = asked._replace(autocast=torch.bfloat16)
    assert backend.compute_dtype("triton", autocast) == torch.bfloat16
    for op in ("forward", "backward"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"ltlstm::h_lstm_{op}", "CUDA")


def test_without_triton_the_backend_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_ops, "find_spec", lambda name: None)
    assert triton_ops.missing() == "triton is not installed"


T, N, D, H, K = 3, 2, 5, 4, 6
GOOD = {
    "input": torch.zeros(T, N, D), "h0": torch.zeros(1, N, H), "c0": torch.zeros(1, N, H),
    "weights": [torch.zeros(4 * K, D), torch.zeros(4 * K, H), torch.zeros(4 * K),
                torch.zeros(4, H, K), torch.zeros(4, H)],
    "masks": None, "gate_masks": torch.zeros(1, T, N, 4 * K), "batch_sizes": None,
    "reset": torch.zeros(T, N, dtype=torch.bool),
}  # fmt: skip
PACKED = {
    "input": torch.zeros(5, D), "gate_masks": None, "reset": None, "h0": torch.zeros(1, 3, H),
    "c0": torch.zeros(1, 3, H),
}  # fmt: skip
BAD = {
    "type": ({"input": torch.zeros(T, N, D).double()}, "input must be float32, bfloat16 or"),
    "dims": ({"input": torch.zeros(T, D)}, "input must have 3 dimensions, got 2"),
    "h0": ({"h0": torch.zeros(1, N, H)[0]}, "h0 must have 3 dimensions, and"),
    "states": ({"h0": torch.zeros(1, N + 1, H)}, r"h0 must have shape \[1, 2, 4\], got \[1, 3, 4"),
    "c0": ({"c0": torch.zeros(1, N, H + 1)}, r"c0 must have shape \[1, 2, 4\], got \[1, 2, 5\]"),
    "count": ({"weights": GOOD["weights"][:4]}, "weights must hold w_ih, w_hh and as many gate la"),
    "K": (
        {"weights": [torch.zeros(7, D), *GOOD["weights"][1:]]},
        r"weights\[0\] must have 4K rows",
    ),
    "weight": (
        {"weights": [*GOOD["weights"][:3], torch.zeros(4, K, H), torch.zeros(4, H)]},
        r"weights\[3\] must have shape \[4, 4, 6\], got \[4, 6, 4\]",
    ),
    "mixed": ({"c0": torch.zeros(1, N, H).half()}, "c0 must be torch.float32 on cpu, as input is"),
    "device": ({"c0": torch.zeros(1, N, H, device="meta")}, "got torch.float32 on meta"),
    "drop": ({"gate_masks": torch.zeros(1, T, N, K)}, r"gate_masks must have shape \[1, 3, 2, 24"),
    "masks": ({"masks": torch.zeros(1, T, N, H)}, r"masks must have shape \[0, 3, 2, 4\]"),
    "reset": ({"reset": torch.zeros(T, N)}, r"reset must be bool of shape \[3, 2\] on cpu, got"),
    "sizes": (
        PACKED | {"batch_sizes": torch.tensor([2, 3])},
        "batch_sizes must not increase.*3 af",
    ),
    "most": (PACKED | {"batch_sizes": torch.tensor([4, 1])}, "within the batch, got 4 after 3"),
    "sum": (PACKED | {"batch_sizes": torch.tensor([3, 1])}, "sum to the rows of input, 5, got 4"),
    "int": (PACKED | {"batch_sizes": torch.tensor([3.0, 2.0])}, "batch_sizes must be int64 of sh"),
}


@pytest.mark.parametrize("name", BAD)
def test_arguments_that_a_kernel_must_not_see(name: str) -> None:
    check("op", **GOOD, bias=True, bidirectional=False)
    changes, text = BAD[name]
    with pytest.raises(RuntimeError, match=f"^op: .*{text}"):
        check("op", **(GOOD | changes), bias=True, bidirectional=False)
