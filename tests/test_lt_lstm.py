# SPDX-License-Identifier: Apache-2.0
"""ltlstm.LTLSTM against the reference: every option, input form and gradient; its warm start."""

import itertools
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import ltlstm
from ltlstm import reference
from module_results import F32, F64, check_same, flat, random_state

T, N, D, H = 5, 3, 4, 5
LENGTHS = torch.tensor([3, 5, 1])


def grid(**options: list[Any]) -> list[dict[str, Any]]:
    return [
        dict(zip(options, values, strict=True)) for values in itertools.product(*options.values())
    ]


OPTIONS = grid(
    num_layers=[3],
    depth_unit=["lstm", "gated", "max"],
    lookahead=[0, 2],
    peephole=[False, True],
    proj_size=[0, 2],
    share_layer_weights=[False, True],
    bias=[True, False],
    bidirectional=[False, True],
)
ALONE = [
    {},
    {"peephole": True},
    {"lanes": True},
    {"share_layer_weights": True, "proj_size": 3},
    {"bidirectional": True},
    {"depth_unit": "gated"},
    {"depth_unit": "max"},
    {"lookahead": 1},
    {"lookahead": 3, "bidirectional": True, "peephole": True, "proj_size": 2},
]


def pair(**options: Any) -> tuple[ltlstm.LTLSTM, ltlstm.LTLSTM]:
    """One module on the operators, and the same on the reference."""
    ours = ltlstm.LTLSTM(D, H, **options, backend="cpu")
    oracle = ltlstm.LTLSTM(D, H, **options, backend="reference")
    for name, parameter in ours.named_parameters():
        if name.startswith("traj_context"):
            nn.init.normal_(parameter)  # their start is no look-ahead
    oracle.load_state_dict(ours.state_dict())
    return ours, oracle


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option(options: dict[str, Any]) -> None:
    ours, oracle = pair(**options)
    check_same(ours, oracle, torch.randn(T, N, D), random_state(ours, N), return_states=True)


@pytest.mark.parametrize("form", ["batch_first", "unbatched", "packed", "lengths", "reset", "both"])
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("options", ALONE, ids=str)
def test_every_form(options: dict[str, Any], dtype: torch.dtype, form: str) -> None:
    ours, oracle = pair(num_layers=3, dropout=0.3, batch_first=form == "batch_first", **options)
    x: Any = torch.randn(T, N, D)
    hx = random_state(ours, N)
    kwargs: dict[str, Any] = {}
    if form == "batch_first":
        x = x.transpose(0, 1)
    if form == "unbatched":
        x, hx = x[:, 0], (hx[0][:, 0], hx[1][:, 0])
    if form == "packed":
        x = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    if form in ("lengths", "both"):
        kwargs["lengths"] = LENGTHS
    if form in ("reset", "both"):
        kwargs["reset"] = torch.rand(T, N) < 0.3
    check_same(ours, oracle, x, hx, dtype, **kwargs)


@pytest.mark.parametrize("options", ALONE, ids=str)
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (1, 4, 3, 5, 2), (4, 0, 3, 5, 2)], ids=str)
def test_small_sizes(sizes: tuple[int, ...], options: dict[str, Any]) -> None:
    steps, batch, inputs, cells, layers = sizes
    options = {k: v for k, v in options.items() if k != "proj_size"}
    ours = ltlstm.LTLSTM(inputs, cells, layers, **options)
    oracle = ltlstm.LTLSTM(inputs, cells, layers, **options, backend="reference")
    oracle.load_state_dict(ours.state_dict())
    x, hx = torch.randn(steps, batch, inputs), random_state(ours, batch)
    check_same(ours, oracle, x, hx, return_states=True)


@pytest.mark.parametrize("backend", ["aten", "cpu"])
@pytest.mark.parametrize("options", [{}, {"lookahead": 2}, {"depth_unit": "max"}], ids=str)
def test_time_lane_on_torchs_own_lstm(options: dict[str, Any], backend: str) -> None:
    ours, oracle = pair(num_layers=3, dropout=0.2, bidirectional=True, **options)
    ours.backend = backend
    check_same(ours, oracle, torch.randn(T, N, D), random_state(ours, N), lengths=LENGTHS)


@pytest.mark.parametrize("traj_dropout", [True, False])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_dropout_of_the_layer_lane(num_layers: int, traj_dropout: bool) -> None:
    ours, oracle = pair(num_layers=num_layers, dropout=0.4 * (traj_dropout or num_layers > 1),
                        traj_dropout=traj_dropout)  # fmt: skip
    check_same(ours, oracle, torch.randn(T, N, D))
    x = torch.randn(T, N, D)
    acts = not torch.equal(ours(x)[0], ours(x)[0])
    assert acts == (traj_dropout or num_layers > 1)
    ours.eval()
    assert torch.equal(ours(x)[0], ours(x)[0])


def test_time_lane_is_nn_lstm() -> None:
    """States of the time-LSTMs are nn.LSTM's, in training too: same draws, same weights."""
    torch.manual_seed(5)
    theirs = nn.LSTM(D, H, 2, dropout=0.3)
    torch.manual_seed(5)
    ours = ltlstm.LTLSTM(D, H, 2, dropout=0.3)
    x = torch.randn(T, N, D)
    torch.manual_seed(6)
    _, expected = theirs(x)
    torch.manual_seed(6)
    _, state = ours(x)
    torch.testing.assert_close(state, expected)


