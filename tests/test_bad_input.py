# SPDX-License-Identifier: Apache-2.0
"""Mistakes: those nn.LSTM knows bring its exception and its words, ours name what they want."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import ltlstm
from ltlstm import functional

T, N, D, H = 5, 3, 4, 6
STACKS = {"LSTM": ltlstm.LSTM, "LTLSTM": ltlstm.LTLSTM, "ResidualLSTM": ltlstm.ResidualLSTM}
EVERY = pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)


def x(*shape: int, **kwargs: Any) -> Tensor:
    return torch.ones(shape or (T, N, D), **kwargs)


def hx(*sizes: int, c_width: int = H, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """(h, c) of layers, batch and width of h."""
    *lead, width = sizes
    return torch.zeros(*lead, width, **kwargs), torch.zeros(*lead, c_width, **kwargs)


CALLS: dict[str, Callable[[nn.Module], Any]] = {
    "no tensor": lambda m: m("words"),
    "None": lambda m: m(None),
    "1 dimension": lambda m: m(x(D)),
    "4 dimensions": lambda m: m(x(1, T, N, D)),
    "features": lambda m: m(x(T, N, D + 1)),
    "features unbatched": lambda m: m(x(T, D - 1)),
    "float64": lambda m: m(x().double()),
    "float16": lambda m: m(x().half()),
    "integers": lambda m: m(x().long()),
    "no steps": lambda m: m(x(0, N, D)),
    "no steps unbatched": lambda m: m(x(0, D)),
    "no steps nor rows": lambda m: m(x(0, 0, D)),
    "no steps with hx": lambda m: m(x(0, N, D), hx(2, N, H)),
    "input on another device": lambda m: m(x(device="meta")),
    "hx on another device": lambda m: m(x(), hx(2, N, H, device="meta")),
    "hx of another batch": lambda m: m(x(), hx(2, N + 1, H)),
    "hx of other layers": lambda m: m(x(), hx(1, N, H)),
    "hx of another width": lambda m: m(x(), hx(2, N, H + 1)),
    "cx of another width": lambda m: m(x(), hx(2, N, H, c_width=H + 1)),
    "hx unbatched": lambda m: m(x(), hx(2, H)),
    "hx batched": lambda m: m(x(T, D), hx(2, N, H)),
    "hx unbatched of other layers": lambda m: m(x(T, D), hx(3, H)),
    "hx one tensor": lambda m: m(x(), torch.zeros(2, N, H)),
    "hx of one": lambda m: m(x(), (torch.zeros(2, N, H),)),
    "hx of three": lambda m: m(x(), (*hx(2, N, H), torch.zeros(2, N, H))),
    "cx of no dimensions": lambda m: m(x(), (torch.zeros(2, N, H), torch.zeros(()))),
    "hx of None": lambda m: m(x(), (None, None)),
}


@pytest.mark.parametrize("gradients", [True, False])  # without, a call may be direct
@pytest.mark.parametrize("mistake", CALLS)
@EVERY
def test_calls_nn_lstm_refuses(make: Any, mistake: str, gradients: bool) -> None:
    with pytest.raises(Exception) as expected:
        CALLS[mistake](nn.LSTM(D, H, 2))
    with torch.set_grad_enabled(gradients), pytest.raises(expected.type) as found:
        CALLS[mistake](make(D, H, 2))
    assert str(found.value) == str(expected.value)


@EVERY
def test_no_steps_with_the_batch_first(make: Any) -> None:
    with pytest.raises(RuntimeError) as expected:
        nn.LSTM(D, H, batch_first=True)(x(N, 0, D))
    with pytest.raises(RuntimeError) as found:
        make(D, H, batch_first=True)(x(N, 0, D))
    assert str(found.value) == str(expected.value)


PACKED_CALLS: dict[str, Callable[[nn.Module], Any]] = {
    "features": lambda m: m(pack_padded_sequence(x(T, N, D + 1), [5, 3, 1])),
    "hx of another batch": lambda m: m(pack_padded_sequence(x(), [5, 3, 1]), hx(2, N + 1, H)),
    "hx dtype": lambda m: m(x(), hx(2, N, H, dtype=torch.float64)),
}


@pytest.mark.parametrize("mistake", PACKED_CALLS)
@EVERY
def test_calls_that_fail_deep_inside_nn_lstm(make: Any, mistake: str) -> None:
    """There its words come from some product, so only the type is the same."""
    with pytest.raises(Exception) as expected:
        PACKED_CALLS[mistake](nn.LSTM(D, H, 2))
    words = r"input.size\(-1\) must be equal|Expected hidden\[0\] size|hx must have dtype"
    with pytest.raises(expected.type, match=words):
        PACKED_CALLS[mistake](make(D, H, 2))


CONSTRUCTIONS: list[dict[str, Any]] = [
    {"hidden_size": 0},
    {"hidden_size": -1},
    {"hidden_size": 2.5},
    {"input_size": 0},
    {"input_size": "4"},
    {"num_layers": 0},
    {"proj_size": -1},
    {"proj_size": H},
    {"dropout": 1.5},
    {"dropout": True},
    {"dropout": "0.5"},
    {"bias": 1},
    {"batch_first": None},
    {"no_such_option": 1},
]


@pytest.mark.parametrize("options", CONSTRUCTIONS, ids=str)
@EVERY
def test_constructions_nn_lstm_refuses(make: Any, options: dict[str, Any]) -> None:
    arguments = {"input_size": D, "hidden_size": H, **options}
    with pytest.raises(Exception) as expected:
        nn.LSTM(**arguments)
    with pytest.raises(expected.type) as found:
        make(**arguments)
    if "no_such_option" not in options:
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"depth_unit": "gru"}, ValueError, "LTLSTM: depth_unit must be one of .*, got 'gru'"),
        ({"lookahead": -1}, ValueError, "LTLSTM: lookahead must not be negative, got -1"),
        ({"lookahead": 0.5}, TypeError, "LTLSTM: lookahead must be an int, got a float"),
    ],
)
def test_constructions_lt_lstm_refuses(options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ltlstm.LTLSTM(D, H, **options)


PACKED = pack_padded_sequence(torch.ones(T, N, D), [5, 3, 1])
BOOL = {"dtype": torch.bool}
OURS: list[tuple[Any, dict[str, Any], str]] = [
    (
        x(),
        {"lengths": torch.ones(N)},
        r"lengths must be integers of shape \(3,\), got torch.f",
    ),
    (x(), {"lengths": torch.ones(2).long()}, r"lengths must be integers .* got .* shape \(2,\)"),
    (x(), {"lengths": torch.ones(N, 1).long()}, r"lengths must be .* got .* shape \(3, 1\)"),
    (x(), {"lengths": torch.tensor([5, -1, 1])}, r"lengths must lie in 0\.\.5, got -1\.\.5"),
    (x(), {"lengths": torch.tensor([5, 6, 1])}, r"lengths must lie in 0\.\.5, got 1\.\.6"),
    (x(T, D), {"lengths": torch.tensor([5])}, "lengths must be None for unbatched input, got"),
    (PACKED, {"lengths": torch.tensor([5, 3, 1])}, "lengths must be None for a PackedSequence"),
    (PACKED, {"reset": torch.zeros(9, **BOOL)}, "reset must be None for a PackedSequence"),
    (x(), {"reset": torch.zeros(T, N)}, r"reset must be bool of shape \(5, 3\) on cpu, got t"),
    (
        x(),
        {"reset": torch.zeros(T, N, device="meta", **BOOL)},
        r"reset must be bool of shape \(5, 3\) on cpu, got torch.bool of shape \(5, 3\) on meta",
    ),
    (x(), {"reset": torch.zeros(N, T, **BOOL)}, r"reset must be .*, got torch.bool of shape \(3,"),
]


@pytest.mark.parametrize("backend", ["reference", "aten", "cpu"])
@pytest.mark.parametrize("input, kwargs, words", OURS)
@EVERY
def test_lengths_and_resets_that_do_not_fit(
    make: Any, input: Any, kwargs: dict[str, Any], words: str, backend: str
) -> None:
    with pytest.raises(ValueError, match=words):
        make(D, H, 2, backend=backend)(input, **kwargs)


@pytest.mark.parametrize("name, value", [("lengths", [5, 3, 1]), ("reset", [[True] * N] * T)])
@EVERY
def test_lengths_and_resets_that_are_no_tensors(make: Any, name: str, value: Any) -> None:
    module = make(D, H, 2, batch_first=True)
    with pytest.raises(TypeError, match=f"LSTM: {name} must be a Tensor or None, got a list"):
        module(x(N, T, D), **{name: value})
    weights = [w.detach() for w in nn.LSTM(D, H).parameters()]
    with pytest.raises(TypeError, match=f"lstm: {name} must be a Tensor or None, got a list"):
        functional.lstm(x(), None, weights, **{name: value})


@EVERY
def test_backends(make: Any) -> None:
    with pytest.raises(ValueError, match="backend must be one of .*'reference'.*, got 'gpu'"):
        make(D, H, backend="gpu")(x())
    reset = torch.zeros(T, N, **BOOL)
    with pytest.raises(RuntimeError, match="backend 'aten' cannot run: .* no reset; .* no states"):
        make(D, H, backend="aten")(x(), reset=reset, return_states=True)
    with pytest.raises(RuntimeError, match="backend 'triton' cannot run: no Triton kernel"):
        make(D, H, backend="triton")(x())
    with pytest.raises(RuntimeError, match="backend 'cuda' cannot run: .*the input is on cpu"):
        make(D, H, backend="cuda")(x())
    with pytest.raises(RuntimeError, match="'cpu' cannot run: a torch.func transform is active"):
        module = make(D, H, backend="cpu")
        torch.func.vmap(lambda x: module(x)[0])(x(2, T, N, D))


def test_functional_counts_its_tensors() -> None:
    module = ltlstm.LTLSTM(D, H, 2, lookahead=1)
    weights = [w.detach() for name, w in module.named_parameters() if "traj" not in name]
    traj = [w.detach() for name, w in module.named_parameters() if "traj" in name]
    contexts = [traj.pop()]
    functional.lt_lstm(x(), None, weights, traj, contexts=contexts)
    words = r"lstm: weights must hold a positive multiple of 4 tensors, got "
    with pytest.raises(ValueError, match=words + "7"):
        functional.lstm(x(), None, weights[:-1])
    with pytest.raises(ValueError, match=words + "0"):
        functional.lstm(x(), None, [])
    with pytest.raises(ValueError, match="lt_lstm: traj_weights must hold 7 tensors, got 6"):
        functional.lt_lstm(x(), None, weights, traj[:-1])
    with pytest.raises(ValueError, match="lt_lstm: contexts must hold 1 tensors or none, got 2"):
        functional.lt_lstm(x(), None, weights, traj, contexts=contexts * 2)
    with pytest.raises(ValueError, match="lt_lstm: depth_unit must be one of .*, got 'gru'"):
        functional.lt_lstm(x(), None, weights, traj, depth_unit="gru")
    with pytest.raises(RuntimeError, match="lstm: input must have 3 dimensions, got 2"):
        functional.lstm(x(T, D), None, weights)
    with pytest.raises(RuntimeError, match=r"lstm: c0 must have shape \(2, 3, 6\), got \(2, 3"):
        functional.lstm(x(), hx(2, N, H, c_width=H + 1), weights)
    with pytest.raises(RuntimeError, match="lstm: weights must have dtype torch.float32, got"):
        functional.lstm(x(), None, [*weights[:-1], weights[-1].double()])
