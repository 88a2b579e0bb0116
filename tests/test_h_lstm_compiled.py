# SPDX-License-Identifier: Apache-2.0
"""What compile_sparse makes of an HLSTM: the same outputs, and nothing that can grow old.

The operator: test_h_lstm_sparse.py.
"""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import ltlstm
from ltlstm.modules.h_lstm import CompiledHLSTM
from ltlstm.sparsity import count
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


def pair(*arguments: Any, **options: Any) -> tuple[ltlstm.HLSTM, CompiledHLSTM]:
    made = module(*arguments, **options)
    compiled = made.compile_sparse()
    assert compiled is not None
    return made, compiled


def same(
    made: ltlstm.HLSTM, *arguments: Any, compiled: nn.Module | None = None, **options: Any
) -> None:
    """As on the reference, by the two-times rule."""

    def results(on: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
        def cast(x: Any) -> Any:
            return x.to(dtype) if isinstance(x, Tensor) or hasattr(x, "batch_sizes") else x

        output, (h, c) = on(*[cast(x) for x in arguments], **options)
        return {"output": getattr(output, "data", output), "h_n": h, "c_n": c}

    oracle = copy.deepcopy(made)
    oracle.backend = "reference"
    actual = results(compiled or made, F32)
    plain, exact = results(oracle, F32), results(oracle.double(), F64)
    assert_all_close(actual, exact, plain)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"bidirectional": True, "gate_num_layers": 2, "bias": False},
    {"batch_first": True, "activation": "relu", "dropout": 0.3, "gate_dropout": 0.3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_form_of_input(options: dict[str, Any], spy: Spy) -> None:
    made, compiled = pair(**options)
    x, reset, lengths = torch.randn(T, N, D), torch.rand(T, N) < 0.3, torch.tensor([2, 5, 1])
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    if made.batch_first:
        x, reset = x.transpose(0, 1), reset.t()
    same(made, x, compiled=compiled)
    same(made, x, lengths=lengths, reset=reset, compiled=compiled)
    same(made, packed, compiled=compiled)
    same(made, x[0], compiled=compiled)
    assert spy.calls == 4
    assert spy.compiled == len([n for n in dict(made.named_parameters()) if "weight" in n])


def fused(made: ltlstm.HLSTM, x: Tensor) -> None:
    """Its step gives no tensor another version."""
    for p in made.parameters():
        p.grad = torch.ones_like(p)
    torch.optim.Adam(made.parameters(), 0.1, fused=True).step()


def optimised(made: ltlstm.HLSTM, x: Tensor) -> None:
    with torch.enable_grad():
        made(x)[0].sum().backward()
    torch.optim.SGD(made.parameters(), 0.1, momentum=0.9, weight_decay=0.1).step()


CHANGES: dict[str, Callable[[ltlstm.HLSTM, Tensor], Any]] = {
    "mask": lambda made, x: made.weight_hh_l0_mask.copy_(made.weight_hh_l0_mask.flip(0)),
    "mask's data": lambda made, x: made.weight_hh_l0_mask.data.copy_(
        made.weight_hh_l0_mask.flip(0)
    ),
    "mask as out": lambda made, x: torch.cat(
        list(made.weight_hh_l0_mask.clone().flip(0).split(1)), out=made.weight_hh_l0_mask
    ),
    "weight": lambda made, x: made.gate1_weight_l0.mul_(-2),
    "bias": lambda made, x: made.bias_l0.add_(1),
    "weight's data": lambda made, x: made.weight_hh_l0.data.mul_(3),
    "numpy": lambda made, x: made.weight_hh_l0.numpy().fill(3),
    "state dict": lambda made, x: made.load_state_dict(module(0.03, layers=1).state_dict()),
    "assigned": lambda made, x: made.load_state_dict(
        module(0.03, layers=1).state_dict(), assign=True
    ),
    "optimiser": optimised,
    "fused optimiser": fused,
    "data": lambda made, x: setattr(made.weight_ih_l0, "data", made.weight_ih_l0.data * 3),
    "activation": lambda made, x: setattr(made, "activation", "relu"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_it_was_made_from_goes_on_apart(name: str, spy: Spy) -> None:
    """The module is never a compiled one, whatever wrote into it; the compiled one stays."""
    made, compiled = pair(layers=1)
    x = torch.randn(T, N, D)
    before, frozen = made(x)[0], compiled(x)[0]
    CHANGES[name](made, x)
    assert not torch.equal(made(x)[0], before)
    same(made, x)
    assert torch.equal(compiled(x)[0], frozen)
    assert spy.calls == 2
    again = made.compile_sparse()
    assert again is not None
    same(made, x, compiled=again)


def test_inference_mode(spy: Spy) -> None:
    x = torch.randn(T, N, D)
    with torch.inference_mode():
        made, compiled = pair()
        output = compiled(x)[0]
    assert torch.equal(compiled(x)[0], output)
    assert spy.calls == 2
    same(made, x, compiled=compiled)


@pytest.mark.parametrize("bias", [True, False])
def test_the_cell(bias: bool, spy: Spy) -> None:
    whole, compiled = pair(layers=1, activation="relu", bias=bias)
    cell = ltlstm.HLSTMCell(D, H, bias, gate_hidden_size=K)
    cell.load_state_dict({k.replace("_l0", ""): v for k, v in whole.state_dict().items()})
    x, state = torch.randn(1, N, D), (torch.randn(1, N, H), torch.randn(1, N, H))
    made = cell.compile_sparse()
    assert made is not None and list(made.parameters()) == []
    for each in (made, copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        h, c = each(x[0], (state[0][0], state[1][0]))
        output, (_, c_n) = compiled(x, state)
        assert torch.equal(h, output[0]) and torch.equal(c, c_n[0])
    assert spy.calls == 6
    cell.weight_hh.zero_()
    assert not torch.equal(cell(x[0], (state[0][0], state[1][0]))[0], h)
    with pytest.raises(RuntimeError, match="HLSTMCell: it has no state dict"):
        made.state_dict()


def test_copies_compute_the_same() -> None:
    made, compiled = pair(dropout=0.5, bidirectional=True)
    calls = []
    made.register_forward_hook(lambda *_: calls.append(1))
    hooked = made.compile_sparse()
    assert hooked is not None
    x = torch.randn(T, N, D)
    for other in (copy.deepcopy(compiled), pickle.loads(pickle.dumps(compiled)), hooked):
        assert torch.equal(other(x)[0], compiled(x)[0])
    assert calls == [1]


def test_traced_it_is_the_same_operator() -> None:
    made, compiled = pair()
    x = torch.randn(T, N, D)
    traced = torch.compile(compiled, backend="aot_eager", fullgraph=True)
    assert torch.equal(traced(x)[0], compiled(x)[0])


REFUSED: dict[str, Callable[[CompiledHLSTM, ltlstm.HLSTM], Any]] = {
    "it has no state dict": lambda c, made: nn.Sequential(c).state_dict(),
    "it loads no state dict": lambda c, made: c.load_state_dict(made.state_dict()),
    "it must stay torch.float32 on the CPU, got torch.float64 cpu": lambda c, made: c.double(),
    "it must stay torch.float32 on the CPU, got torch.float32 meta": lambda c, made: c.to("meta"),
    "it cannot be reset": lambda c, made: c.reset_parameters(),
    "it cannot be compiled again": lambda c, made: c.compile_sparse(),
    "weight_ih_l0 cannot be set": lambda c, made: torch.func.functional_call(
        c, dict(made.named_parameters()), (torch.randn(T, N, D),)
    ),
    "weight_hh_l0_mask cannot be set": lambda c, made: setattr(
        c, "weight_hh_l0_mask", made.weight_hh_l0_mask
    ),
}


@pytest.mark.parametrize("text", REFUSED)
def test_nothing_changes_what_is_compiled(text: str) -> None:
    made, compiled = pair()
    x = torch.randn(T, N, D)
    before = compiled(x)[0]
    with pytest.raises(RuntimeError, match=f"CompiledHLSTM: {text}: its weights are compiled; use"):
        REFUSED[text](compiled, made)
    assert torch.equal(compiled(x)[0], before)
    assert compiled.to("cpu").float() is compiled and list(compiled.parameters()) == []


def test_calls_that_need_the_weights_are_refused() -> None:
    x = torch.randn(T, N, D)
    made, compiled = pair(dropout=0.5)
    with pytest.raises(ValueError, match="compiled weights must not be used beside return_states"):
        compiled(x, return_states=True)
    with torch.enable_grad():
        assert compiled(x)[0].grad_fn is None
        with pytest.raises(ValueError, match="compiled weights must not be used beside gradients"):
            compiled(x.clone().requires_grad_())
    with ltlstm.use_backend("reference"), pytest.raises(ValueError, match="backend 'reference'"):
        compiled(x)
    with pytest.raises(ValueError, match="backend 'reference'"):
        torch.func.vmap(compiled)(torch.randn(2, T, N, D))
    with pytest.raises(ValueError, match="does not match weight dtype"):
        compiled(x.double())
    with pytest.raises(ValueError, match="compiled weights must not be used beside dropout"):
        compiled.train()(x)


def test_where_it_would_not_pay_there_is_none() -> None:
    parametrized = module()
    nn.utils.parametrize.register_parametrization(parametrized, "weight_hh_l0", nn.Tanh())
    for made in (module(0.6), module(backend="reference"), module().bfloat16()):
        assert made.compile_sparse() is None
    assert parametrized.compile_sparse() is None
    made = module().train()
    compiled = made.compile_sparse()
    assert compiled is not None and made.training and not compiled.training
    made.weight_hh_l0_mask.fill_(True)
    made.weight_ih_l1_mask.fill_(True)
    made.gate1_weight_l0_mask.fill_(True)
    assert made.compile_sparse() is None  # no longer


def test_a_subclass_is_not_compiled() -> None:
    class Scaled(ltlstm.HLSTM):
        pass

    with pytest.raises(TypeError, match="Scaled is a subclass of HLSTM, and what it adds would be"):
        Scaled(D, H).compile_sparse()


def test_it_counts_as_what_it_was_made_from() -> None:
    made, compiled = pair()
    assert count(nn.Sequential(compiled)) == count(nn.Sequential(made))


def test_a_weight_without_a_mask_counts_as_all_on() -> None:
    """torch's pruning takes the mask away when it makes itself permanent."""
    made = module(density=0.02, layers=1)
    assert made.weight_ih_l0.numel() < 0.3 * sum(p.numel() for p in made.parameters())
    del made.weight_ih_l0_mask
    compiled = made.compile_sparse()
    assert compiled is not None
    same(made, torch.randn(T, N, D), compiled=compiled)
