# SPDX-License-Identifier: Apache-2.0
"""GrowPrune's pruning: the stop rule, units that go, rows that aim at fast sizes, the floor."""

import pytest
import torch
from torch import nn

import sparse_models as sm
from ltlstm.sparsity import GrowPrune, Schedule


def test_a_rejected_network_gives_way_to_the_last_good_one():
    answers = iter([True, True, False])
    kept = {}

    def accept() -> bool:
        answer = next(answers)
        if answer:
            kept.update(
                model={k: v.clone() for k, v in model.state_dict().items()},
                masks={k: v.clone() for k, v in sparse.masks.items()},
                moment=made.state[model.stack.weight_hh_l0]["exp_avg"].clone(),
            )
        return answer

    model, made, sparse = sm.start("h_lstm", accept=accept)
    sm.train(model, made, sparse, 9)
    assert [e["event"] for e in sparse.log[-2:]] == ["prune", "prune"]
    made.param_groups[0]["lr"] = 0.123
    sm.train(model, made, sparse, 1)  # the third question, after step 10
    assert sparse.log[-1]["event"] == "reject" and sparse.phase == "done"
    assert all(torch.equal(v, kept["model"][k]) for k, v in model.state_dict().items())
    assert all(torch.equal(v, kept["masks"][k]) for k, v in sparse.masks.items())
    assert torch.equal(made.state[model.stack.weight_hh_l0]["exp_avg"], kept["moment"])
    assert made.param_groups[0]["lr"] == 0.123  # learning rates go on
    sm.train(model, made, sparse, 4)  # and training may, with the masks as they are
    assert all(torch.equal(v, kept["masks"][k]) for k, v in sparse.masks.items())
    assert not torch.equal(model.stack.weight_hh_l0, kept["model"]["stack.weight_hh_l0"])


def test_a_state_that_is_no_tensor_comes_back_too():
    torch.manual_seed(1)
    model, counted = sm.mlp(), sm.Counting()
    model.append(counted)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    schedule = Schedule(prune=0.3, prune_from=1, prune_until=4)
    answers = iter([True, True, False])
    sparse = GrowPrune(model, schedule, optimizer, accept=lambda: next(answers))
    sm.train(model, optimizer, sparse, 3)
    assert sparse.log[-1]["event"] == "reject" and counted.calls == {"count": 2}
    sm.train(model, optimizer, sparse, 1)
    assert counted.calls == {"count": 3}


@pytest.mark.parametrize(("shift_at", "kind"), [(2, "h_lstm"), (2, "mlp"), (4, "h_lstm")])
def test_a_network_rejected_after_the_shift_gives_way_to_the_one_before_it(shift_at, kind):
    def activation() -> str | float:
        return model.stack.activation if kind == "h_lstm" else model[1].negative_slope

    answers = iter([True, False])
    schedule = Schedule(prune=0.3, prune_from=1, prune_until=5, prune_every=2, shift_at=shift_at)
    model, made, sparse = sm.start(kind, schedule=schedule, accept=lambda: next(answers))
    before = activation()
    sm.train(model, made, sparse, 2)
    assert (activation() == before) == (shift_at > 2)
    sm.train(model, made, sparse, 1)
    assert sparse.log[-1]["event"] == "reject" and activation() == before
    sm.train(model, made, sparse, 3)  # the accepted network changes no more
    assert activation() == before
    state = sparse.state_dict()
    model, _, other = sm.start(kind, schedule=schedule, accept=lambda: True)
    other.load_state_dict(state)
    assert activation() == before


def test_the_last_pruning_is_judged_in_finish():
    answers = iter([True, True, True, False])
    model, made, sparse = sm.start("mlp", accept=lambda: next(answers))
    sm.train(model, made, sparse, 9)
    good = sparse.log[-1]["live"]
    sm.train(model, made, sparse, 3)
    assert sparse.log[-1]["live"] < good
    sparse.finish()
    assert sparse.log[-1]["event"] == "reject" and sparse.log[-1]["live"] == good
    sparse.finish()
    assert list(answers) == [] and sparse.phase == "done"


def test_accept_is_always_called_without_gradients():
    asked = []
    accept = lambda: asked.append(torch.is_grad_enabled()) or True  # noqa: E731
    model, made, sparse = sm.start("mlp", accept=accept)
    sm.train(model, made, sparse, 10)
    sparse.finish()
    assert asked == [False] * 4 and torch.is_grad_enabled()


