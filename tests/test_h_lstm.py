# SPDX-License-Identifier: Apache-2.0
"""ltlstm.HLSTM and HLSTMCell as modules: forms of input, training, state dicts, bad input."""

import copy
import itertools
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import ltlstm
from module_results import F32, F64, check_same, random_state, results_of
from test_property import Example, check_together, examples, input_and_state, options_of

T, N, D, H = 5, 4, 3, 6
HLSTM, HLSTMCell = ltlstm.HLSTM, ltlstm.HLSTMCell


def pair(**options: Any) -> tuple[ltlstm.HLSTM, ltlstm.HLSTM]:
    """One on the kernel, and the same on the reference."""
    torch.manual_seed(3)
    ours = HLSTM(D, H, 2, **options, backend="cpu")
    for name, mask in ours.named_buffers():
        if "_l0" in name:
            mask.bernoulli_(0.6)
    oracle = copy.deepcopy(ours)
    oracle.backend = "reference"
    return ours, oracle


OPTIONS: list[dict[str, Any]] = [
    {},
    {"gate_hidden_size": 5, "gate_num_layers": 2, "activation": "relu"},
    {"bidirectional": True, "bias": False},
    {"dropout": 0.4, "gate_dropout": 0.3, "gate_hidden_size": 9},
    {"batch_first": True, "bidirectional": True, "gate_num_layers": 3, "gate_dropout": 0.2},
]


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_form_is_the_reference(options: dict[str, Any], dtype: torch.dtype) -> None:
    ours, oracle = pair(**options)
    x, hx = torch.randn(T, N, D), random_state(ours, N)
    reset = torch.rand(T, N) < 0.3
    lengths = torch.tensor([2, 5, 1, 4])
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    if ours.batch_first:
        x, reset = x.transpose(0, 1), reset.t()
    check_same(ours, oracle, x, hx, dtype, return_states=True)
    check_same(ours, oracle, x, None, dtype, lengths=lengths, reset=reset)
    check_same(ours, oracle, packed, hx, dtype, return_states=True)
    check_same(ours, oracle, x[0], (hx[0][:, 0], hx[1][:, 0]), dtype)


