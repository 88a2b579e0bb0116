# SPDX-License-Identifier: Apache-2.0
"""When HLSTM takes its weights compiled, that it then gives what it would have given, and until
which change.

The operator: test_h_lstm_sparse.py.
"""

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import ltlstm
from ltlstm import functional
from ltlstm_kernels import sparse
from sparse_masks import mask_of
from tolerance import assert_all_close

F32, F64 = torch.float32, torch.float64


class Spy:
    """Counts the calls of the sparse operator, and the compilations of a matrix."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = self.compiled = 0
        forward, compile_ = sparse.h_lstm_sparse_forward, sparse.sparse_compile

        def counted_forward(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            return forward(*arguments, **options)

        def counted_compile(*arguments: Any, **options: Any) -> Any:
            self.compiled += 1
            return compile_(*arguments, **options)

        monkeypatch.setattr(sparse, "h_lstm_sparse_forward", counted_forward)
        monkeypatch.setattr(sparse, "sparse_compile", counted_compile)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


D, H, K, T, N = 24, 32, 40, 5, 3


def module(density: float = 0.05, layers: int = 2, **options: Any) -> ltlstm.HLSTM:
    torch.manual_seed(0)
    made = ltlstm.HLSTM(D, H, layers, gate_hidden_size=K, **options).eval()
    for name, mask in made.named_buffers():
        mask.copy_(mask_of("element", mask.shape, density, seed=len(name)))
    return made


def compiled(*arguments: Any, **options: Any) -> ltlstm.HLSTM:
    made = module(*arguments, **options)
    assert made.compile_sparse()
    return made


def same(made: ltlstm.HLSTM, *arguments: Any, **options: Any) -> None:
    """As on the reference, by the two-times rule."""

    def results(on: ltlstm.HLSTM, dtype: torch.dtype) -> dict[str, Tensor]:
        def cast(x: Any) -> Any:
            return x.to(dtype) if isinstance(x, Tensor) or hasattr(x, "batch_sizes") else x

        output, (h, c) = on(*[cast(x) for x in arguments], **options)
        return {"output": getattr(output, "data", output), "h_n": h, "c_n": c}

    oracle = copy.deepcopy(made)
    oracle.backend = "reference"
    actual = results(made, F32)
    plain, exact = results(oracle, F32), results(oracle.double(), F64)
    assert_all_close(actual, exact, plain)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"bidirectional": True, "gate_num_layers": 2, "bias": False},
    {"batch_first": True, "activation": "relu", "dropout": 0.3, "gate_dropout": 0.3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_form_of_input(options: dict[str, Any], spy: Spy) -> None:
    made = compiled(**options)
    x, reset, lengths = torch.randn(T, N, D), torch.rand(T, N) < 0.3, torch.tensor([2, 5, 1])
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    if made.batch_first:
        x, reset = x.transpose(0, 1), reset.t()
    same(made, x)
    same(made, x, lengths=lengths, reset=reset)
    same(made, packed)
    same(made, x[0])
    assert spy.calls == 4
    assert spy.compiled == len([n for n in dict(made.named_parameters()) if "weight" in n])


CHANGES: dict[str, Callable[[ltlstm.HLSTM, Tensor], Any]] = {
    "mask": lambda made, x: made.weight_hh_l0_mask.copy_(made.weight_hh_l0_mask.flip(0)),
    "weight": lambda made, x: made.gate1_weight_l0.mul_(-2),
    "bias": lambda made, x: made.bias_l0.add_(1),
    "detached": lambda made, x: made.weight_hh_l0.detach().mul_(3),
    "state dict": lambda made, x: made.load_state_dict(module(0.03, layers=1).state_dict()),
    "assigned": lambda made, x: made.load_state_dict(
        module(0.03, layers=1).state_dict(), assign=True
    ),
    "optimiser": lambda made, x: optimised(made, x),
    "data": lambda made, x: setattr(made.weight_ih_l0, "data", made.weight_ih_l0.data * 3),
    "data twice": lambda made, x: data_twice(made),
    "inference mode": lambda made, x: in_inference_mode(made),
    "train": lambda made, x: trained(made),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen_and_ends_it(name: str, spy: Spy) -> None:
    made, x = compiled(layers=1), torch.randn(T, N, D)
    before = made(x)[0]
    assert spy.calls == 1
    CHANGES[name](made, x)
    assert not torch.equal(made(x)[0], before)
    same(made, x)
    assert spy.calls == 1
    assert made.compile_sparse()
    same(made, x)
    assert spy.calls == 2 and spy.compiled == 6


def data_twice(made: ltlstm.HLSTM) -> None:
    """The second tensor would get the memory of the first weight, were it not held."""
    weight = made.weight_ih_l0
    shape, first = weight.shape, weight.data_ptr()
    weight.data = torch.ones(1)
    weight.data = torch.ones(shape)
    assert weight.data_ptr() != first


def in_inference_mode(made: ltlstm.HLSTM) -> None:
    with torch.inference_mode():
        made.weight_hh_l0.mul_(3)


def trained(made: ltlstm.HLSTM) -> None:
    """Training that torch records nothing of."""
    made.train()
    made.weight_hh_l0.data.mul_(3)
    made.eval()


@pytest.mark.parametrize("name", ["weight_hh_l0", "bias_l0", "gate1_weight_l0_mask"])
def test_nothing_is_compiled_unasked(name: str, spy: Spy) -> None:
    """So a write that torch does not record is never missed: a target network's, say."""
    made, x = module(layers=1), torch.randn(T, N, D)
    before = made(x)[0]
    changed = dict(made.named_parameters()) | dict(made.named_buffers())
    changed[name].data.copy_(~changed[name] if "mask" in name else 3 * changed[name])
    assert not torch.equal(made(x)[0], before)
    same(made, x)
    ltlstm.explain(made, x)
    assert spy.calls == spy.compiled == 0


