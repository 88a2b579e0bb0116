# SPDX-License-Identifier: Apache-2.0
"""GrowPrune around a training loop: what is zero stays zero, when masks change, and by what."""

import pytest
import torch
from torch import nn

import ltlstm
import sparse_models as sm
from ltlstm.sparsity import (
    GRANULARITIES,
    GrowPrune,
    Schedule,
    block_sparse,
    find_weights,
    from_tensors,
    grow,
    to_tensors,
)
from ltlstm.sparsity.held import optimizer_state


def assert_zero_where_dormant(model, optimizer, sparse) -> int:
    """Parameters and optimiser state; returns how many weights are dormant."""
    count = 0
    for name, mask in sparse.masks.items():
        parameter = model.get_parameter(name)
        tensors = [parameter, *optimizer_state(optimizer, parameter)]
        assert len(tensors) > 1 or sparse.steps == 0
        for tensor in tensors:
            assert not tensor[~mask].any() and not tensor[~mask].signbit().any()
        count += int((~mask).sum())
    return count


@pytest.mark.parametrize("take", [False, True])
@pytest.mark.parametrize("optimizer", sm.OPTIMIZERS)
@pytest.mark.parametrize("kind", sm.MODELS)
def test_dormant_weights_and_their_moments_are_zero_after_every_step(kind, optimizer, take):
    model, made, sparse = sm.start(kind, optimizer)
    dormant = []
    sm.train(
        model, made, sparse, 12,
        lambda step: dormant.append(assert_zero_where_dormant(model, made, sparse)), take,
    )  # fmt: skip
    assert dormant[0] > dormant[4] > 0 and dormant[-1] > dormant[4]
    for weight in find_weights(model):  # and the live ones live
        live = weight.parameter[sparse.masks[weight.name]]
        assert live.count_nonzero() > 0.9 * live.numel() > 0


@pytest.mark.parametrize("kind", sm.MODELS)
def test_events_come_when_the_schedule_says_and_by_its_fractions(kind):
    model, made, sparse = sm.start(kind)
    sm.train(model, made, sparse, 12)
    events = [(entry["step"], entry["event"]) for entry in sparse.log]
    assert events == [
        (0, "seed"), (3, "grow"), (5, "grow"), (6, "shift"), (6, "prune"), (8, "prune"),
        (10, "prune"),
    ]  # fmt: skip
    density = {entry["step"]: entry["density"] for entry in sparse.log}
    for weight in find_weights(model):
        size = weight.layout.size
        grown = density[5][weight.name]
        wanted = max(density[0][weight.name], round(0.6 * size) / size)
        assert abs(grown - wanted) < 1 / size
        if not sparse.log[-1]["removed_units"]:
            assert abs(density[10][weight.name] - grown * 0.75**3) <= 1 / size
    assert sparse.log[-1]["live"] == sum(
        int(m.sum()) for n, m in sparse.masks.items() if "weight" in n
    )