@settings(max_examples=60, derandomize=True)
@given(
    examples(options_of(), ("padded", "transposed", "unbatched", "packed", "lengths"), ["cpu"]),
    st.sampled_from([1, 3, 8]), st.integers(1, 3), st.sampled_from([0, 0.4, 1.0]),
    st.sampled_from(["relu", "leaky_relu"]),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:dropout option adds dropout")
def test_any_module_and_input_is_the_reference(
    e: Example, K: int, J: int, gate_dropout: float, activation: str
) -> None:
    torch.manual_seed(e.seed)
    e.options["proj_size"] = 0
    ours = HLSTM(
        **e.options, gate_hidden_size=K, gate_num_layers=J, gate_dropout=gate_dropout,
        activation=activation, backend=e.backend,
    ).train(e.training)  # fmt: skip
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.mul_(3)
            if "weight" in name:
                getattr(ours, name + "_mask").bernoulli_(0.7)
    reference = copy.deepcopy(ours)
    reference.backend = "reference"
    x, hx = input_and_state(e)
    kwargs = {"lengths": torch.tensor(e.lengths).long()} if e.form == "lengths" else {}
    check_together(ours, reference, e, x, hx, **kwargs)


def test_gate_dropout_is_drawn_by_torch_and_only_in_training() -> None:
    ours, oracle = pair(gate_dropout=0.5)
    x = torch.randn(T, N, D)

    def output(module: nn.Module, seed: int) -> Tensor:
        torch.manual_seed(seed)
        return module(x)[0]

    first = output(ours, 1)
    assert torch.equal(output(ours, 1), first)
    assert not torch.equal(output(ours, 2), first)
    torch.testing.assert_close(output(oracle, 1), first)
    ours.eval()
    assert torch.equal(output(ours, 1), output(ours, 2))
    state = torch.get_rng_state()
    ours(x)
    assert torch.equal(torch.get_rng_state(), state)


def test_everything_dropped_leaves_the_biases() -> None:
    module = HLSTM(D, H, gate_dropout=1.0)
    a, b = (module(torch.randn(T, N, D))[0] for _ in range(2))
    assert torch.equal(a, b) and a.any()


def test_activation_switches_after_construction() -> None:
    ours, _ = pair()
    x = torch.randn(T, N, D)
    leaky = ours(x)[0]
    ours.activation = "relu"
    with torch.no_grad():
        switched = HLSTM(D, H, 2, activation="relu", backend="reference")
        switched.load_state_dict(ours.state_dict())
        torch.testing.assert_close(ours(x)[0], switched(x)[0])
    assert not torch.equal(ours(x)[0], leaky)
    ours.activation = "tanh"
    with pytest.raises(ValueError, match="h_lstm: activation must be one of .*, got 'tanh'"):
        ours(x)


def test_starts_within_the_bounds_of_its_layers_and_by_the_seed() -> None:
    torch.manual_seed(0)
    module = HLSTM(64, 100, gate_hidden_size=25, gate_num_layers=2)
    for name, parameter in module.named_parameters():
        bound = 0.2 if name.startswith("gate") else 0.1
        assert 0.9 * bound < parameter.abs().max() <= bound, name
    torch.manual_seed(0)
    again = HLSTM(64, 100, gate_hidden_size=25, gate_num_layers=2)
    assert all(map(torch.equal, module.parameters(), again.parameters()))
    module.weight_ih_l0_mask.zero_()
    module.reset_parameters()
    assert not torch.equal(module.weight_ih_l0, again.weight_ih_l0)
    assert module.weight_ih_l0_mask.all()


@pytest.mark.parametrize("J", [1, 2])
def test_every_parameter_is_used(J: int) -> None:
    for bias, bidirectional, layers in itertools.product([True, False], [True, False], [1, 2]):
        module = HLSTM(D, H, layers, bias, bidirectional=bidirectional, gate_num_layers=J)
        module(torch.randn(T, N, D))[0].sum().backward()
        assert [name for name, p in module.named_parameters() if p.grad is None] == []


def test_copies_pickles_and_functional_call() -> None:
    ours, _ = pair(bidirectional=True)
    x = torch.randn(T, N, D)
    expected = ours(x)[0]
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(twin(x)[0], expected)
    other, _ = pair(bidirectional=True)
    held = {k: v.clone() for k, v in ours.state_dict().items()}
    other.reset_parameters()
    assert torch.equal(torch.func.functional_call(other, held, (x,))[0], expected)


@pytest.mark.parametrize("inner", [torch.bfloat16, torch.float16])
def test_amp(inner: torch.dtype) -> None:
    ours, oracle = pair(gate_num_layers=2)
    x = torch.randn(T, N, D)
    with torch.autocast("cpu", inner):
        output, (h, c) = ours(x)
        assert {output.dtype, h.dtype, c.dtype} == {inner}
    torch.testing.assert_close(output.float(), oracle(x)[0], rtol=0.02, atol=0.02)
    output.float().square().sum().backward()
    weight, mask = ours.gate1_weight_l0.grad, ours.gate1_weight_l0_mask
    assert weight.dtype == F32 and weight[mask].all() and not weight[~mask].any()
    half = ours.to(inner)  # the masks stay bool
    assert half.weight_ih_l0_mask.dtype == torch.bool
    assert half(x.to(inner))[0].dtype == inner


def test_compile_whole_graph_and_export() -> None:
    ours, _ = pair(gate_num_layers=2)
    x = torch.randn(T, N, D)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x)[0], ours(x)[0], rtol=0, atol=0)
    wanted = list(ours.parameters())
    grads = [torch.autograd.grad(m(x)[0].sum(), wanted) for m in (compiled, ours)]
    torch.testing.assert_close(*grads, rtol=0, atol=0)
    ours.weight_hh_l0_mask.logical_not_()  # a graph reads the mask it is given
    torch.testing.assert_close(compiled(x)[0], ours(x)[0], rtol=0, atol=0)
    dynamic = {"input": {0: torch.export.Dim("T"), 1: torch.export.Dim("N")}}
    with torch.no_grad():
        program = torch.export.export(ours.eval(), (x,), dynamic_shapes=dynamic, strict=False)
    for t, n in ((7, 2), (2, 9)):
        given = torch.randn(t, n, D)
        torch.testing.assert_close(program.module()(given)[0], ours(given)[0], rtol=0, atol=0)


