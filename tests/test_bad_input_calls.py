# SPDX-License-Identifier: Apache-2.0
"""Calls that nn.LSTM would answer with garbage, a crash or opaque words: each is named, everywhere.

torch's own LSTM reads past the end of weights that are too small, so its backend is checked, too.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import ltlstm
from ltlstm import functional

T, N, D, H = 5, 3, 4, 6
STACKS = {"LSTM": ltlstm.LSTM, "LTLSTM": ltlstm.LTLSTM, "ResidualLSTM": ltlstm.ResidualLSTM}
EVERY = pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
BACKENDS = pytest.mark.parametrize("backend", [None, "cpu", "aten", "reference"])

SHAPES: list[tuple[str, tuple[int, ...], str]] = [
    ("weight_ih_l0", (4 * H, D + 1), r"weights\[0\] must have shape \(24, 4\), got \(24, 5\)"),
    ("weight_ih_l0", (4 * H, 1), r"weights\[0\] must have shape \(24, 4\), got \(24, 1\)"),
    ("weight_ih_l0", (4 * H,), r"weights\[0\] must have 2 dimensions, got 1"),
    ("weight_ih_l0", (), r"weights\[0\] must have 2 dimensions, got 0"),
    ("weight_ih_l0", (4 * H - 4, D), r"\(20, 5\), got \(24, 6\) \(H = 5 after weights\[0\] of"),
    ("weight_hh_l0", (4 * H, 1), r"weights\[1\] must have shape \(24, 6\), got \(24, 1\)"),
    ("weight_hh_l0", (1, H), r"weights\[1\] must have shape \(24, 6\), got \(1, 6\)"),
    ("bias_ih_l0", (1,), r"weights\[2\] must have shape \(24,\), got \(1,\)"),
    ("bias_hh_l1", (4 * H - 1,), r"weights\[7\] must have shape \(24,\), got \(23,\)"),
    ("weight_ih_l1", (4 * H, H - 1), r"weights\[4\] must have shape \(24, 6\), got \(24, 5\)"),
    ("weight_hh_l1", (4 * H, H, 1), r"weights\[5\] must have shape \(24, 6\), got \(24, 6, 1\)"),
]


@BACKENDS
@pytest.mark.parametrize("name, shape, words", SHAPES)
@EVERY
def test_weights_changed_in_shape(
    make: Any, name: str, shape: tuple[int, ...], words: str, backend: str | None
) -> None:
    module = make(D, H, 2, backend=backend)
    setattr(module, name, nn.Parameter(torch.ones(shape)))
    with pytest.raises(RuntimeError, match=words):
        module(torch.ones(T, N, D))


def test_projections_and_peepholes_changed_in_shape() -> None:
    module = ltlstm.LTLSTM(D, H, 2, proj_size=2, bidirectional=True, peephole=True, bias=False)
    for name, shape, words in (
        ("weight_hr_l0_reverse", (2, H - 1), r"weights\[6\] must have shape \(2, 6\)"),
        ("weight_ih_l1", (4 * H, 2), r"weights\[8\] must have shape \(24, 4\)"),
        ("peephole_l1", (3, 1), r"weights\[11\] must have shape \(3, 6\)"),
    ):
        kept = getattr(module, name)
        setattr(module, name, nn.Parameter(torch.ones(shape)))
        with pytest.raises(RuntimeError, match=words):
            module(torch.ones(T, N, D))
        setattr(module, name, kept)
    assert module(torch.ones(T, N, D))[0].isfinite().all()


PACKED: dict[str, tuple[list[int], str]] = {
    "sum": (
        [3, 2, 2],
        "batch_sizes must fall from 3 rows and sum to the 9 of the data, got 3 to 2, in all 7",
    ),
    "too many": ([3, 3, 3, 3], "sum to the 9 of the data, got 3 to 3, in all 12"),
    "rising": ([2, 3, 2, 2], "must fall from 2 rows .* got 2 to 2, in all 9, rising"),
    "negative": ([9, 1, -1], "must fall from 9 rows and sum to the 9 of the data, got 9 to -1"),
}


@BACKENDS
@pytest.mark.parametrize("mistake", PACKED)
@EVERY
def test_packed_sequences_made_by_hand(make: Any, mistake: str, backend: str | None) -> None:
    sizes, words = PACKED[mistake]
    packed = PackedSequence(torch.ones(9, D), torch.tensor(sizes))
    with pytest.raises(ValueError, match=words):
        make(D, H, 2, backend=backend)(packed)


BATCH_SIZES: list[tuple[Tensor, type[Exception], str]] = [
    (torch.tensor([3, 3, 3]).int(), ValueError, "batch_sizes must be int64 of shape .* torch.int3"),
    (torch.tensor([3.0, 3.0, 3.0]), ValueError, "batch_sizes must be int64 .* got torch.float32"),
    (torch.tensor([[3, 3, 3]]), ValueError, r"must be int64 of shape \(T,\) .* shape \(1, 3\)"),
    (torch.tensor([4, 3, 2]), ValueError, "batch_sizes must fall from 3 rows"),
    (torch.tensor([], dtype=torch.long), RuntimeError, "sequence length to be larger than 0"),
]


@BACKENDS
@pytest.mark.parametrize("sizes, error, words", BATCH_SIZES)
def test_batch_sizes_of_the_functional(
    sizes: Tensor, error: type[Exception], words: str, backend: str | None
) -> None:
    weights = [w.detach() for w in ltlstm.LSTM(D, H).parameters()]
    hx = (torch.ones(1, 3, H), torch.ones(1, 3, H))
    with pytest.raises(error, match=words):
        functional.lstm(torch.ones(9, D), hx, weights, batch_sizes=sizes, backend=backend)


LENGTHS: list[tuple[Tensor, str]] = [
    (torch.tensor([5, -3, 2]), r"lengths must lie in 0\.\.5, got -3\.\.5"),
    (torch.tensor([6, 2, 2]), r"lengths must lie in 0\.\.5, got 2\.\.6"),
    (torch.tensor([2**40, 2, 2]), r"lengths must lie in 0\.\.5, got 2\.\.1099511627776"),
    (torch.tensor([5.0, 2.0, 2.0]), r"lengths must be integers of shape \(3,\), got torch.float32"),
    (torch.tensor([True, True, True]), r"lengths must be integers of .* got torch.bool"),
    (torch.tensor([5, 2]), r"lengths must be integers of shape \(3,\), got .* shape \(2,\)"),
    (torch.tensor(5), r"lengths must be integers of shape \(3,\), got .* shape \(\)"),
]


@BACKENDS
@pytest.mark.parametrize("lengths, words", LENGTHS)
@EVERY
def test_lengths(make: Any, lengths: Tensor, words: str, backend: str | None) -> None:
    with pytest.raises(ValueError, match=words):
        make(D, H, 2, backend=backend)(torch.ones(T, N, D), lengths=lengths)


def change(**dtypes: torch.dtype) -> Callable[[Any], Any]:
    def call(module: Any) -> Any:
        h, c = (torch.ones(2, N, H, dtype=dtypes.get(k, torch.float32)) for k in "hc")
        x = torch.ones(T, N, D, dtype=dtypes.get("x", torch.float32))
        return module(x, (h, c))

    return call


DTYPES: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "h float64": (change(h=torch.float64), RuntimeError, "hx must have dtype torch.float32, got t"),
    "c float64": (change(c=torch.float64), RuntimeError, "hx must have dtype torch.float32, got t"),
    "c float16": (change(c=torch.float16), RuntimeError, "must have dtype .*, got torch.float16"),
    "h int64": (change(h=torch.int64), RuntimeError, "hx must have dtype .*, got torch.int64"),
    "c bool": (change(c=torch.bool), RuntimeError, "hx must have dtype .*, got torch.bool"),
    "x float64": (change(x=torch.float64), ValueError, "RNN input dtype .* does not match weight"),
}


@BACKENDS
@pytest.mark.parametrize("mistake", DTYPES)
@EVERY
def test_dtypes_that_differ(make: Any, mistake: str, backend: str | None) -> None:
    call, error, words = DTYPES[mistake]
    with pytest.raises(error, match=words):
        call(make(D, H, 2, backend=backend))


@EVERY
def test_an_explicit_backend_names_every_reason(make: Any) -> None:
    x, reset = torch.ones(T, N, D), torch.ones(T, N, dtype=torch.bool)
    op = {"LSTM": "lstm", "LTLSTM": "lt_lstm", "ResidualLSTM": "residual_lstm"}[make.__name__]
    with pytest.raises(RuntimeError) as error:
        module = make(D, H, backend="aten")
        torch.func.vmap(lambda x: module(x, reset=reset, return_states=True)[0])(x[None])
    assert str(error.value) == (
        f"{op}: backend 'aten' cannot run: a torch.func transform is active; torch's own LSTM has "
        "no reset; torch's own LSTM has no states of every step"
    )
    with pytest.raises(RuntimeError, match="backend 'cpu' cannot run: the input is on meta"):
        make(D, H, backend="cpu", device="meta")(x.to("meta"))
    with pytest.raises(RuntimeError, match=f"'triton' cannot run: no Triton kernel computes {op}"):
        make(D, H, backend="triton")(x)


BOOL = {"dtype": torch.bool}
RESETS: dict[str, tuple[dict[str, Any], tuple[int, ...], Tensor, str]] = {
    "time first": ({"batch_first": True}, (N, T, D), torch.zeros(T, N, **BOOL), "(3, 5)"),
    "batch first": ({}, (T, N, D), torch.zeros(N, T, **BOOL), "(5, 3)"),
    "no rank": ({"batch_first": True}, (N, T, D), torch.tensor(True), "(3, 5)"),
    "one rank": ({"batch_first": True}, (N, T, D), torch.zeros(T, **BOOL), "(3, 5)"),
    "three ranks": ({}, (T, N, D), torch.zeros(T, N, 1, **BOOL), "(5, 3)"),
    "unbatched, no rank": ({}, (T, D), torch.tensor(True), "(5,)"),
    "unbatched, two ranks": ({"batch_first": True}, (T, D), torch.zeros(1, T, **BOOL), "(5,)"),
    "integers": ({"batch_first": True}, (N, T, D), torch.zeros(N, T).long(), "(3, 5)"),
    "device": (
        {"batch_first": True},
        (N, T, D),
        torch.zeros(N, T, device="meta", **BOOL),
        "(3, 5)",
    ),
}


@pytest.mark.parametrize("mistake", RESETS)
@pytest.mark.parametrize("make", [*STACKS.values(), ltlstm.HLSTM])
def test_resets_are_told_their_shape_as_the_caller_has_it(make: Any, mistake: str) -> None:
    options, shape, reset, wanted = RESETS[mistake]
    with pytest.raises(ValueError) as error:
        make(D, H, 2, **options)(torch.ones(shape), reset=reset)
    assert str(error.value) == (
        f"{make.__name__}: reset must be bool of shape {wanted} on cpu, got {reset.dtype} of "
        f"shape {tuple(reset.shape)} on {reset.device}"
    )