@pytest.mark.parametrize("kind", ["h_lstm", "nn_lstm"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_every_granularity_trains(granularity, kind):
    schedule = Schedule.over(12, 0.5, seed=0.7, grown=0.8, growths=2, prunings=3)
    model, made, sparse = sm.start(
        kind, schedule=schedule, granularity=granularity, readers={"stack": ["output"]}
    )
    sm.train(model, made, sparse, 12, lambda step: assert_zero_where_dormant(model, made, sparse))
    assert sparse.phase == "done" and sparse.progress == 1
    live = [entry["live"] for entry in sparse.log]
    assert live[-1] < live[0] or granularity.startswith("block")


def test_a_plain_module_keeps_its_state_dict():
    model, made, sparse = sm.start("nn_lstm")
    sm.train(model, made, sparse, 7)
    plain = sm.MODELS["nn_lstm"]()
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks] == []


def test_masks_of_h_lstm_are_its_buffers():
    model, made, sparse = sm.start("h_lstm")
    sm.train(model, made, sparse, 7)
    buffers = dict(model.named_buffers())
    assert set(buffers) == {f"{name}_mask" for name in sparse.masks if name.startswith("stack.w")
                            or name.startswith("stack.gate1_w")}  # fmt: skip
    assert all(sparse.masks[name.removesuffix("_mask")] is b for name, b in buffers.items())
    assert 0.3 < buffers["stack.weight_hh_l0_mask"].float().mean() < 0.6


GROW_ONCE = Schedule(seed=0.4, grow=0.1, grow_from=1, grow_until=4, grow_every=3)


def reference_gradients(kind: str, steps: int) -> list[dict[str, torch.Tensor]]:
    """Of every step, from a model of the same masks whose weights are plain leaves."""
    model, made, sparse = sm.start(kind, "momentum", GROW_ONCE)
    found = []
    for step in range(steps):
        made.zero_grad()
        parameters = {
            name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()
        }
        full = {name: torch.ones_like(b) for name, b in model.named_buffers()}  # nothing masked
        x, target = sm.batch(step)
        loss = (torch.func.functional_call(model, parameters | full, x) - target).square().mean()
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        found.append(dict(zip(parameters, gradients, strict=True)))
        sm.backward(model, step)
        made.step()
        sparse.step()
    return found


@pytest.mark.parametrize("rank_by", ["sum", "abs"])
@pytest.mark.parametrize("kind", ["nn_lstm", "conv", "lt_lstm"])
def test_growth_wakes_what_the_summed_gradient_asks_for(kind, rank_by):
    check_growth(kind, rank_by)


def test_growth_of_h_lstm_ranks_by_the_gradient_of_dormant_weights():
    """Its own masks hide that gradient, but while it is wanted."""
    model, made, sparse = sm.start("h_lstm", schedule=GROW_ONCE)
    wanted = []
    sm.train(model, made, sparse, 5, lambda step: wanted.append(model.stack.dense_gradients))
    assert wanted == [True, True, True, False, False]
    check_growth("dry_h_lstm", "sum")


def check_growth(kind: str, rank_by: str) -> None:
    gradients = reference_gradients(kind, 4)[1:]
    model, made, sparse = sm.start(kind, "momentum", GROW_ONCE, rank_by=rank_by)
    before = {name: mask.clone() for name, mask in sparse.masks.items()}
    sm.train(model, made, sparse, 4)
    for weight in find_weights(model):
        of = torch.stack([g[weight.name] for g in gradients])
        score = of.sum(0) if rank_by == "sum" else of.abs().sum(0)
        size = weight.layout.size
        alpha = (int(0.5 * size + 0.5) - int(before[weight.name].sum())) / size
        expected = grow(before[weight.name], score, max(alpha, 0), weight.layout)
        assert torch.equal(sparse.masks[weight.name], expected)
        assert not model.get_parameter(weight.name)[expected & ~before[weight.name]].any()


@pytest.mark.parametrize("kind", ["nn_lstm", "dry_h_lstm"])
def test_woken_weights_may_take_one_step(kind):
    gradients = reference_gradients(kind, 4)[1:]
    model, made, sparse = sm.start(kind, "momentum", GROW_ONCE, wake="step")
    before = {name: mask.clone() for name, mask in sparse.masks.items()}
    sm.train(model, made, sparse, 4)
    for weight in find_weights(model):
        woken = sparse.masks[weight.name] & ~before[weight.name]
        mean = torch.stack([g[weight.name] for g in gradients]).mean(0)
        assert woken.any()
        torch.testing.assert_close(weight.parameter[woken], -0.05 * mean[woken])


def test_gradients_taken_before_clipping_count_live_weights_only():
    model, made, sparse = sm.start("nn_lstm", "momentum")
    for step in range(4):
        made.zero_grad()
        sm.backward(model, step)
        sparse.take_gradients()
        for name, mask in sparse.masks.items():
            gradient = model.get_parameter(name).grad
            assert not gradient[~mask].any() and gradient[mask].any()
        made.step()
        sparse.step()
    # Growth after step 3 saw the whole gradients all the same.
    other, made, second = sm.start("nn_lstm", "momentum")
    sm.train(other, made, second, 4)
    assert all(torch.equal(mask, second.masks[name]) for name, mask in sparse.masks.items())
    assert all(map(torch.equal, model.parameters(), other.parameters()))


def test_the_activation_shifts():
    for kind in ("h_lstm", "mlp"):
        model, made, sparse = sm.start(kind)
        sm.train(model, made, sparse, 5)
        if kind == "h_lstm":
            assert model.stack.activation == "leaky_relu"
        sm.train(model, made, sparse, 1)
        if kind == "h_lstm":
            assert model.stack.activation == "relu"
        else:
            assert torch.equal(model[1](torch.tensor([-2.0, 3.0])), torch.tensor([0.0, 3.0]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_training_under_autocast_with_a_scaler_skips_its_steps(dtype):
    model, made, sparse = sm.start("lstm", "momentum")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    sparse = GrowPrune(model, sm.SCHEDULE, made, scaler=scaler, masks=dict(sparse.masks))
    for step in range(12):
        made.zero_grad()
        x, target = sm.batch(step)
        with torch.autocast("cpu", dtype):
            loss = (model(x) - target).square().mean()
        # An overflow in step 2, which is in a growth period.
        scaler.scale(loss if step != 2 else loss * torch.inf).backward()
        scaler.step(made)
        scaler.update()
        sparse.step()
        assert_zero_where_dormant(model, made, sparse)
    assert scaler.get_scale() == 512
    assert [e["event"] for e in sparse.log].count("grow") == 2


def test_a_model_that_moves_takes_its_masks_along(device):
    model, made, sparse = sm.start("nn_lstm", "momentum")
    model.to(device)
    for step in range(12):
        made.zero_grad()
        x, target = sm.batch(step)
        (model(x.to(device)) - target.to(device)).square().mean().backward()
        made.step()
        sparse.step()
    assert_zero_where_dormant(model, made, sparse)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("kind", ["conv", "deep_h_lstm"])
def test_another_default_device_changes_nothing(kind, granularity):
    """On meta whatever is made without naming a device, and then read, fails."""
    readers = None if kind == "conv" else {"stack": ["output"]}
    options = {"granularity": granularity, "readers": readers, "schedule": Schedule(seed=0.5)}
    expected = sm.start(kind, **options)[2].masks
    model, made, _ = sm.start(kind)
    schedule = Schedule(seed=0.5, prune=0.2, prune_from=1, prune_until=1)
    with torch.device("meta"):
        sparse = GrowPrune(model, schedule, made, granularity=granularity, readers=readers)
        assert all(torch.equal(mask, expected[name]) for name, mask in sparse.masks.items())
        sparse.step()
        smaller = sparse.compact().model
        blocks = from_tensors(to_tensors(block_sparse(smaller)))
        assert all(blocks[weight.name].dense().is_cpu for weight in find_weights(smaller))
    assert smaller(sm.batch(0)[0]).is_cpu


def test_tied_weights_are_one():
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    sparse = GrowPrune(model, Schedule(seed=0.5))
    assert list(sparse.masks) == ["0.weight"]


def test_a_sharded_weight_is_refused():
    model = nn.Linear(2, 2)
    model.weight.device_mesh = None  # as a DTensor has
    with pytest.raises(TypeError, match="weight must be a plain tensor, got a DTensor"):
        GrowPrune(model, Schedule())


def test_what_can_be_masked_is_found():
    model = nn.ModuleDict(
        {
            "cell": ltlstm.LSTMCell(3, 4),
            "gru": nn.GRU(3, 4),
            "h": ltlstm.HLSTMCell(3, 4, gate_hidden_size=5),
            "gated": ltlstm.LTLSTM(3, 4, 2, depth_unit="gated", peephole=True, lookahead=1),
            "norm": nn.LayerNorm(4),
            "depthwise": nn.Conv1d(4, 4, 3, groups=4),
        }
    )
    found = {weight.name: weight.layout for weight in find_weights(model)}
    assert found.pop("depthwise.weight") == (1, 4, 3, 3)
    assert found["h.gate1_weight"] == (4, 4, 5, 1) and found["h.weight_ih"] == (4, 5, 3, 1)
    assert found["gated.traj_weight_ih_l1"] == (2, 4, 4, 1)
    assert found["cell.weight_ih"] == (4, 4, 3, 1)
    assert not any(name.startswith(("gru", "norm")) or "bias" in name for name in found)