def test_double_backward_vmap_and_jvp() -> None:
    ours, _ = pair()
    module = ours.double()
    module.backend = None
    x = torch.randn(2, 2, D, dtype=F64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: module(x)[0], (x,))
    many = torch.randn(3, T, N, D, dtype=F64)
    each = torch.stack([module(one)[0] for one in many])
    torch.testing.assert_close(torch.func.vmap(lambda one: module(one)[0])(many), each)
    _, tangent = torch.func.jvp(lambda x: module(x)[0], (many[0],), (torch.ones_like(many[0]),))
    assert tangent.any()


def test_explain() -> None:
    ours = HLSTM(D, H)
    x = torch.randn(T, N, D)
    found = ltlstm.explain(ours, x)
    assert found.backend == "cpu"
    assert found.reasons["aten"] == ["torch's own LSTM has no hidden layer in its gates"]
    assert "no CUDA kernel computes h_lstm" in found.reasons["cuda"]
    assert ltlstm.explain(HLSTMCell(D, H), x[0]).backend == "cpu"
    ours.backend = "aten"
    with pytest.raises(RuntimeError, match="h_lstm: backend 'aten' cannot run: .*hidden layer"):
        ours(x)


def test_repr() -> None:
    assert repr(HLSTM(D, H, 2, gate_hidden_size=5)) == (
        "HLSTM(3, 6, num_layers=2, gate_hidden_size=5)"
    )
    module = HLSTMCell(D, H, False, gate_num_layers=2, gate_dropout=0.1, activation="relu")
    assert repr(module) == (
        "HLSTMCell(3, 6, bias=False, gate_hidden_size=6, gate_num_layers=2, gate_dropout=0.1, "
        "activation='relu')"
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("J", [1, 2])
def test_the_cell_is_one_step(bias: bool, J: int) -> None:
    options: dict[str, Any] = {"gate_hidden_size": 5, "gate_num_layers": J}
    cell, whole = HLSTMCell(D, H, bias, **options), HLSTM(D, H, 1, bias, **options)
    cell.weight_hh_mask.bernoulli_(0.5)
    whole.load_state_dict(
        {
            (f"{k.removesuffix('_mask')}_l0_mask" if k.endswith("_mask") else f"{k}_l0"): v
            for k, v in cell.state_dict().items()
        }
    )
    x, h, c = torch.randn(N, D), torch.randn(N, H), torch.randn(N, H)
    _, (h_1, c_1) = whole(x[None], (h[None], c[None]))
    found = cell(x, (h, c))
    torch.testing.assert_close(found, (h_1[0], c_1[0]))
    torch.testing.assert_close(cell(x[0], (h[0], c[0])), (found[0][0], found[1][0]))
    zeros = torch.zeros(N, H)
    torch.testing.assert_close(cell(x), cell(x, (zeros, zeros)))
    results = {b: results_of(cell, x, (h, c), F64, lambda m, b=b: put(m, b)) for b in BACKENDS}
    torch.testing.assert_close(*results.values())


BACKENDS = ("cpu", "reference")


def put(module: Any, backend: str) -> Any:
    module.backend = backend
    return module
