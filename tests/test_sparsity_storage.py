# SPDX-License-Identifier: Apache-2.0
"""Compact models and block-sparse weights, saved and read back."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

import ltlstm
import sparse_models as sm
from ltlstm.sparsity import (
    GrowPrune,
    Schedule,
    block_sparse,
    compact,
    from_tensors,
    load,
    save,
    to_tensors,
)
from ltlstm.sparsity.counts import in_use
from ltlstm.sparsity.weights import find_weights

READERS = {"stack": ["output"]}


def pruned(kind: str) -> nn.Module:
    schedule = Schedule(prune=0.5, prune_from=1, prune_until=1)
    model, made, sparse = sm.start(kind, schedule=schedule, granularity="row", readers=READERS)
    sm.train(model, made, sparse, 2)
    if isinstance(model.stack, ltlstm.HLSTM):
        model.stack.activation = "relu"  # it comes back, too
    return model.eval()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
@pytest.mark.parametrize("kind", ["nn_lstm", "lstm", "deep_h_lstm"])
def test_a_compact_model_is_read_back_into_one_of_full_size(kind, name, tmp_path):
    model = pruned(kind)
    smaller = compact(model, READERS).model
    save(tmp_path / name, smaller)
    full = sm.MODELS[kind]().eval()
    before = [p.shape for p in full.parameters()]
    found = load(tmp_path / name, full)
    assert [p.shape for p in full.parameters()] == before
    assert type(found.stack) is type(smaller.stack)
    assert found.state_dict().keys() == smaller.state_dict().keys()
    assert all(torch.equal(v, found.state_dict()[k]) for k, v in smaller.state_dict().items())
    x = sm.batch(0)[0]
    assert torch.equal(found(x), smaller(x))


def test_a_module_alone_and_a_model_of_full_size_are_read_back(tmp_path):
    lstm = ltlstm.HLSTM(3, 4, gate_hidden_size=6)
    with torch.no_grad():
        lstm.gate1_weight_l0_mask[:, :, 2] = False
    save(tmp_path / "a.pt", compact(lstm).model)
    found = load(tmp_path / "a.pt", ltlstm.HLSTM(3, 4, gate_hidden_size=6))
    assert found.gate_hidden_size == 5
    save(tmp_path / "b.pt", lstm)
    again = load(tmp_path / "b.pt", ltlstm.HLSTM(3, 4, gate_hidden_size=6))
    assert torch.equal(again.gate1_weight_l0_mask, lstm.gate1_weight_l0_mask)


def test_files_that_do_not_fit_are_refused(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "a.pt")
    save_file({"weight": torch.ones(2)}, tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        with pytest.raises(ValueError, match=f"{name} must have been saved by sparsity.save"):
            load(tmp_path / name, nn.Linear(2, 2))
    save(tmp_path / "b.pt", nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(ValueError, match="sizes must be of the model's modules, got ''"):
        load(tmp_path / "b.pt", nn.Linear(3, 2))
    hooked = nn.Sequential(nn.Linear(5, 2))
    hooked[0].register_forward_hook(lambda m, x, output: 2 * output)
    with pytest.raises(
        ValueError, match="0 must be plain to get other sizes, got a Linear: it has"
    ):
        load(tmp_path / "b.pt", hooked)
    with pytest.raises(RuntimeError, match="state_dict"):
        load(tmp_path / "b.pt", nn.Sequential(nn.Linear(3, 2, bias=False)))


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_tied_weights_and_views_go_through_a_file(name, tmp_path):
    def made() -> nn.Module:
        model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.LayerNorm(3))
        model[2].weight = model[0].weight
        both = torch.randn(6)  # two buffers over one memory
        model.register_buffer("low", both[:4])
        model.register_buffer("high", both[2:])
        return model

    model, other = made(), made()
    save(tmp_path / name, model)
    found = load(tmp_path / name, other)
    assert found[2].weight is found[0].weight
    assert all(torch.equal(v, found.state_dict()[k]) for k, v in model.state_dict().items())


def test_a_state_that_is_no_tensor_goes_through_a_file(tmp_path):
    model = nn.Sequential(nn.Linear(3, 2), sm.Counting())
    model(torch.ones(1, 3))
    save(tmp_path / "a.pt", model)
    found = load(tmp_path / "a.pt", nn.Sequential(nn.Linear(3, 2), sm.Counting()))
    assert found[1].calls == {"count": 1} and torch.equal(found[0].weight, model[0].weight)
    text = "sparsity.save: 1._extra_state must be a tensor in a .safetensors file, got a dict"
    with pytest.raises(TypeError, match=text):
        save(tmp_path / "a.safetensors", model)


def test_a_hook_stays_where_only_the_activation_is_another(tmp_path):
    shifted, plain = (ltlstm.HLSTM(3, 4, activation=name) for name in ("relu", "leaky_relu"))
    save(tmp_path / "a.pt", shifted)
    plain.register_forward_hook(lambda m, x, output: (2 * output[0], output[1]))
    found, x = load(tmp_path / "a.pt", plain), torch.randn(5, 2, 3)
    assert (found.activation, plain.activation) == ("relu", "leaky_relu")
    assert torch.equal(found(x)[0], 2 * shifted(x)[0])


@pytest.mark.parametrize("inside", [False, True])
def test_a_file_that_keeps_the_activation_with_the_sizes_is_read(inside, tmp_path):
    """As files did before state dicts had it."""
    shifted = ltlstm.HLSTM(3, 4, activation="relu")
    state = {k: v for k, v in shifted.state_dict().items() if k != "activation_slope"}
    sizes = {"input_size": 3, "hidden_size": 4, "gate_hidden_size": 4, "activation": "relu"}
    prefix, names = ("0.", {"0": sizes}) if inside else ("", {"": sizes})
    content = {
        "state": {prefix + k: v for k, v in state.items()},
        "ltlstm.sizes": json.dumps(names),
    }
    torch.save(content, tmp_path / "a.pt")
    plain = ltlstm.HLSTM(3, 4)
    found, x = (
        load(tmp_path / "a.pt", nn.Sequential(plain) if inside else plain),
        torch.randn(5, 2, 3),
    )
    assert torch.equal(found(x)[0], shifted(x)[0]) and plain.activation == "leaky_relu"


@given(
    st.integers(1, 20), st.integers(1, 20), st.integers(1, 5), st.integers(1, 5), st.floats(0, 1)
)
def test_blocks_make_the_weight_again(rows, columns, height, width, density):
    model = nn.Linear(columns, rows, bias=False)
    with torch.no_grad():
        model.weight.mul_(torch.rand(rows, columns) < density)
    found = block_sparse(model, (height, width))["weight"]
    assert torch.equal(found.dense(), model.weight)
    assert found.values.flatten(1).any(1).all()  # no empty block is kept
    assert found.values.shape[1:] == (height, width) and len(found.values) == found.rows[-1]


@pytest.mark.parametrize("block", [(1, 1), (16, 1), (4, 3)])
@pytest.mark.parametrize("kind", ["conv", "lstm", "deep_h_lstm"])
def test_every_weight_of_a_model_goes_through_a_file(kind, block, tmp_path):
    model = sm.MODELS[kind]()
    GrowPrune(model, Schedule(seed=0.3))
    found = block_sparse(model, block)
    save_file(to_tensors(found), tmp_path / "a.safetensors")
    again = from_tensors(load_file(tmp_path / "a.safetensors"))
    assert again.keys() == found.keys() == {weight.name for weight in find_weights(model)}
    for weight in find_weights(model):
        expected = in_use(weight)
        assert torch.equal(again[weight.name].dense().view(expected.shape), expected)
        if block == (1, 1):
            assert len(found[weight.name].values) == expected.count_nonzero()


def test_a_block_of_no_size_is_refused():
    with pytest.raises(ValueError, match=r"block must be two positive sizes, got \(0, 4\)"):
        block_sparse(nn.Linear(2, 2), (0, 4))