def test_what_is_compiled_is_frozen() -> None:
    """As the docstring says: weights and biases alike."""
    made, x = compiled(layers=1), torch.randn(T, N, D)
    before = made(x)[0]
    made.weight_hh_l0.data.mul_(3)
    made.bias_l0.data.mul_(3)
    assert torch.equal(made(x)[0], before)
    assert made.compile_sparse()
    assert not torch.equal(made(x)[0], before)
    same(made, x)


def optimised(made: ltlstm.HLSTM, x: Tensor) -> None:
    with torch.enable_grad():
        made(x)[0].sum().backward()
    torch.optim.SGD(made.parameters(), 0.1, momentum=0.9, weight_decay=0.1).step()


def test_inference_mode(spy: Spy) -> None:
    made, x = compiled(), torch.randn(T, N, D)
    with torch.inference_mode():
        output = made(x)[0]
        made.compile_sparse()
        assert torch.equal(made(x)[0], output)
    assert torch.equal(made(x)[0], output)
    assert spy.calls == 3 and spy.compiled == 12


def test_the_cell(spy: Spy) -> None:
    whole = compiled(layers=1, activation="relu")
    cell = ltlstm.HLSTMCell(D, H, gate_hidden_size=K, activation="relu").eval()
    cell.load_state_dict({k.replace("_l0", ""): v for k, v in whole.state_dict().items()})
    x, state = torch.randn(1, N, D), (torch.randn(1, N, H), torch.randn(1, N, H))
    assert cell.compile_sparse()
    h, c = cell(x[0], (state[0][0], state[1][0]))
    assert spy.calls == 1
    output, (_, c_n) = whole(x, state)
    assert torch.equal(h, output[0]) and torch.equal(c, c_n[0])
    cell.weight_hh.zero_()
    assert not torch.equal(cell(x[0], (state[0][0], state[1][0]))[0], h)
    assert spy.calls == 2


def test_a_copy_has_nothing_compiled(spy: Spy) -> None:
    made, x = compiled(), torch.randn(T, N, D)
    output = made(x)[0]
    other = copy.deepcopy(made)
    same(other, x)
    assert spy.calls == 1
    assert other.compile_sparse() and torch.equal(other(x)[0], output)
    other.weight_hh_l0.zero_()
    assert not torch.equal(other(x)[0], output)
    assert torch.equal(made(x)[0], output)
    assert spy.calls == 3


def test_where_it_is_not_taken(spy: Spy) -> None:
    x, made = torch.randn(T, N, D), compiled()
    made(x)
    assert spy.calls == 1
    made(x, return_states=True)
    with torch.enable_grad():
        made(x)
    with torch.autocast("cpu", torch.bfloat16):
        made(x)
    with ltlstm.use_backend("reference"):
        made(x)
    others = {name: 2 * p for name, p in made.named_parameters()}
    torch.func.functional_call(made, others, (x,))
    torch.func.vmap(made)(torch.randn(2, T, N, D))
    torch.compile(made, backend="eager")(x)
    assert spy.calls == 1
    made(x)  # and all the while it was there
    assert spy.calls == 2


def test_compile_sparse_says_whether_calls_will_use_it(spy: Spy) -> None:
    x = torch.randn(T, N, D)
    parametrized = module()
    nn.utils.parametrize.register_parametrization(parametrized, "weight_hh_l0", nn.Tanh())
    for made in (module(0.6), module(backend="reference"), module().bfloat16(), parametrized):
        assert not made.compile_sparse()
        made(x.to(made.bias_l0.dtype))
    assert spy.calls == 0
    made = module().train()
    assert made.compile_sparse()  # for when it is not training
    made(x)
    assert spy.calls == 0
    made.eval()(x)
    assert spy.calls == 1
    made.weight_hh_l0_mask.fill_(True)
    made.weight_ih_l1_mask.fill_(True)
    made.gate1_weight_l0_mask.fill_(True)
    assert not made.compile_sparse()  # no longer


BESIDE: dict[str, dict[str, Any]] = {
    "dropout": {"dropout": 0.5, "training": True},
    "gate_dropout": {"gate_dropout": 0.5, "training": True},
    "return_states": {"return_states": True},
    "backend 'reference'": {"backend": "reference"},
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_does_not_go_together_is_refused(name: str) -> None:
    made, x = module(), torch.randn(T, N, D)
    names = made._flat_weights_names
    weights = [getattr(made, each) for each in names]
    compiled = [
        sparse.sparse_compile(w) if "weight" in each else w
        for each, w in zip(names, weights, strict=True)
    ]
    text = f"h_lstm: compiled must be empty beside {name}, got 10"
    with pytest.raises(ValueError, match=re.escape(text)):
        functional.h_lstm(x, None, weights, compiled=compiled, **BESIDE[name])
