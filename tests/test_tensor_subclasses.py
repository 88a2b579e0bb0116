# SPDX-License-Identifier: Apache-2.0
"""Tensor subclasses run on the operators, and come out as they do of nn.LSTM."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.testing._internal.two_tensor import TwoTensor

import ltlstm
from module_results import flat
from operators import Calls

T, N, D, H = 5, 3, 4, 6
MAKERS: dict[str, Any] = {
    "LSTM": lambda: ltlstm.LSTM(D, H, 2, bidirectional=True),
    "ResidualLSTM": lambda: ltlstm.ResidualLSTM(D, H, 2),
    "LTLSTM": lambda: ltlstm.LTLSTM(D, H, 2),
    "lookahead": lambda: ltlstm.LTLSTM(D, H, 2, lookahead=1),
    "HLSTM": lambda: ltlstm.HLSTM(D, H, 2),
    "LTLSTMCell": lambda: ltlstm.LTLSTMCell(D, H, 2),
    "HLSTMCell": lambda: ltlstm.HLSTMCell(D, H),
}


class Plain(Tensor):
    pass


class Tagged(Tensor):
    """Keeps its type and a tag, as fastai's TensorBase does."""

    tag: str = ""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = super().__torch_function__(func, types, args, kwargs or {})
        for t in found if isinstance(found, tuple | list) else (found,):
            if isinstance(t, Tagged):
                t.tag = "kept"
        return found


class PlainParameter(nn.Parameter):
    pass


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("kind", [Plain, Tagged])
@pytest.mark.parametrize("name", MAKERS)
def test_a_subclass_runs_on_the_operators(name: str, kind: Any, gradients: bool) -> None:
    module = MAKERS[name]()
    x = torch.randn(N, D) if "Cell" in name else torch.randn(T, N, D)
    expected = flat(module(x))
    expected["out.0"].sum().backward()
    wanted = [p.grad for p in module.parameters()]
    module.zero_grad()
    with torch.set_grad_enabled(gradients), Calls() as calls:
        found = flat(module(x.as_subclass(kind)))
    assert calls.ours()
    for key, value in found.items():
        assert type(value) is kind and getattr(value, "tag", "kept") == "kept"
        torch.testing.assert_close(value.detach().as_subclass(Tensor), expected[key].detach())
    if gradients:
        found["out.0"].sum().backward()
        for p, gradient in zip(module.parameters(), wanted, strict=True):
            torch.testing.assert_close(p.grad, gradient)


def test_types_are_those_of_nn_lstm() -> None:
    plain = torch.randn(T, N, D).as_subclass(Plain)
    hx = (torch.zeros(1, N, H).as_subclass(Plain), torch.zeros(1, N, H))
    calls: list[Any] = [
        lambda m: m(plain),
        lambda m: m(torch.ones(T, N, D), hx),
        lambda m: m(nn.Buffer(torch.ones(T, N, D))),
        lambda m: m(pack_padded_sequence(plain, [5, 3, 1])),
    ]
    for weight in (PlainParameter, lambda t: nn.Parameter(t.as_subclass(Plain))):
        modules = nn.LSTM(D, H), ltlstm.LSTM(D, H)
        for call in calls:
            theirs, ours = (flat(call(m)) for m in modules)
            assert {k: type(v) for k, v in ours.items()} == {k: type(v) for k, v in theirs.items()}
        for m in modules:
            m.weight_hh_l0 = weight(m.weight_hh_l0.detach())
        theirs, ours = (flat(m(torch.ones(T, N, D))) for m in modules)
        assert {k: type(v) for k, v in ours.items()} == {k: type(v) for k, v in theirs.items()}


def test_a_dispatch_of_its_own_goes_to_the_reference() -> None:
    module, x = ltlstm.LSTM(D, H), torch.randn(T, N, D)
    text = "TwoTensor is a tensor subclass with a __torch_dispatch__ of its own"
    module.backend = "cpu"
    with pytest.raises(RuntimeError, match=f"'cpu' cannot run: {text}"):
        module(TwoTensor(x, x))
