# SPDX-License-Identifier: Apache-2.0
"""convert_, from_torch and to_torch: another class, and all else as it was."""

import copy
import gc
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import ltlstm
from ltlstm.convert import Skipped
from module_results import check_same

T, N, D, H = 5, 3, 6, 6
OPTIONS: dict[str, Any] = {
    "num_layers": 2, "batch_first": True, "dropout": 0.4, "bidirectional": True, "proj_size": 3
}  # fmt: skip


class Tagger(nn.Module):
    """Nested, with an LSTM in a list, one used twice, and one tied to another."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"rnn": nn.LSTM(D, H), "norm": nn.LayerNorm(H)})
        self.stack = nn.ModuleList([nn.LSTM(H, H, 2, dropout=0.5), nn.GRU(H, H)])
        self.again = self.encoder["rnn"]
        self.tied = nn.LSTM(D, H)
        self.tied.weight_hh_l0 = self.again.weight_hh_l0
        self.rnn = nn.LSTM(H, H, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder["norm"](self.encoder["rnn"](x)[0])
        for layer in self.stack:
            x = layer(x)[0]
        return self.rnn(self.tied(self.again(x)[0])[0])[0]


@pytest.mark.filterwarnings("error")
def test_a_model_is_converted_in_place() -> None:
    model = Tagger()
    before, oracle = dict(model.named_parameters()), copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    names = ["encoder.rnn", "stack.0", "again", "tied", "rnn"]
    assert ltlstm.convert_report(model).convertible == names
    assert ltlstm.convert_(model) is model
    assert all(type(model.get_submodule(name)) is ltlstm.LSTM for name in names)
    assert model.again is model.encoder["rnn"] and type(model.stack[1]) is nn.GRU
    assert model.tied.weight_hh_l0 is model.again.weight_hh_l0
    after = dict(model.named_parameters())
    assert list(after) == list(before) and all(after[k] is before[k] for k in before)
    assert list(model.state_dict()) == list(oracle.state_dict())
    x = torch.randn(T, N, D)
    torch.manual_seed(1)
    expected = oracle(x)
    torch.manual_seed(1)
    found = model(x)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    optimizer.step()  # the optimizer's parameters are the model's
    torch.testing.assert_close(after["rnn.weight_ih_l0"], before["rnn.weight_ih_l0"])
    assert not torch.equal(after["rnn.weight_ih_l0"], oracle.rnn.weight_ih_l0)
    assert ltlstm.convert_report(model) == ([], [])
    converted = model.rnn
    assert ltlstm.convert_(model).rnn is converted  # again: nothing to do


@pytest.mark.parametrize("way", ["convert_", "from_torch"])
def test_options_mode_and_numbers(way: str) -> None:
    theirs = nn.LSTM(D, H, **OPTIONS)
    oracle = copy.deepcopy(theirs)
    make = ltlstm.convert_ if way == "convert_" else ltlstm.LSTM.from_torch
    ours = make(theirs, backend="cpu")
    assert type(ours) is ltlstm.LSTM and ours.backend == "cpu" and ours.training
    assert all(getattr(ours, name) == value for name, value in OPTIONS.items())
    check_same(ours, oracle, torch.randn(N, T, D))
    assert not make(copy.deepcopy(oracle).eval()).training


def test_there_and_back() -> None:
    theirs = nn.LSTM(D, H, **OPTIONS).eval()
    ours = ltlstm.LSTM.from_torch(theirs)
    back = ours.to_torch()
    assert type(back) is nn.LSTM and repr(back) == repr(theirs) and not back.training
    assert not hasattr(back, "backend")
    for one in (ours, back):
        assert all(a is b for a, b in zip(one.parameters(), theirs.parameters(), strict=True))
    with torch.no_grad():
        theirs.weight_ih_l0.mul_(2)
    x = torch.randn(N, T, D)
    torch.testing.assert_close(back(x)[0], theirs(x)[0], rtol=0, atol=0)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])
    # From here they are modules of their own.
    back.weight_hh_l0 = nn.Parameter(torch.zeros_like(back.weight_hh_l0))
    assert theirs.weight_hh_l0.any() and ours.weight_hh_l0.any()
    ours.register_buffer("extra", torch.ones(1))
    assert not list(theirs.buffers())


def test_a_filter_and_a_backend() -> None:
    model = Tagger()
    seen: list[str] = []

    def wanted(module: nn.Module, name: str) -> bool:
        assert isinstance(module, nn.LSTM)
        seen.append(name)
        return name != "rnn"

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ltlstm.convert_(model, filter_fn=wanted, backend="reference")
    assert seen == ["encoder.rnn", "stack.0", "again", "tied", "rnn"]
    assert type(model.rnn) is nn.LSTM and model.tied.backend == "reference"
    assert ltlstm.convert_report(model, filter_fn=wanted) == ([], [])
    assert ltlstm.convert_report(model).convertible == ["rnn"]


class Custom(nn.LSTM):
    pass


def compiled() -> nn.LSTM:
    module = nn.LSTM(D, H)
    module.compile(backend="eager")
    return module


def replaced() -> nn.LSTM:
    module = nn.LSTM(D, H)
    module.forward = lambda x: x  # type: ignore[method-assign, assignment]
    return module


OBSTACLES: dict[str, tuple[Any, str]] = {
    "subclass": (
        lambda: Custom(D, H),
        "Custom is a subclass of LSTM, and what it adds would be lost",
    ),
    "compiled": (compiled, "it is compiled in place: convert first, then compile"),
    "replaced": (replaced, "its forward was replaced"),
    "script": (lambda: torch.jit.script(nn.LSTM(D, H)), "it is TorchScript"),
}


@pytest.mark.parametrize("name", OBSTACLES)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_what_cannot_be_converted_is_left_and_named(name: str) -> None:
    make, reason = OBSTACLES[name]
    model = nn.Sequential(nn.LSTM(D, H), make())
    odd = model[1]
    with pytest.warns(UserWarning, match=f"convert_: left as they are: 1: {reason}"):
        ltlstm.convert_(model)
    assert type(model[0]) is ltlstm.LSTM and model[1] is odd
    assert ltlstm.convert_report(model) == ([], [Skipped("1", reason)])
    with pytest.warns(UserWarning, match=f"left as they are: the model: {reason}"):
        assert ltlstm.convert_(odd) is odd
    with pytest.raises(TypeError, match=f"from_torch: module must be an nn.LSTM, but {reason}"):
        ltlstm.LSTM.from_torch(odd)


def test_from_and_to_refuse_other_modules() -> None:
    for other in (nn.GRU(D, H), nn.LSTMCell(D, H), ltlstm.LSTM(D, H)):
        with pytest.raises(TypeError, match="must be an nn.LSTM, but .* is no LSTM"):
            ltlstm.LSTM.from_torch(other)  # type: ignore[arg-type]

    class Ours(ltlstm.LSTM):
        pass

    assert type(Ours.from_torch(nn.LSTM(D, H))) is Ours
    with pytest.raises(TypeError, match="must be an ltlstm.LSTM, but Ours is a subclass"):
        Ours(D, H).to_torch()


def test_hooks_move_with_their_handles() -> None:
    model = nn.Sequential(nn.LSTM(D, H))
    seen: list[Any] = []
    handle = model[0].register_forward_hook(lambda module, args, out: seen.append(module))
    model[0].register_load_state_dict_pre_hook(lambda module, *rest: seen.append(module))
    ltlstm.convert_(model)
    gc.collect()  # the old module, which nothing may need any more
    model(torch.randn(T, N, D))
    model.load_state_dict(model.state_dict())
    assert seen == [model[0], model[0]]
    ltlstm.revert_(model)
    gc.collect()
    model(torch.randn(T, N, D))
    model.load_state_dict(model.state_dict())
    assert seen[2:] == [model[0], model[0]] and type(model[0]) is nn.LSTM
    handle.remove()
    model(torch.randn(T, N, D))
    assert len(seen) == 4


def weight_norm(module: nn.Module) -> None:
    parametrizations.weight_norm(module, "weight_hh_l0")


def old_weight_norm(module: nn.Module) -> None:
    nn.utils.weight_norm(module, "weight_hh_l0")


def pruned(module: nn.Module) -> None:
    prune.random_unstructured(module, "weight_ih_l0", amount=0.5)


@pytest.mark.parametrize("change", [weight_norm, old_weight_norm, pruned])
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_computed_weights_move_along(change: Any) -> None:
    module = nn.LSTM(D, H)
    change(module)
    model, x = nn.Sequential(module), torch.randn(T, N, D)
    before = model(x)[0]
    parameters = dict(model.named_parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ltlstm.convert_(model)
        assert isinstance(model[0], ltlstm.LSTM)
        torch.testing.assert_close(model(x)[0], before)
    model(x)[0].sum().backward()
    assert all(p is parameters[k] and p.grad is not None for k, p in model.named_parameters())
    with torch.no_grad():
        next(iter(parameters.values())).mul_(2)
    assert not torch.allclose(model(x)[0], before)
    back = model[0].to_torch()
    assert isinstance(back, nn.LSTM)
    torch.testing.assert_close(back(x)[0], model(x)[0])
    if change is weight_norm:
        assert type(model[0]).__name__ == "ParametrizedLSTM"
        twin = copy.deepcopy(model)  # which nn.LSTM, once called, refuses
        torch.testing.assert_close(twin(x)[0], model(x)[0])
        parametrize.remove_parametrizations(model[0], "weight_hh_l0")
        assert type(model[0]) is ltlstm.LSTM


def test_a_parent_that_occurs_twice() -> None:
    model = nn.Module()
    model.a = nn.Sequential(nn.LSTM(3, 4))
    model.b, model.c = model.a, model.a[0]
    ltlstm.convert_(model)
    assert type(model.c) is ltlstm.LSTM and model.a is model.b
    assert model.a[0] is model.c
