# SPDX-License-Identifier: Apache-2.0
"""lengths of 0: output zero, the state as it was given, and gradients to match, on every road."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ltlstm
from module_results import F32, F64, flat, random_state, results_of
from tolerance import assert_all_close

T, N, D, H = 5, 4, 3, 4
MAKERS: dict[str, Any] = {
    "lstm": lambda: ltlstm.LSTM(D, H, 2, bidirectional=True, proj_size=2, dropout=0.4),
    "residual": lambda: ltlstm.ResidualLSTM(D, H, 3),
    "lt": lambda: ltlstm.LTLSTM(D, H, 2),
    "lookahead": lambda: ltlstm.LTLSTM(D, H, 2, lookahead=1),
    "h": lambda: ltlstm.HLSTM(D, H, 2),
}
EVERY = pytest.mark.parametrize("name", MAKERS)
SOME, NONE = [3, 0, 5, 0], [0, 0, 0, 0]
LENGTHS = pytest.mark.parametrize("lengths", [SOME, NONE], ids=["some", "none"])


def given(module: Any, lengths: list[int], **beside: Any) -> dict[str, Any]:
    return {"input": torch.randn(T, N, D), "hx": random_state(module, N)} | {
        "lengths": torch.tensor(lengths), **beside
    }  # fmt: skip


def check(actual: nn.Module, problem: dict[str, Any], wrap: Any = lambda module: module) -> None:
    """Against the reference, which knows no packed rows, gradients included."""
    oracle = copy.deepcopy(actual)
    oracle.backend = "reference"
    truth = results_of(oracle, **problem, dtype=F64)
    plain = results_of(oracle, **problem, dtype=F32)
    assert_all_close(results_of(actual, **problem, dtype=F32, wrap=wrap), truth, plain)


@LENGTHS
@EVERY
def test_a_row_of_no_steps_keeps_its_state(name: str, lengths: list[int]) -> None:
    module = MAKERS[name]()
    hx = tuple(t.requires_grad_() for t in random_state(module, N))
    x = torch.full((T, N, D), torch.nan).masked_fill(
        (torch.arange(T)[:, None] < torch.tensor(lengths))[..., None], 0.5
    )
    empty = [n for n, length in enumerate(lengths) if length == 0]
    output, found = module(x.requires_grad_(), hx, lengths=torch.tensor(lengths))
    assert not output[:, empty].any()
    outer = [torch.randn_like(t) for t in found]
    gradients = torch.autograd.grad((output, *found), (x, *hx), (torch.ones_like(output), *outer))
    assert not gradients[0][:, empty].any()
    for i in range(2):
        assert torch.equal(found[i][:, empty], hx[i][:, empty])
        assert torch.equal(gradients[1 + i][:, empty], outer[i][:, empty])
    zeros = module(x.detach(), lengths=torch.tensor(lengths))[1]
    assert not any(t[:, empty].any() for t in zeros)


@pytest.mark.parametrize("backend", [None, "cpu", "aten"])
@LENGTHS
@EVERY
def test_every_backend(name: str, lengths: list[int], backend: str | None) -> None:
    module = MAKERS[name]()
    if name == "h" and backend == "aten":
        backend = None  # torch's own LSTM has no such gates
    module.backend = backend
    module.dropout = 0.0
    check(module, given(module, lengths))


@LENGTHS
@EVERY
def test_with_resets_and_states(name: str, lengths: list[int]) -> None:
    module = MAKERS[name]()
    check(module, given(module, lengths, reset=torch.rand(T, N) < 0.3, return_states=True))


@EVERY
def test_compiled_without_a_break(name: str) -> None:
    module = MAKERS[name]().eval()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    x, hx = torch.randn(T, N, D), random_state(module, N)
    for lengths in (SOME, NONE):
        found = flat(compiled(x, hx, lengths=torch.tensor(lengths)))
        expected = flat(module(x, hx, lengths=torch.tensor(lengths)))
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value)


def test_the_batch_first_and_sparse() -> None:
    x, lengths = torch.randn(N, T, D), torch.tensor(SOME)
    module = ltlstm.LSTM(D, H, batch_first=True)
    torch.testing.assert_close(module(x[[0, 2]], lengths=lengths[[0, 2]])[0], rows(module, x))
    gates = ltlstm.HLSTM(D, 64, 2, batch_first=True).eval()
    for name, mask in gates.named_buffers():
        mask.copy_(torch.rand(mask.shape) < 0.1)
        assert name.endswith("_mask")
    with torch.no_grad():
        dense = gates(x, lengths=lengths)
        assert gates.compile_sparse()
        for key, value in flat(gates(x, lengths=lengths)).items():
            torch.testing.assert_close(value, flat(dense)[key])


def rows(module: nn.Module, x: Tensor) -> Tensor:
    return module(x, lengths=torch.tensor(SOME))[0][[0, 2]]
