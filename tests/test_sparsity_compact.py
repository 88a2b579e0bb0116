# SPDX-License-Identifier: Apache-2.0
"""compact: a smaller model with the same outputs, counted; sequential readers."""

import copy

import pytest
import torch
from torch import nn

import ltlstm
import sparse_models as sm
from ltlstm.sparsity import GrowPrune, Schedule, compact, count
from tolerance import assert_close

READERS = {"stack": ["output"]}
ROWS = Schedule(prune=0.5, prune_from=1, prune_until=1)


def pruned(kind: str, granularity: str, schedule: Schedule = ROWS, readers=READERS):
    model, made, sparse = sm.start(
        kind, schedule=schedule, granularity=granularity, readers=readers if readers else None
    )
    sm.train(model, made, sparse, 3)
    return model.eval(), sparse


def assert_same_outputs(model, smaller) -> None:
    x = sm.batch(0)[0]
    with torch.no_grad():
        truth = copy.deepcopy(model).double()(x.double())
        assert_close(smaller(x), truth, model(x))


@pytest.mark.parametrize("kind", ["nn_lstm", "lstm", "dry_h_lstm", "deep_h_lstm"])
def test_pruned_rows_make_a_smaller_model_with_the_same_outputs(kind):
    model, _ = pruned(kind, "row")
    smaller, before, after = compact(model, READERS)
    assert_same_outputs(model, smaller)
    assert type(smaller.stack) is type(model.stack)
    assert smaller.stack.hidden_size == sm.H // 2 == model.stack.hidden_size // 2
    assert smaller.output.in_features == model.output.in_features // 2 or kind == "lstm"
    if "h_lstm" in kind:
        assert smaller.stack.gate_hidden_size == model.stack.gate_hidden_size // 2
    assert before == count(model) and after == count(smaller)
    assert (
        after.parameters == sum(p.numel() for p in smaller.parameters()) < before.parameters / 1.5
    )
    assert after.live_flops <= before.live_flops < before.flops


def test_without_readers_an_output_stays_whole():
    model, _ = pruned("dry_h_lstm", "row", readers=None)
    smaller, _, after = compact(model)
    assert_same_outputs(model, smaller)
    assert (smaller.stack.hidden_size, smaller.stack.gate_hidden_size) == (sm.H, 4)


def test_the_layer_with_the_most_live_units_decides():
    model, _ = pruned("nn_lstm", "row")
    with torch.no_grad():  # two more units of the first layer die: nothing reads them
        live = (model.stack.weight_hh_l0 != 0).any(0).nonzero().flatten()
        model.stack.weight_hh_l0[:, live[:2]] = 0
        model.stack.weight_ih_l1[:, live[:2]] = 0
    smaller = compact(model, READERS).model
    assert smaller.stack.hidden_size == sm.H // 2
    assert_same_outputs(model, smaller)


@pytest.mark.parametrize("kind", sorted(sm.MODELS))
@pytest.mark.parametrize("granularity", ["element", "16x1"])
def test_any_sparse_model_may_be_compacted(kind, granularity):
    schedule = Schedule(prune=0.6, prune_from=1, prune_until=2, floor=0.1)
    readers = READERS if hasattr(sm.MODELS[kind](), "stack") else None
    model, _ = pruned(kind, granularity, schedule, readers)
    smaller, before, after = compact(model, readers)
    assert_same_outputs(model, smaller)
    assert after.parameters <= before.parameters and after.live_flops <= before.live_flops


def test_sequences_of_linear_layers_and_of_convolutions_know_their_readers():
    torch.manual_seed(3)
    linear = nn.Sequential(
        nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 5, bias=False), nn.Dropout(), nn.Linear(5, 2)
    )
    convolutions = nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 1), nn.Conv2d(5, 2, 3)
    )
    for model, x in ((linear, torch.randn(9, 7)), (convolutions, torch.randn(2, 2, 9, 9))):
        with torch.no_grad():
            model[0].weight[1], model[0].bias[1] = 0, 0  # always 0
            model[0].weight[2] = 0  # a constant, which is read: it stays
            model[2].weight[:, 4] = 0  # not read
            model[-1].weight[:, 3] = 0
        smaller = compact(model.eval()).model
        sizes = [p.shape[:2] for p in smaller.parameters() if p.dim() > 1]
        assert [tuple(s) for s in sizes] == [(4, x.shape[1]), (4, 4), (2, 4)]
        with torch.no_grad():
            assert_close(smaller(x), copy.deepcopy(model).double()(x.double()), model(x))


def test_what_stands_between_decides_who_reads():
    def width(*between: nn.Module) -> int:
        model = nn.Sequential(nn.Linear(4, 6), *between, nn.Linear(6, 2))
        with torch.no_grad():
            model[-1].weight[:, 0] = 0
        return compact(model).model[0].out_features

    assert width() == width(nn.ReLU(), nn.Identity()) == 5
    assert width(nn.Sigmoid()) == width(nn.LayerNorm(6)) == width(nn.Softmax(-1)) == 6
    shared = nn.Linear(6, 6)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        model[-1].weight[:, 0] = 0  # shared's unit 0 is read by shared itself
    assert compact(model).model[0].out_features == 6


def test_a_reader_of_another_width_is_refused():
    model = nn.ModuleDict({"stack": nn.LSTM(3, 4, bidirectional=True), "output": nn.Linear(4, 2)})
    with pytest.raises(ValueError, match="output must read the 8 outputs of stack, got 4 inputs"):
        compact(model, READERS)


