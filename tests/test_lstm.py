# SPDX-License-Identifier: Apache-2.0
"""ltlstm.LSTM against torch.nn.LSTM: outputs, final states, every gradient, in every input form."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import ltlstm
from module_results import F32, F64, check_same, random_state

T, N, D, H = 5, 3, 4, 6
LENGTHS = torch.tensor([3, 5, 1])
FORMS = ("padded", "batch_first", "unbatched", "packed", "packed_unsorted")


def pair(seed: int = 0, **options: Any) -> tuple[ltlstm.LSTM, nn.LSTM]:
    """Ours and torch's, of one seed."""
    backend = options.pop("backend", None)
    torch.manual_seed(seed)
    theirs = nn.LSTM(D, H, **options)
    torch.manual_seed(seed)
    return ltlstm.LSTM(D, H, **options, backend=backend), theirs


def input_of(form: str) -> Any:
    x = torch.randn(T, N, D)
    if form == "batch_first":
        return x.transpose(0, 1)
    if form == "unbatched":
        return x[:, 0]
    if form == "packed":
        return pack_padded_sequence(x, LENGTHS.sort(descending=True).values)
    if form == "packed_unsorted":
        return pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    return x


def hx_of(module: nn.RNNBase, form: str) -> Any:
    h, c = random_state(module, N)
    return (h[:, 0], c[:, 0]) if form == "unbatched" else (h, c)


OPTIONS = [
    {"bias": bias, "bidirectional": bidirectional, "proj_size": proj, "dropout": dropout}
    for bias, bidirectional, proj, dropout in product(
        [True, False], [False, True], [0, 2], [0, 0.4]
    )
]


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_values_and_gradients(options: dict[str, Any], form: str, dtype: torch.dtype) -> None:
    ours, theirs = pair(num_layers=2, batch_first=form == "batch_first", **options)
    check_same(ours, theirs, input_of(form), hx_of(ours, form), dtype)


@pytest.mark.parametrize("backend", ["reference", "aten", "cpu"])
@pytest.mark.parametrize("form", FORMS)
def test_values_and_gradients_on_each_backend(backend: str, form: str) -> None:
    options = {"num_layers": 3, "bidirectional": True, "dropout": 0.3}
    ours, theirs = pair(batch_first=form == "batch_first", backend=backend, **options)
    check_same(ours, theirs, input_of(form), hx_of(ours, form))


@pytest.mark.parametrize("form", FORMS)
def test_state_defaults_to_zeros(form: str) -> None:
    ours, theirs = pair(batch_first=form == "batch_first", bidirectional=True)
    check_same(ours, theirs, input_of(form))


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1, 4, 3, 5), (6, 0, 3, 5), (2, 1, 1, 9)], ids=str)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_small_sizes(sizes: tuple[int, ...], num_layers: int) -> None:
    steps, batch, inputs, cells = sizes
    theirs = nn.LSTM(inputs, cells, num_layers)
    ours = ltlstm.LSTM(inputs, cells, num_layers)
    ours.load_state_dict(theirs.state_dict())
    check_same(ours, theirs, torch.randn(steps, batch, inputs), random_state(theirs, batch))


@pytest.mark.parametrize("lengths", [LENGTHS, LENGTHS.int(), LENGTHS.sort().values], ids=str)
@pytest.mark.parametrize("backend", ["reference", "aten", "cpu"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_lengths_equal_a_packed_sequence(
    lengths: Tensor, bidirectional: bool, backend: str
) -> None:
    ours, theirs = pair(num_layers=2, bidirectional=bidirectional, backend=backend)

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = theirs

        def forward(self, x: Tensor, hx: Any) -> Any:
            packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
            output, hx = self.lstm(packed, hx)
            return pad_packed_sequence(output, total_length=T)[0], hx

    class Lengths(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = ours

        def forward(self, x: Tensor, hx: Any) -> Any:
            return self.lstm(x, hx, lengths=lengths)

    check_same(Lengths(), Packed(), torch.randn(T, N, D), random_state(ours, N))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_reset_equals_separate_sequences(bidirectional: bool, backend: str) -> None:
    ours, theirs = pair(num_layers=1, bidirectional=bidirectional, backend=backend)
    x = torch.randn(T, 1, D)
    reset = torch.zeros(T, 1, dtype=torch.bool)
    reset[2] = True
    whole, _ = ours(x, reset=reset)
    torch.testing.assert_close(whole, torch.cat([theirs(x[:2])[0], theirs(x[2:])[0]]))
    batch_first = ltlstm.LSTM(D, H, batch_first=True, bidirectional=bidirectional, backend=backend)
    batch_first.load_state_dict(theirs.state_dict())
    again, _ = batch_first(x.transpose(0, 1), reset=reset.transpose(0, 1))
    torch.testing.assert_close(again.transpose(0, 1), whole)
    unbatched, _ = ours(x[:, 0], reset=reset[:, 0])
    torch.testing.assert_close(unbatched, whole[:, 0])


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "proj_size": 2}], ids=str)
def test_states_of_every_step(options: dict[str, Any], lengths: Any, backend: str) -> None:
    ours = ltlstm.LSTM(D, H, 2, **options, backend=backend)
    x = torch.randn(T, N, D)
    output, (h_n, c_n), states = ours(x, lengths=lengths, return_states=True)
    dirs = 2 if ours.bidirectional else 1
    P = ours.proj_size or H
    assert states.h.shape == (2 * dirs, T, N, P) and states.c.shape == (2 * dirs, T, N, H)
    assert torch.equal(torch.cat(list(states.h[-dirs:]), -1), output)
    last = (torch.full((N,), T) if lengths is None else lengths) - 1
    rows = torch.arange(N)
    assert torch.equal(states.h[::dirs, last, rows], h_n[::dirs])
    assert torch.equal(states.c[::dirs, last, rows], c_n[::dirs])
    if dirs == 2:
        assert torch.equal(states.h[1::2, 0], h_n[1::2])
        assert torch.equal(states.c[1::2, 0], c_n[1::2])
    if lengths is not None:
        past = torch.arange(T)[:, None] >= lengths
        assert not states.h[:, past].any() and not states.c[:, past].any()
        assert not output[past].any()


def test_states_keep_their_layout_in_every_form() -> None:
    ours = ltlstm.LSTM(D, H, 2, batch_first=True)
    x = torch.randn(N, T, D)
    whole = ours(x, return_states=True)[2]
    assert whole.h.shape == (2, T, N, H)
    unbatched = ours(x[0], return_states=True)[2]
    torch.testing.assert_close(unbatched.h, whole.h[:, :, 0])
    packed = pack_padded_sequence(x, torch.full((N,), T), batch_first=True)
    states = ours(packed, return_states=True)[2]
    torch.testing.assert_close(states.c, whole.c.flatten(1, 2))


def test_state_gradients_flow_from_every_step() -> None:
    ours = ltlstm.LSTM(D, H, 2, bidirectional=True)
    oracle = ltlstm.LSTM(D, H, 2, bidirectional=True, backend="reference")
    oracle.load_state_dict(ours.state_dict())
    check_same(ours, oracle, torch.randn(T, N, D), random_state(ours, N), return_states=True)
