# SPDX-License-Identifier: Apache-2.0
"""What users ask of training: memory, dropout by seed, casts, second derivatives, odd weights."""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_padded_sequence

import ltlstm
from module_results import F32, F64, check_same, flat, random_state
from operators import Calls

T, N, D, H = 6, 5, 4, 4
LENGTHS = torch.tensor([3, 6, 1, 4, 4])


def pair(**options: Any) -> tuple[ltlstm.LSTM, nn.LSTM]:
    theirs, ours = nn.LSTM(D, H, **options), ltlstm.LSTM(D, H, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def input_of(form: str) -> Any:
    x = torch.randn(T, N, D)
    return pack_padded_sequence(x, LENGTHS, enforce_sorted=False) if form == "packed" else x


def saved_bytes(module: nn.Module, input: Any) -> int:
    """Of what one training pass keeps for its backward, parameters aside."""
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module(input)
    return sum(storage.nbytes() for storage in kept.values())


MEMORY: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"num_layers": 3, "dropout": 0.2},
    {"num_layers": 3, "bidirectional": True},
    {"num_layers": 2, "proj_size": 8},
]


@pytest.mark.parametrize("form", ["padded", "packed"])
@pytest.mark.parametrize("options", MEMORY, ids=str)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_training_keeps_no_more_than_nn_lstm(options: dict[str, Any], form: str) -> None:
    x: Any = torch.randn(30, 5, 16, requires_grad=True)
    if form == "packed":
        x = pack_padded_sequence(x, torch.tensor([30, 22, 15, 9, 4]))
    ours, theirs = ltlstm.LSTM(16, 32, **options), nn.LSTM(16, 32, **options)
    assert saved_bytes(ours, x) <= saved_bytes(theirs, x)