def test_a_network_that_is_never_good_enough_is_not_pruned():
    model, made, sparse = sm.start("mlp", accept=lambda: False)
    sm.train(model, made, sparse, 12)
    assert [e["event"] for e in sparse.log] == ["seed", "grow", "grow", "shift", "reject"]


def test_units_without_an_input_or_an_output_go():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    masks = {f"{k}.weight": torch.ones_like(model[k].weight).bool() for k in (0, 2, 4)}
    masks["0.weight"][1] = False  # unit 1 of the first layer reads nothing
    masks["4.weight"][:, 3] = False  # nothing reads unit 3 of the second
    schedule = Schedule(prune=0.05, prune_from=1, prune_until=1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparse = GrowPrune(model, schedule, optimizer, masks=masks)
    x = torch.randn(6, 3)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
        sparse.step()
    assert not sparse.masks["2.weight"][:, 1].any() and not sparse.masks["2.weight"][3].any()
    assert sparse.masks["0.bias"].tolist() == [True, False, True, True]
    assert model[0].bias[1] == 0 and model[2].bias[3] == 0 and model[2].bias[2] != 0
    assert sparse.log[-1]["removed_units"] == {"0": 1, "2": 1}
    assert "4.bias" not in sparse.masks


def test_rows_of_an_lstm_go_together_and_take_their_columns_along():
    schedule = Schedule(prune=0.5, prune_from=1, prune_until=1)
    model, made, sparse = sm.start(
        "nn_lstm", schedule=schedule, granularity="row", readers={"stack": ["output"]}
    )
    sm.train(model, made, sparse, 2)
    lstm = model.stack
    for layer, reader in ((0, lstm.weight_ih_l1), (1, model.output.weight)):
        ih, hh = getattr(lstm, f"weight_ih_l{layer}"), getattr(lstm, f"weight_hh_l{layer}")
        live = (ih.view(4, sm.H, -1) != 0).any(2)
        assert live.sum(1).tolist() == [sm.H // 2] * 4 and torch.equal(live[0], live[3])
        assert torch.equal((hh.view(4, sm.H, -1) != 0).any(2)[0], live[0])
        for columns in (hh, reader):
            assert torch.equal((columns != 0).any(0), live[0])
        bias = getattr(lstm, f"bias_hh_l{layer}").view(4, sm.H)
        assert torch.equal(bias != 0, live)


def test_rows_aim_at_fast_sizes():
    schedule = Schedule(prune=0.3, prune_from=1, prune_until=3)
    model, made, sparse = sm.start(
        "nn_lstm", schedule=schedule, granularity="row", fast_sizes=[4, 8, 16]
    )
    live = []
    sm.train(model, made, sparse, 4, lambda step: live.append(
        int((model.stack.weight_hh_l1.view(4, sm.H, -1) != 0).any(2)[0].sum())
    ))  # fmt: skip
    assert live == [8, 8, 4, 4]  # 7, 5 and 3 are rounded up, but not to what they were


def test_a_floor_holds():
    schedule = Schedule(prune=0.5, prune_from=1, prune_until=6, floor=0.3)
    model, made, sparse = sm.start("nn_lstm", schedule=schedule, weights=["stack.weight_hh_l0"])
    sm.train(model, made, sparse, 7)
    assert sparse.density() == {"stack.weight_hh_l0": 0.3}


def test_a_weight_frozen_since_is_refused():
    model, made, sparse = sm.start("h_lstm")
    sm.train(model, made, sparse, 5)
    model.stack.weight_hh_l0.requires_grad_(False)
    before = model.stack.weight_hh_l0.clone()
    with pytest.raises(RuntimeError, match="stack.weight_hh_l0 must require gradients, got one"):
        for _ in range(10):
            sparse.step()
    assert torch.equal(model.stack.weight_hh_l0, before)


def test_a_frozen_bias_stays():
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8))
    model[0].bias.requires_grad_(False)
    before = model[0].bias.clone()
    sparse = GrowPrune(model, Schedule.over(8, 0.3), granularity="row")
    for _ in range(8):
        sparse.step()
    assert sparse.density()["0.weight"] < 0.5
    assert torch.equal(model[0].bias, before)
