# SPDX-License-Identifier: Apache-2.0
"""LSTMCell against nn.LSTMCell, errors included, and LTLSTMCell against LTLSTM."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ltlstm
from ltlstm import functional
from module_results import F32, F64, check_same, random_state
from operators import Calls

N, D, H = 3, 4, 5


def pair(**options: Any) -> tuple[ltlstm.LSTMCell, nn.LSTMCell]:
    torch.manual_seed(2)
    theirs = nn.LSTMCell(D, H, bias=options.get("bias", True))
    torch.manual_seed(2)
    return ltlstm.LSTMCell(D, H, **options), theirs


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("backend", [None, "cpu", "aten", "reference"])
@pytest.mark.parametrize("batch", [N, None, 0, 1], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_lstm_cell(bias: bool, batch: int | None, backend: str | None, dtype: torch.dtype) -> None:
    ours, theirs = pair(bias=bias, backend=backend)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))
    assert repr(ours) == repr(theirs)
    shape = () if batch is None else (batch,)
    x, hx = torch.randn(*shape, D), (torch.randn(*shape, H), torch.randn(*shape, H))
    check_same(ours, theirs, x, hx, dtype)
    check_same(ours, theirs, x, None, dtype)


def test_lstm_cell_trains_compiled_and_differentiates_twice() -> None:
    ours, _ = pair(backend="cpu")
    x, h, c = (torch.randn(N, k, requires_grad=True) for k in (D, H, H))
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for a, b in zip(compiled(x, (h, c)), ours(x, (h, c)), strict=True):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(
            *(torch.autograd.grad(y.sum(), x, retain_graph=True)[0] for y in (a, b))
        )
    double = ours.double()
    inputs = tuple(t.detach().double().requires_grad_() for t in (x, h, c))
    assert torch.autograd.gradgradcheck(lambda x, h, c: double(x, (h, c)), inputs)


WRONG: dict[str, Callable[[nn.Module], Any]] = {
    "rank": lambda m: m(torch.randn(2, 3, D)),
    "hx_rank": lambda m: m(torch.randn(N, D), (torch.randn(1, N, H), torch.randn(1, N, H))),
    "size": lambda m: m(torch.randn(N, D + 1)),
    "hx_size": lambda m: m(torch.randn(N, D), (torch.randn(N, H + 1), torch.randn(N, H + 1))),
    "hx_batch": lambda m: m(torch.randn(N, D), (torch.randn(2, H), torch.randn(2, H))),
    "cx_batch": lambda m: m(torch.randn(N, D), (torch.randn(N, H), torch.randn(2, H))),
    "dtype": lambda m: m(torch.randn(N, D).double()),
    "hx_dtype": lambda m: m(torch.randn(N, D), (torch.randn(N, H).double(), torch.randn(N, H))),
    "integers": lambda m: m(torch.ones(N, D, dtype=torch.long)),
    "unbatched_hx": lambda m: m(torch.randn(N, D), (torch.randn(H), torch.randn(H))),
    "no_tensor": lambda m: m(None),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_lstm_cell_refuses_in_torchs_words(mistake: str) -> None:
    ours, theirs = pair()
    with pytest.raises(Exception) as expected:
        WRONG[mistake](theirs)
    with pytest.raises(expected.type) as found:
        WRONG[mistake](ours)
    assert str(found.value) == str(expected.value)


def test_lstm_cell_sizes_are_torchs() -> None:
    for size in (-1, 2.5):
        with pytest.raises(Exception) as expected:
            nn.LSTMCell(3, size)  # type: ignore[arg-type]
        with pytest.raises(expected.type):
            ltlstm.LSTMCell(3, size)  # type: ignore[arg-type]


CELL_OPTIONS = [
    {},
    {"peephole": True, "proj_size": 2},
    {"share_layer_weights": True},
    {"depth_unit": "gated", "bias": False},
    {"depth_unit": "max"},
    {"num_layers": 1},
]


class FirstFrame(nn.Module):
    """An LTLSTM of one frame, called as a cell."""

    def __init__(self, module: ltlstm.LTLSTM) -> None:
        super().__init__()
        for name, parameter in module.named_parameters():
            self.register_parameter(name, parameter)
        self.whole = [module]

    def forward(self, input: Tensor, hx: Any) -> Any:
        output, hx = torch.func.functional_call(
            self.whole[0], dict(self.named_parameters()), (input.unsqueeze(0), hx)
        )
        return output.squeeze(0), hx


@pytest.mark.parametrize("unbatched", [False, True])
@pytest.mark.parametrize("options", CELL_OPTIONS, ids=str)
def test_lt_lstm_cell_is_one_frame(options: dict[str, Any], unbatched: bool) -> None:
    options = {"num_layers": 3, **options}
    cell = ltlstm.LTLSTMCell(D, H, **options)
    whole = ltlstm.LTLSTM(D, H, **options, backend="reference")
    assert list(cell.state_dict()) == list(whole.state_dict())
    cell.load_state_dict(whole.state_dict())
    x, hx = torch.randn(N, D), random_state(cell, N)
    if unbatched:
        x, hx = x[0], (hx[0][:, 0], hx[1][:, 0])
    check_same(cell, FirstFrame(whole), x, hx)
    output, (h, c) = cell(x)
    assert output.shape == (*x.shape[:-1], cell.proj_size or H)
    assert h.shape[1:] == output.shape and c.shape == hx[1].shape


def test_lt_lstm_cell_step_by_step_is_the_sequence() -> None:
    cell = ltlstm.LTLSTMCell(D, H, 2, peephole=True)
    whole = ltlstm.LTLSTM(D, H, 2, peephole=True)
    whole.load_state_dict(cell.state_dict())
    x = torch.randn(6, N, D)
    hx, outputs = None, []
    for frame in x:
        output, hx = cell(frame, hx)
        outputs.append(output)
    expected, state = whole(x)
    torch.testing.assert_close(torch.stack(outputs), expected)
    torch.testing.assert_close(hx, state)


def test_lt_lstm_cell_refuses() -> None:
    cell = ltlstm.LTLSTMCell(D, H, 2)
    with pytest.raises(ValueError, match="LTLSTMCell: Expected input to be 1D or 2D, got 3D"):
        cell(torch.randn(1, N, D))
    with pytest.raises(RuntimeError, match="Expected hidden.0. size"):
        cell(torch.randn(N, D), random_state(cell, N + 1))
    with pytest.raises(RuntimeError, match="hx and cx should also be 3-D"):
        cell(torch.randn(N, D), (torch.randn(2, H), torch.randn(2, H)))
    for option in ("lookahead", "dropout", "bidirectional", "batch_first"):
        with pytest.raises(TypeError, match=option):
            ltlstm.LTLSTMCell(D, H, **{option: 1})


HALF = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_types_reach_the_named_backend(dtype: torch.dtype) -> None:
    cell, x = ltlstm.LSTMCell(4, 6, dtype=dtype, backend="cpu"), torch.randn(3, 4, dtype=dtype)
    with Calls() as calls:
        found = cell(x)
    assert calls.ours() == ["ltlstm::cell_forward"]
    assert {t.dtype for t in found} == {dtype}
    cell.backend = "reference"
    torch.testing.assert_close(found, cell(x), rtol=0.02, atol=0.01)


@pytest.mark.parametrize("state", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_obeys_the_named_backend(state: torch.dtype) -> None:
    ours, theirs = pair()
    hx = (torch.zeros(N, H, dtype=state), torch.ones(N, H, dtype=state))
    with torch.autocast("cpu", torch.bfloat16):
        want = theirs(torch.ones(N, D, dtype=torch.bfloat16), hx)
        ours.backend = "cpu"
        with Calls() as calls:
            found = ours(torch.ones(N, D, dtype=torch.bfloat16), hx)
        assert "ltlstm::cell_forward" in calls.ours()
        torch.testing.assert_close(found, want, rtol=0.02, atol=0.01)
        ours.backend = "bogus"
        with pytest.raises(ValueError, match="backend must be one of .*, got 'bogus'"):
            ours(torch.ones(N, D, dtype=torch.bfloat16), hx)


BAD_CELLS: dict[str, tuple[Any, type[Exception], str]] = {
    "hx": (None, TypeError, "hx must be a tuple of two Tensors, got a Non"),
    "c row": ((torch.ones(3, 6), torch.ones(1, 6)), RuntimeError, r"c must have .*\(3, 6\), got"),
    "c column": ((torch.ones(3, 6), torch.ones(3, 1)), RuntimeError, r"c must .* got \(3, 1\)"),
    "h": ((torch.ones(1, 6), torch.ones(3, 6)), RuntimeError, r"h must have .*\(3, 6\), got \(1"),
}


@pytest.mark.parametrize("backend", ["cpu", "aten", "reference"])
@pytest.mark.parametrize("mistake", BAD_CELLS)
def test_states_that_would_broadcast(mistake: str, backend: str) -> None:
    hx, error, words = BAD_CELLS[mistake]
    weights = [w.detach() for w in nn.LSTMCell(4, 6).parameters()]
    with pytest.raises(error, match="lstm_cell: " + words):
        functional.lstm_cell(torch.ones(3, 4), hx, *weights, backend=backend)