@pytest.mark.parametrize("form", ["padded", "packed"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_dropout_zeros_what_torch_zeros(bidirectional: bool, form: str) -> None:
    """The last layer shows its input's zeros: no recurrence, no bias, no forgetting, g = input."""
    ours, theirs = pair(num_layers=2, dropout=0.4, bidirectional=bidirectional)
    for name, parameter in theirs.named_parameters():
        if "_l1" in name:
            nn.init.zeros_(parameter)
        if "weight_ih_l1" in name:
            rows = parameter.data[2 * H : 3 * H]
            rows[:, :H] = torch.eye(H)  # of both directions the forward's features are seen,
            if "reverse" in name:
                rows.copy_(rows.roll(H, 1))  # or the reverse's
        if "bias_ih_l1" in name:
            parameter.data[H : 2 * H] = -1e9
    ours.load_state_dict(theirs.state_dict())
    x = input_of(form)
    found = []
    for module in (ours, theirs):
        torch.manual_seed(7)
        found.append(module(x)[0].data == 0)
    assert torch.equal(*found)
    assert 0.2 < found[0].float().mean() < 0.6


@pytest.mark.parametrize("make", [ltlstm.LSTM, ltlstm.LTLSTM, ltlstm.ResidualLSTM])
def test_one_seed_one_result(make: Any) -> None:
    module, x = make(D, H, 3, dropout=0.4), torch.randn(T, N, D)
    runs = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        module.zero_grad()
        output = module(x)[0]
        output.sum().backward()
        runs.append([output.detach(), *(p.grad for p in module.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not torch.equal(runs[0][0], runs[2][0])


BF16 = torch.bfloat16


@cache
def onednn_has_bfloat16() -> bool:
    """Whether it can give nn.LSTM one under autocast. It cannot without AVX-512: a call raises."""
    try:
        with torch.autocast("cpu", BF16):
            nn.LSTM(1, 1)(torch.zeros(1, 1, 1))
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("form", ["padded", "packed"])
@pytest.mark.parametrize("module_dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("input_dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("state_dtype", [None, F32, BF16], ids=str)
def test_autocast_casts_as_nn_lstm(
    state_dtype: Any, input_dtype: Any, module_dtype: Any, form: str, monkeypatch: Any
) -> None:
    ours, theirs = pair(num_layers=2)
    x = input_of(form).to(input_dtype)
    h, c = random_state(theirs, N)
    hx = None if state_dtype is None else (h.to(state_dtype), c.to(state_dtype))
    found = []
    by_onednn = form == "padded" and onednn_has_bfloat16()
    for module in (ours.to(module_dtype), theirs.to(module_dtype)):
        if module is theirs:
            monkeypatch.setattr(torch.backends.mkldnn, "enabled", by_onednn)
        with torch.autocast("cpu", BF16):
            results = list(flat(module(x, hx)).values())
        loss = torch.stack([t.float().square().mean() for t in results]).sum()
        found.append([*results, *torch.autograd.grad(loss, list(module.parameters()))])
    assert {result.dtype for result in found[0][:3]} == {BF16}
    for i, (mine, other) in enumerate(zip(*found, strict=True)):
        # Without oneDNN, and so packed, what nn.LSTM returns keeps the dtype of its state: float32
        # as a rule.
        assert mine.dtype == other.dtype or (i < 3 and not by_onednn)
        torch.testing.assert_close(mine.float(), other.float(), rtol=0.1, atol=0.02)


@pytest.mark.parametrize("autocast", [BF16, torch.float16], ids=str)
@pytest.mark.parametrize("state_dtype", [F32, F64, torch.float16], ids=str)
@pytest.mark.parametrize("make", [ltlstm.LSTM, ltlstm.LTLSTM, ltlstm.ResidualLSTM])
def test_autocast_where_nn_lstm_fails(make: Any, state_dtype: Any, autocast: Any) -> None:
    module = make(D, H, 2)
    x, (h, c) = torch.randn(T, N, D), random_state(module, N)
    want = module(x, (h, c))[0]
    with torch.autocast("cpu", autocast):
        output, states = module(x, (h.to(state_dtype), c.to(state_dtype)))
    assert {output.dtype, *(s.dtype for s in states)} == {autocast}
    torch.testing.assert_close(output.float(), want, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", [BF16, torch.float16], ids=str)
@pytest.mark.parametrize("form", ["padded", "packed"])
def test_half_types_train(form: str, dtype: torch.dtype) -> None:
    """By the two-times rule: no worse than twice plain torch in float32, plus the rounding."""
    ours, theirs = pair(num_layers=2, bidirectional=True)
    halves = ours.to(dtype)
    theirs.load_state_dict(halves.state_dict())  # the rounded weights
    x = input_of(form).to(dtype).to(F32)
    check_same(halves, theirs, x, dtype=dtype)


def through_weight_norm(module: nn.LSTM | ltlstm.LSTM) -> None:
    parametrizations.weight_norm(module, "weight_hh_l0")
    parametrizations.weight_norm(module, "weight_ih_l1")


def pruned(module: nn.LSTM | ltlstm.LSTM) -> None:
    prune.l1_unstructured(module, "weight_ih_l0", amount=0.4)


def tied(module: nn.LSTM | ltlstm.LSTM) -> None:
    module.weight_hh_l1 = module.weight_hh_l0
    module.weight_ih_l1 = module.weight_ih_l0


def not_contiguous(module: nn.LSTM | ltlstm.LSTM) -> None:
    for name in ("weight_ih_l0", "weight_hh_l1"):
        weight = getattr(module, name).detach()
        setattr(module, name, nn.Parameter(weight.t().contiguous().t()))


@pytest.mark.parametrize("change", [through_weight_norm, pruned, tied, not_contiguous])
def test_odd_weights_train_as_in_nn_lstm(change: Callable[[Any], None]) -> None:
    ours, theirs = pair(num_layers=2)
    change(ours), change(theirs)
    x = torch.randn(T, N, D)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for module in (ours, theirs):
            optimizer = torch.optim.SGD(module.parameters(), 0.5)
            for _ in range(3):
                optimizer.zero_grad()
                module(x)[0].square().mean().backward()
                optimizer.step()
            found.append([module(x)[0].detach(), *module.state_dict().values()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("form", ["padded", "packed"])
@pytest.mark.parametrize("make", [ltlstm.LSTM, ltlstm.LTLSTM, ltlstm.ResidualLSTM])
def test_a_gradient_penalty_has_its_first_derivative_on_the_kernel(make: Any, form: str) -> None:
    module, x = make(D, H, 2).eval(), input_of(form)
    leaf = x.data if form == "packed" else x
    leaf.requires_grad_()
    with Calls() as calls:
        (output,) = flat(module(x)[0]).values()
        (first,) = torch.autograd.grad(output.square().sum(), leaf, create_graph=True)
        first_calls = set(calls.ours())
    op = "lt_lstm" if make is ltlstm.LTLSTM else "lstm_stack"
    assert first_calls == {f"ltlstm::{op}_forward", f"ltlstm::{op}_backward"}
    first.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())