def test_module_feeds_the_reference_as_its_names_say() -> None:
    module = ltlstm.LTLSTM(
        D, H, 2, proj_size=2, peephole=True, bidirectional=True, lookahead=1
    ).double()
    w = dict(module.named_parameters())
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "peephole")
    weights = [w[f"{kind}_l{k}{r}"] for k in (0, 1) for r in ("", "_reverse") for kind in kinds]
    traj = [w[f"traj_{kind}_l{k}"] for k in (0, 1) for kind in kinds
            if (k, kind) != (0, "weight_hh")]  # fmt: skip
    x, (h0, c0) = torch.randn(T, N, D).double(), random_state(module.float(), N)
    module.double()
    output, h_n, c_n, hidden, cells, g, m = reference.lt_lstm(
        x, h0.double(), c0.double(), weights, traj, contexts=[w["traj_context_l1"]],
        projected=True, peephole=True, bidirectional=True,
    )  # fmt: skip
    found = module(x, (h0.double(), c0.double()), return_states=True)
    h = torch.stack([hidden[..., :2], hidden[..., 2:]], 1).flatten(0, 1)
    expected = (output, (h_n, c_n), (h, cells, g, m))
    for a, b in zip(flat(found).values(), flat(expected).values(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("options", ALONE, ids=str)
def test_one_layer_is_a_cell_on_every_frame(options: dict[str, Any]) -> None:
    ours, oracle = pair(num_layers=1, **options)
    check_same(ours, oracle, torch.randn(T, N, D), random_state(ours, N))


@pytest.mark.parametrize("options", ALONE[:4], ids=str)
def test_nn_lstm_checkpoint_warm_starts(options: dict[str, Any]) -> None:
    shape = {k: v for k, v in options.items() if k in ("proj_size", "bidirectional")}
    theirs = nn.LSTM(D, H, 2, **shape)
    ours = ltlstm.LTLSTM(D, H, 2, **options)
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith(("traj_", "peephole_")) for name in missing)
    for name, weight in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight)
    if not ours.peephole:
        x = torch.randn(T, N, D)
        torch.testing.assert_close(ours(x)[1], theirs(x)[1])


def test_shared_layer_weights_are_one_set() -> None:
    shared = ltlstm.LTLSTM(D, H, 3, share_layer_weights=True, peephole=True, lookahead=1)
    single = ltlstm.LTLSTM(D, H, 3, peephole=True, lookahead=1)
    weights = shared.state_dict()
    for name in single.state_dict():
        if name not in weights:
            weights[name] = weights[name.rpartition("_l")[0]]
    single.load_state_dict({name: weights[name] for name in single.state_dict()})
    x = torch.randn(T, N, D)
    torch.testing.assert_close(shared(x)[0], single(x)[0])
    assert ltlstm.LTLSTM(D, H, 1, share_layer_weights=True)(x)[0].shape == (T, N, H)


def test_start() -> None:
    """The time part as nn.LSTM of one seed; the rest in the same bounds; contexts see one frame."""
    torch.manual_seed(1)
    theirs = nn.LSTM(D, 16, 2)
    torch.manual_seed(1)
    ours = ltlstm.LTLSTM(D, 16, 2, peephole=True, lookahead=2)
    state = ours.state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in theirs.state_dict().items())
    for name, weight in state.items():
        if name.startswith("traj_context"):
            assert (weight[0] == 1).all() and not weight[1:].any()
        else:
            assert 0.1 < weight.abs().max() <= 0.25
    blind = ltlstm.LTLSTM(D, 16, 2, peephole=True)
    blind.load_state_dict(state, strict=False)
    x = torch.randn(T, N, D)
    torch.testing.assert_close(ours(x)[0], blind(x)[0])
    torch.manual_seed(1)
    ours.reset_parameters()
    assert all(torch.equal(ours.state_dict()[name], weight) for name, weight in state.items())


@pytest.mark.parametrize("options", ALONE, ids=str)
def test_lengths_equal_a_packed_sequence(options: dict[str, Any]) -> None:
    module = ltlstm.LTLSTM(D, H, 3, **options)
    x = torch.randn(T, N, D)
    packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    output, state = module(packed)
    assert isinstance(output, PackedSequence)
    expected = pad_packed_sequence(output)[0]
    x[torch.arange(T)[:, None] >= LENGTHS] = torch.nan
    found, found_state = module(x, lengths=LENGTHS)
    torch.testing.assert_close((found, found_state), (expected, state))


@pytest.mark.parametrize("depth_unit", ["lstm", "gated", "max"])
def test_look_ahead_crosses_neither_a_reset_nor_an_end(depth_unit: str) -> None:
    module, _ = pair(num_layers=3, lookahead=2, depth_unit=depth_unit)
    x = torch.randn(T, 1, D)
    reset = torch.zeros(T, 1, dtype=torch.bool)
    reset[3] = True
    whole = module(x, reset=reset)[0]
    torch.testing.assert_close(whole, torch.cat([module(x[:3])[0], module(x[3:])[0]]))
    ended = module(x, lengths=torch.tensor([3]))[0]
    torch.testing.assert_close(ended[:3], module(x[:3])[0])


def test_repr_names_what_is_unusual() -> None:
    module = ltlstm.LTLSTM(3, 4, 2, peephole=True, depth_unit="max", lookahead=1, backend="cpu")
    assert repr(module) == (
        "LTLSTM(3, 4, num_layers=2, backend='cpu', peephole=True, depth_unit='max', lookahead=1)"
    )


def test_a_start_leaves_the_warnings_of_others_alone() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for _ in range(2):
            warnings.warn("once", UserWarning, stacklevel=1)
            for dropout in (0.0, 0.5):
                assert ltlstm.LTLSTM(3, 4, dropout=dropout).dropout == dropout
    assert [str(warning.message) for warning in seen] == ["once"]
