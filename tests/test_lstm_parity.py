# SPDX-License-Identifier: Apache-2.0
"""ltlstm.LSTM is nn.LSTM to whoever holds it: seeds, state dicts, pickles, foreign weights."""

import copy
import io
import itertools
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.rnn import pack_padded_sequence

import ltlstm
from ltlstm.functional.dropout import draw_masks
from package_copy import copy_packages, run_python

OPTIONS = [
    {"num_layers": layers, "bias": bias, "bidirectional": bidirectional, "proj_size": proj}
    for layers, bias, bidirectional, proj in itertools.product(
        [1, 3], [True, False], [False, True], [0, 2]
    )
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_same_seed_same_weights(options: dict[str, Any]) -> None:
    torch.manual_seed(3)
    theirs = nn.LSTM(5, 4, **options)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    ours = ltlstm.LSTM(5, 4, **options)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, weight in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], weight)
    torch.manual_seed(4)
    theirs.reset_parameters()
    torch.manual_seed(4)
    ours.reset_parameters()
    assert torch.equal(ours.weight_hh_l0, theirs.weight_hh_l0)
    assert repr(ours) == repr(theirs)


def test_state_dicts_interchange_byte_for_byte() -> None:
    theirs, ours = nn.LSTM(5, 4, 2, bidirectional=True), ltlstm.LSTM(5, 4, 2, bidirectional=True)
    assert not list(ours.buffers())
    ours.load_state_dict(theirs.state_dict())
    saved = []
    for module in (theirs, ours):
        file = io.BytesIO()
        torch.save(module.state_dict(), file)
        saved.append(file.getvalue())
    assert saved[0] == saved[1]
    nn.LSTM(5, 4, 2, bidirectional=True).load_state_dict(ours.state_dict())


@pytest.mark.parametrize("form", ["padded", "batch_first", "packed"])
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_dropout_draws_what_torch_draws(p: float, form: str) -> None:
    batch_first = form == "batch_first"
    theirs = nn.LSTM(5, 4, 3, dropout=p, batch_first=batch_first)
    ours = ltlstm.LSTM(5, 4, 3, dropout=p, batch_first=batch_first)
    ours.load_state_dict(theirs.state_dict())
    x: Any = torch.randn(6, 7, 5)
    if form == "packed":
        x = pack_padded_sequence(x, torch.tensor([6, 3, 1, 5, 2, 2, 4]), enforce_sorted=False)
    states = []
    outputs = []
    for module in (theirs, ours):
        torch.manual_seed(11)
        outputs.append(module(x)[0].data)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    torch.testing.assert_close(*outputs)
    ours.eval()
    assert torch.equal(ours(x)[0].data, ours(x)[0].data)


def test_masks_are_torchs_bit_for_bit() -> None:
    x = torch.ones(4, 3, 5)
    torch.manual_seed(0)
    expected = [nn.functional.dropout(x, 0.3) for _ in range(2)]
    torch.manual_seed(0)
    for mask, want in zip(draw_masks(2, x.shape, 0.3, x), expected, strict=True):
        assert torch.equal(mask, want)