def test_two_modules_read_by_one_stay_whole():
    model = nn.ModuleDict({name: nn.Linear(3, 3) for name in "abc"})
    with torch.no_grad():
        model["c"].weight[:, 0] = 0
    smaller = compact(model, {"a": ["c"], "b": ["c"]}).model
    assert smaller["a"].out_features == 3
    assert compact(model, {"a": ["c"]}).model["a"].out_features == 2


def test_a_reader_that_is_not_known_reads_all():
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "gru": nn.GRU(3, 2)})
    assert compact(model, {"a": ["gru"]}).model["a"].out_features == 3


def test_what_cannot_be_made_anew_stays():
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), Own(6, 2))
    with torch.no_grad():
        model[-1].weight[:, 0] = 0
    assert compact(model).model[0].out_features == 6
    normed = nn.Sequential(nn.Linear(4, 6), nn.utils.parametrizations.weight_norm(nn.Linear(6, 2)))
    assert compact(normed).model[0].out_features == 6


def with_forward(module: nn.Module) -> None:
    whole = module.forward
    module.forward = lambda x: 2 * whole(x)


ADDITIONS = {
    "nothing": lambda module: None,
    "hook": lambda module: module.register_forward_hook(lambda m, x, output: 2 * output),
    "pre-hook": lambda module: module.register_forward_pre_hook(lambda m, x: (2 * x[0],)),
    "backward hook": lambda module: module.register_full_backward_hook(lambda m, *g: None),
    "state dict hook": lambda module: module.register_state_dict_post_hook(lambda *a: None),
    "buffer": lambda module: module.register_buffer("scale", torch.ones(1)),
    "parameter": lambda module: module.register_parameter("scale", nn.Parameter(torch.ones(1))),
    "module": lambda module: module.register_module("inner", nn.ReLU()),
    "forward": with_forward,
}


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("name", ADDITIONS)
def test_what_was_added_to_a_module_is_not_lost(name, place):
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        model[2].weight[:, 0] = 0
    ADDITIONS[name](model[place])
    smaller = compact(model).model
    assert smaller[0].out_features == (5 if name == "nothing" else 6)
    assert smaller.state_dict().keys() == model.state_dict().keys()
    x = torch.randn(5, 4)
    torch.testing.assert_close(smaller(x), model(x))


@pytest.mark.parametrize("place", range(5))
def test_what_a_hook_may_make_of_outputs_keeps_units_alive(place):
    """Units that would be always 0, or read by none, are neither behind such hooks."""
    model = nn.Sequential(
        nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 2)
    )
    with torch.no_grad():
        model[0].weight[0], model[0].bias[0] = 0, 0  # always 0
        model[2].weight[0, 1:] = 0  # reads only that
        model[2].weight[:, 1] = 0  # not read
        model[4].weight[:, 2] = 0  # not read
    assert [p.shape[0] for p in compact(model).model.parameters()] == [2, 2, 2, 2, 2]
    if place % 2:
        model[place].register_forward_hook(lambda m, x, output: output.roll(1, -1) + 1)
    else:
        model[place].register_forward_pre_hook(lambda m, x: (x[0].roll(1, -1) + 1,))
        model[place].register_forward_hook(lambda m, x, output: output.roll(1, -1) + 1)
    x = torch.randn(5, 4)
    torch.testing.assert_close(compact(model).model(x), model(x))


def test_a_module_that_stands_twice_stays_one():
    lstm = ltlstm.HLSTM(4, 4, gate_hidden_size=6)
    with torch.no_grad():
        lstm.gate1_weight_l0_mask[:, :, 2] = False
    smaller = compact(nn.ModuleDict({"a": lstm, "b": lstm})).model
    assert smaller["a"] is smaller["b"] and smaller["a"].gate_hidden_size == 6


def test_a_compact_model_compiles_exports_and_trains_on():
    model, _ = pruned("nn_lstm", "row")
    model = ltlstm.convert_(model)
    smaller = compact(model, READERS).model
    x = sm.batch(0)[0]
    exported = torch.export.export(smaller, (x,)).module()
    torch.testing.assert_close(exported(x), smaller(x))
    smaller.train()(x).sum().backward()
    assert all(p.grad is not None for p in smaller.parameters())


def test_a_model_that_is_one_module_is_compacted():
    lstm = ltlstm.HLSTM(3, 4, gate_hidden_size=6)
    with torch.no_grad():
        lstm.gate1_weight_l0_mask[:, :, 2] = False
    smaller, before, after = compact(lstm)
    assert smaller.gate_hidden_size == 5 and after.parameters < before.parameters
    assert after.live_parameters < before.live_parameters < before.parameters
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(smaller(x)[0], lstm(x)[0])


def test_counts_are_those_of_a_step():
    model = sm.Recurrent(nn.LSTM(sm.D, sm.H))
    weights = 4 * sm.H * (sm.D + sm.H) + sm.H * sm.OUT
    assert count(model) == (weights + 8 * sm.H + sm.OUT,) * 2 + (2 * weights,) * 2
    GrowPrune(model, Schedule(seed=0.5))
    live = count(model)
    assert live.live_flops == weights and live.parameters - live.live_parameters == weights // 2


def test_a_grow_prune_compacts_its_model():
    model, sparse = pruned("nn_lstm", "row")
    assert sparse.compact().after == compact(model, READERS).after != count(model)
