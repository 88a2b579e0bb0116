# SPDX-License-Identifier: Apache-2.0
"""torch.fx.symbolic_trace calls our modules and does not enter them, as it does nn.LSTM."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

import ltlstm
from module_results import flat

D, H = 3, 4
MAKERS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: ltlstm.LSTM(D, H),
    "converted": lambda: ltlstm.convert_(nn.LSTM(D, H)),
    "residual": lambda: ltlstm.ResidualLSTM(D, H, 2),
    "lt": lambda: ltlstm.LTLSTM(D, H, 2),
    "hlstm": lambda: ltlstm.HLSTM(D, H),
    "lstm_cell": lambda: ltlstm.LSTMCell(D, H),
    "lt_cell": lambda: ltlstm.LTLSTMCell(D, H, 2),
    "hlstm_cell": lambda: ltlstm.HLSTMCell(D, H),
}
EVERY = pytest.mark.parametrize("name", MAKERS)


class Model(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)[0] * 2


def input_of(name: str) -> Tensor:
    return torch.randn(5, D) if name.endswith("cell") else torch.randn(4, 5, D)


def copies(module: nn.Module) -> list[nn.Module]:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    return [module, copy.deepcopy(module), pickle.loads(pickle.dumps(module)), loaded]


@EVERY
def test_a_module_is_a_leaf_and_so_are_its_copies(name: str) -> None:
    x, original = input_of(name), MAKERS[name]()
    for module in copies(original):
        graph = fx.symbolic_trace(Model(module))
        assert [n.target for n in graph.graph.nodes if n.op == "call_module"] == ["module"]
        assert type(module) is type(original)
        torch.testing.assert_close(graph(x), original(x)[0] * 2)


@EVERY
def test_it_names_its_own_package_elsewhere(name: str) -> None:
    module = MAKERS[name]()
    assert type(module).__module__.startswith("ltlstm.")
    assert "__module__" not in repr(module) and "__module__" not in module.state_dict()


@EVERY
def test_it_compiles_and_exports(name: str) -> None:
    torch._dynamo.reset()
    module, x = MAKERS[name](), input_of(name)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    exported = torch.export.export(module, (x,)).module()
    for call in (compiled, exported):
        for a, b in zip(flat(call(x)).values(), flat(module(x)).values(), strict=True):
            torch.testing.assert_close(a, b)


def test_a_class_that_is_derived_elsewhere_is_entered() -> None:
    class Wrapped(ltlstm.LSTM):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return x + 1

    graph = fx.symbolic_trace(nn.Sequential(Wrapped(D, H)))
    assert not [n for n in graph.graph.nodes if n.op == "call_module"]


def test_an_nn_lstm_made_of_ours_has_nothing_of_it() -> None:
    made = ltlstm.LSTM(D, H).to_torch()
    assert vars(made).keys() == vars(nn.LSTM(D, H)).keys()