@pytest.mark.parametrize("copies", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_compute_the_same(copies: Any) -> None:
    module = ltlstm.LSTM(5, 4, 2, backend="reference")
    twin = copies(module)
    x = torch.randn(3, 2, 5)
    assert torch.equal(twin(x)[0], module(x)[0]) and twin.backend == "reference"
    nn.init.zeros_(twin.weight_ih_l0)
    assert module.weight_ih_l0.any()


def test_saved_whole_and_loaded() -> None:
    module = ltlstm.LTLSTM(5, 4, 2, peephole=True, lookahead=1)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    twin = torch.load(file, weights_only=False)
    x = torch.randn(3, 2, 5)
    assert torch.equal(twin(x)[0], module(x)[0])


def test_functional_call_and_tied_weights() -> None:
    module = ltlstm.LSTM(4, 4, 2)
    x = torch.randn(3, 2, 4)
    weights = {name: torch.randn_like(w) for name, w in module.named_parameters()}
    other = ltlstm.LSTM(4, 4, 2)
    other.load_state_dict(weights)
    assert torch.equal(functional_call(module, weights, (x,))[0], other(x)[0])
    double = {name: w.double() for name, w in weights.items()}
    assert functional_call(module, double, (x.double(),))[0].dtype == torch.float64
    module.weight_hh_l1 = module.weight_hh_l0
    module(x)[0].sum().backward()
    assert module.weight_hh_l0.grad is not None
    assert "weight_hh_l1" in module.state_dict() and len(list(module.parameters())) == 7


def test_weights_that_are_computed_or_not_contiguous() -> None:
    module = ltlstm.LSTM(4, 3)
    x = torch.randn(5, 2, 4)
    before = module(x)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parametrizations.weight_norm(module, "weight_hh_l0")
        torch.testing.assert_close(module(x)[0], before)
        module(x)[0].sum().backward()
        assert module.parametrizations.weight_hh_l0.original1.grad is not None
        parametrize.remove_parametrizations(module, "weight_hh_l0")
        prune.random_unstructured(module, "weight_ih_l0", amount=0.5)
        module(x)[0].sum().backward()
        assert module.weight_ih_l0_orig.grad is not None
        prune.remove(module, "weight_ih_l0")
        before = module(x)[0]
        module.weight_ih_l0 = nn.Parameter(module.weight_ih_l0.detach().t().contiguous().t())
        torch.testing.assert_close(module(x)[0], before)


WITHOUT_OPERATORS = """
import ltlstm, torch
for module in (ltlstm.LSTM(4, 3, 2), ltlstm.LTLSTM(4, 3, 2), ltlstm.ResidualLSTM(4, 3, 2)):
    theirs = torch.nn.LSTM(4, 3, 2)
    theirs.load_state_dict({k: module.state_dict()[k] for k in theirs.state_dict()})
    x = torch.randn(5, 2, 4)
    output, (h_n, c_n) = module(x)
    again = module(x, reset=torch.zeros(5, 2, dtype=torch.bool))[0]  # torch's LSTM has no reset
    assert torch.allclose(again, output, atol=1e-6)
    if not isinstance(module, ltlstm.ResidualLSTM):
        assert torch.allclose(h_n, theirs(x)[1][0], atol=1e-6)
assert ltlstm.LSTMCell(4, 3)(x[0])[0].shape == (2, 3)
print("computed")
"""


def test_modules_work_without_the_operators(tmp_path: Path) -> None:
    packages = copy_packages(tmp_path, "_ops_*")
    assert run_python(packages, "-c", WITHOUT_OPERATORS).stdout == "computed\n"


def test_normal_use_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = torch.randn(5, 2, 4)
        for module in (
            ltlstm.LSTM(4, 3, 2, dropout=0.5, proj_size=2, bidirectional=True),
            ltlstm.ResidualLSTM(4, 3, 2, dropout=0.5),
            ltlstm.LTLSTM(4, 3, dropout=0.5, lookahead=1),
        ):
            module.flatten_parameters()
            module(x, lengths=torch.tensor([2, 5]))[0].sum().backward()
            module.double()(x.double())


def test_a_dropout_that_cannot_act_warns_as_torch_does() -> None:
    for make in (nn.LSTM, ltlstm.LSTM, lambda *a, **k: ltlstm.LTLSTM(*a, **k, traj_dropout=False)):
        with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
            make(3, 4, dropout=0.5)


@pytest.mark.parametrize("make", [ltlstm.LSTM, ltlstm.LTLSTM, ltlstm.ResidualLSTM])
def test_autocast_gives_its_dtype(make: Any) -> None:
    module = make(4, 3, 2, dropout=0.1)
    x = torch.randn(5, 2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        output, (h, c) = module(x.bfloat16(), (torch.zeros(2, 2, 3), torch.zeros(2, 2, 3)))
    assert {output.dtype, h.dtype, c.dtype} == {torch.bfloat16}
    output.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in module.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_on_the_cpu_is_computed_in_float(dtype: torch.dtype) -> None:
    module = ltlstm.LTLSTM(4, 3, 2).to(dtype)
    x = torch.randn(5, 2, 4, dtype=dtype)
    output, (h, c) = module(x)
    float_output = copy.deepcopy(module).float()(x.float())[0]
    assert torch.equal(output, float_output.to(dtype))
    assert output.dtype == h.dtype == c.dtype == dtype


def test_permute_hidden() -> None:
    module, order = ltlstm.LSTM(3, 4), torch.tensor([1, 0])
    _, hx = module(torch.randn(5, 2, 3))
    for found, given in zip(module.permute_hidden(hx, order), hx, strict=True):
        assert torch.equal(found, given[:, order])
