# SPDX-License-Identifier: Apache-2.0
"""torch.onnx.export(dynamo=True): standard nodes only, run by onnxruntime at other sizes than those
traced, against the module itself."""

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import ltlstm
from module_results import flat
from tolerance import assert_close

D, H, P = 3, 4, 2
T, N = Dim("T"), Dim("N")
TN = {0: T, 1: N}


class Calls(nn.Module):
    """Several modules in one file, which takes as long to export as one: ``call`` says how each is
    called."""

    def __init__(self, call: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.of, self.call = nn.ModuleDict(modules), call

    def forward(self, *args: Any) -> Any:
        calls = enumerate(self.of.items())
        return {name: self.call(k, module, *args) for k, (name, module) in calls}


def exported(model: nn.Module, args: tuple, shapes: Any, folder: Path) -> onnx.ModelProto:
    model.eval()
    path = folder / "model.onnx"
    torch.onnx.export(
        model, args, path, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False
    )  # fmt: skip
    file = onnx.load(path)
    onnx.checker.check_model(file, full_check=True)
    assert not file.functions and [opset.domain for opset in file.opset_import] == [""]
    return file


def run(file: onnx.ModelProto, args: Any) -> list[Tensor]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of initialisers that the exporter left
    session = onnxruntime.InferenceSession(
        file.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    values = [value.numpy() for value in flat(args).values()]
    return [torch.from_numpy(y) for y in session.run(None, dict(zip(names, values, strict=True)))]


def named(results: dict[str, Any]) -> dict[str, Tensor]:
    return {key: y for name, of in results.items() for key, y in flat(of, name).items()}


def double(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    return type(value)(double(v) for v in value)


def check(model: nn.Module, make: Callable[[int, int], tuple], shapes: Any, folder: Path) -> Any:
    """Exports it at one size, runs it at another; the two-times rule for every result."""
    file = exported(model, make(6, 3), shapes, folder)
    args = make(9, 5)
    with torch.no_grad():
        plain = named(model(*args))
        truth = named(copy.deepcopy(model).double()(*double(args)))
    for y, name in zip(run(file, args), truth, strict=True):
        assert_close(y, truth[name], plain[name], name)
    return file.graph.node


def state(K: int, n: int, P: int = H) -> tuple[Tensor, Tensor]:
    return torch.randn(K, n, P), torch.randn(K, n, H)


def directions(nodes: Any) -> Counter:
    """How many LSTM nodes there are of each direction."""
    found = [a.s.decode() for n in nodes if n.op_type == "LSTM" for a in n.attribute if a.s]
    assert len(found) == sum(n.op_type == "LSTM" for n in nodes)
    return Counter(found)


def test_given_states_and_lengths(tmp_path: Path) -> None:
    """One node a layer; what a projection and a trajectory add is plain nodes."""
    model = Calls(
        lambda k, m, x, lengths, states: m(x, states[k], lengths=lengths),
        lstm=ltlstm.LSTM(D, H, 2, bidirectional=True),
        projected=ltlstm.LSTM(D, H, bias=False, bidirectional=True, proj_size=P),
        lt=ltlstm.LTLSTM(D, H, 2, peephole=True, proj_size=P, bidirectional=True, lookahead=1),
    )
    nn.init.normal_(model.of["lt"].traj_context_l1)

    def make(t: int, n: int) -> tuple:
        lengths = torch.randint(1, t + 1, (n,))
        lengths[0] = t
        states = (state(4, n), state(2, n, P), state(4, n, P))
        return torch.randn(t, n, D), lengths, states

    shapes = ((TN, {0: N}, (({1: N}, {1: N}),) * 3),)
    nodes = check(model, make, shapes, tmp_path)
    assert directions(nodes) == {"bidirectional": 2 + 1 + 2}
    assert not any(node.op_type in ("Scan", "Loop") for node in nodes)


def test_defaults_inside_a_converted_model(tmp_path: Path) -> None:
    """nn.LSTM between other layers, batch_first; the other stacks and depth units, with no hx."""
    model = nn.ModuleDict(
        {
            "enter": nn.Linear(5, D),
            "lstm": nn.LSTM(D, H, 2, batch_first=True, dropout=0.5),
            "projected": nn.LSTM(H, H, proj_size=P),
        }
    )
    stack = ltlstm.convert_(model)

    class Model(Calls):
        def forward(self, x: Tensor) -> Any:
            x = self.stack["enter"](x)
            y, _ = self.stack["lstm"](x)
            found = {"projected": self.stack["projected"](y.transpose(0, 1))}
            return found | super().forward(x.transpose(0, 1))

    model = Model(
        lambda k, m, x: m(x),
        residual=ltlstm.ResidualLSTM(D, H, 2),
        gated=ltlstm.LTLSTM(D, H, 2, depth_unit="gated", share_layer_weights=True, lookahead=1),
        max=ltlstm.LTLSTM(D, H, 2, depth_unit="max", bias=False),
    )
    model.add_module("stack", stack)
    nodes = check(model, lambda t, n: (torch.randn(n, t, 5),), ({0: N, 1: T},), tmp_path)
    assert directions(nodes) == {"forward": 2 + 1 + 2 + 2 + 2}
    # No hx was given: the nodes are given none.
    assert all(len([i for i in n.input if i]) <= 4 for n in nodes if n.op_type == "LSTM")


def test_what_the_node_has_not_is_a_scan(tmp_path: Path) -> None:
    """Resets, the states of every step, gates that are MLPs, float64."""

    def call(k: int, m: nn.Module, x: Tensor, reset: Tensor) -> Any:
        return m(x, reset=reset, return_states=True) if k == 0 else m(x)

    hlstm = ltlstm.HLSTM(D, H)
    hlstm.weight_ih_l0_mask[::2] = False
    model = Calls(call, lstm=ltlstm.LSTM(D, H, bidirectional=True), h=hlstm)

    def make(t: int, n: int) -> tuple:
        return torch.randn(t, n, D), torch.rand(t, n) < 0.3

    nodes = check(model, make, ((TN, TN),), tmp_path)
    assert sum(node.op_type == "Scan" for node in nodes) == 2 + 1
    assert not directions(nodes)


class Within(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = ltlstm.LSTM(D, H)

    def forward(self, data: Tensor, sizes: Tensor, hx: tuple[Tensor, Tensor]) -> Tensor:
        return self.lstm(PackedSequence(data, sizes), hx)[0].data


def test_what_is_refused(tmp_path: Path) -> None:
    x = torch.randn(6, 3, D)
    packed = pack_padded_sequence(x, torch.tensor([6, 3, 1]))
    args = (packed.data, packed.batch_sizes, state(1, 3))
    with pytest.raises(RuntimeError, match=r"lstm: input must be padded, with lengths="):
        torch.onnx.export(Within().eval(), args, dynamo=True, verbose=False)
    model = Calls(lambda k, m, x: m(x)[0], lstm=ltlstm.LSTM(D, H)).eval()
    with pytest.raises(RuntimeError, match="torch.onnx.export must have dynamo=True"):
        torch.onnx.export(model, (x,), tmp_path / "m.onnx", dynamo=False)


def test_cells_half_types_and_unbatched(tmp_path: Path) -> None:
    """Half types are computed in float32: onnxruntime need not know them."""
    model = Calls(
        lambda k, m, x: m(x.half()[None])[0].float() if k == 4 else m(x),
        cell=ltlstm.LSTMCell(D, H),
        lt_cell=ltlstm.LTLSTMCell(D, H, 2, peephole=True),
        h_cell=ltlstm.HLSTMCell(D, H),
        unbatched=ltlstm.LSTM(D, H, bidirectional=True),
        stored=ltlstm.LSTM(D, H).half(),
    )
    file = exported(model, (torch.randn(3, D),), (({0: N},),), tmp_path)
    x = torch.randn(5, D)
    with torch.no_grad():
        plain = named(model(x))
        model.double()
        model.call = lambda k, m, x: m(x.half().double()[None])[0] if k == 4 else m(x.double())
        truth = named(model(x))
    for y, name in zip(run(file, (x,)), truth, strict=True):
        if name == "stored":
            assert_close(y.half(), truth[name], plain[name].half(), name)
        else:
            assert_close(y, truth[name], plain[name], name)


def test_rows_of_length_zero_keep_their_state(tmp_path: Path) -> None:
    lstm = ltlstm.LSTM(D, H, bidirectional=True, proj_size=P)
    model = Calls(lambda k, m, x, hx, lengths: m(x, hx, lengths=lengths), lstm=lstm)
    x, hx = torch.randn(6, 4, D), state(2, 4, P)
    file = exported(model, (x, hx, torch.tensor([6, 3, 1, 2])), None, tmp_path)
    lengths = torch.tensor([0, 6, 2, 0])
    weights = [w.detach() for w in lstm._time_weights()]
    options = {"lengths": lengths, "projected": True, "bidirectional": True}
    plain = ltlstm.reference.lstm(x, *hx, weights, **options)
    truth = ltlstm.reference.lstm(
        x.double(), *double(hx), [w.double() for w in weights], **options
    )  # fmt: skip
    found = run(file, (x, hx, lengths))
    for y, right, near in zip(found, truth[:3], plain[:3], strict=True):
        assert_close(y, right, near)
    assert torch.equal(found[1][:, [0, 3]], hx[0][:, [0, 3]])
