# SPDX-License-Identifier: Apache-2.0
"""GrowPrune: exact resume, bit for bit, and what it refuses by name."""

import copy
import io
import math

import pytest
import torch
from torch import nn

import sparse_models as sm
from ltlstm.sparsity import GrowPrune, Schedule


def equal(a, b) -> bool:
    """Bit for bit, through dicts and lists."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def everything(model, made, sparse) -> dict:
    return {
        "model": model.state_dict(),
        "optimizer": made.state_dict(),
        "sparse": sparse.state_dict(),
        "rng": torch.get_rng_state(),
    }


def through_a_file(content):
    """As a checkpoint does, with torch.load's safe reader."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("options", [{}, {"rank_by": "abs", "wake": "step", "accept": True}])
@pytest.mark.parametrize("kind", ["mlp", "nn_lstm", "h_lstm", "deep_h_lstm"])
def test_a_stopped_run_goes_on_to_the_same_bits(kind, options):
    if "accept" in options:
        options = {**options, "accept": lambda: sparse.steps < 9}  # the third network is rejected
    model, made, sparse = sm.start(kind, **options)
    saved = [through_a_file(everything(model, made, sparse))]
    sm.train(
        model, made, sparse, 13,
        lambda step: saved.append(through_a_file(everything(model, made, sparse))),
    )  # fmt: skip
    whole = everything(model, made, sparse)
    assert ("reject" in [entry["event"] for entry in sparse.log]) == ("accept" in options)
    for stop in (0, 2, 4, 6, 7, 9, 11):
        model, made, sparse = sm.start(kind, **options, seed=99)  # another start: all is loaded
        state = copy.deepcopy(saved[stop])
        model.load_state_dict(state["model"])
        made.load_state_dict(state["optimizer"])
        sparse.load_state_dict(state["sparse"])
        torch.set_rng_state(state["rng"])
        assert equal(everything(model, made, sparse), saved[stop])
        sm.train(model, made, sparse, 13 - stop)
        assert equal(everything(model, made, sparse), whole), stop


@pytest.mark.parametrize("kind", ["nn_lstm", "h_lstm"])
def test_a_state_in_memory_stays_as_it_was(kind):
    model, made, sparse = sm.start(kind, rank_by="abs", accept=lambda: True)
    for steps in (2, 5):  # within a growth period, and where a good network is kept
        sm.train(model, made, sparse, steps)
        state = sparse.state_dict()
        before = copy.deepcopy(state)
        sm.train(model, made, sparse, 2)
        assert equal(state, before) and not equal(sparse.state_dict(), before)


def test_a_resume_shifts_the_activation():
    model, made, sparse = sm.start("h_lstm")
    sm.train(model, made, sparse, 7)
    other, _, second = sm.start("h_lstm")
    assert other.stack.activation == "leaky_relu"
    second.load_state_dict(sparse.state_dict())
    assert other.stack.activation == "relu"


def test_fast_sizes_are_those_of_the_state():
    sparse = sm.start("nn_lstm", granularity="row", fast_sizes=[8, 4])[2]
    sm.start("nn_lstm", granularity="row", fast_sizes=[4, 8])[2].load_state_dict(
        sparse.state_dict()
    )
    with pytest.raises(ValueError, match=r"state must have fast_sizes .4., got .4, 8."):
        sm.start("nn_lstm", granularity="row", fast_sizes=[4])[2].load_state_dict(
            sparse.state_dict()
        )


def test_a_state_without_activations_and_options_is_read():
    """As format 1 was at first, and as checkpoints that were kept are."""
    model, made, sparse = sm.start("h_lstm", accept=lambda: sparse.steps < 8)
    sm.train(model, made, sparse, 7)
    state = sparse.state_dict()
    del state["activations"], state["good"]["activations"]
    del state["rank_by"], state["wake"], state["fast_sizes"], state["readers"]
    other, made, second = sm.start("h_lstm", accept=lambda: False)
    second.load_state_dict(state)
    assert other.stack.activation == "relu"
    sm.train(other, made, second, 1)
    assert second.log[-1]["event"] == "reject" and other.stack.activation == "relu"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda: sm.start("lstm")[2], "must have shapes {'stack.weight_ih_l0': .40, 7."),
        (lambda: sm.start("nn_lstm", granularity="row")[2], "must have granularity element, got"),
        (lambda: sm.start("nn_lstm", schedule=Schedule())[2], "must have schedule {'seed': 0.4"),
        (lambda: sm.start("nn_lstm", rank_by="abs")[2], "must have rank_by sum, got abs"),
        (lambda: sm.start("nn_lstm", wake="step")[2], "must have wake zero, got step"),
        (
            lambda: sm.start("nn_lstm", readers={"stack": ["output"]})[2],
            "must have readers {}, got {'stack': .'output'.}",
        ),
    ],
)
def test_a_state_of_another_run_is_refused_and_changes_nothing(change, text):
    model, made, sparse = sm.start("nn_lstm")
    sm.train(model, made, sparse, 4)
    before = through_a_file(everything(model, made, sparse))
    with pytest.raises(ValueError, match=f"GrowPrune: state {text}"):
        sparse.load_state_dict(change().state_dict())
    with pytest.raises(ValueError, match="GrowPrune: state must have format 1, got None"):
        sparse.load_state_dict({})
    after = everything(model, made, sparse)
    assert all(equal(after[key], before[key]) for key in ("model", "optimizer", "sparse"))


def test_gradients_that_are_nan_in_growth_are_named():
    model, made, sparse = sm.start("nn_lstm")
    sm.train(model, made, sparse, 1)
    for step in (1, 2):
        made.zero_grad()
        sm.backward(model, step)
        made.step()
        if step == 1:
            model.stack.weight_hh_l1.grad[0, 0] = math.nan
            sparse.step()
    with pytest.raises(
        RuntimeError, match="gradient of stack.weight_hh_l1 must be finite in growth, got nan"
    ):
        sparse.step()


def test_gradients_that_are_missing_in_growth_are_named():
    model, made, sparse = sm.start("nn_lstm")
    sm.train(model, made, sparse, 1)
    sm.backward(model, 1)
    made.step()
    made.zero_grad()
    with pytest.raises(RuntimeError, match="gradient of stack.weight_ih_l0 must be there .* None"):
        sparse.step()


def test_a_scaler_that_skips_every_step_of_a_growth_is_said():
    model, made, sparse = sm.start("mlp")
    scaler = torch.amp.GradScaler("cpu")
    sparse = GrowPrune(model, sm.SCHEDULE, made, scaler=scaler, masks=dict(sparse.masks))
    with pytest.raises(RuntimeError, match="must be finite in a growth period, got none"):
        for step in range(3):
            sm.backward(model, step)
            model[0].weight.grad.fill_(math.inf)
            sparse.step()


def test_a_layer_pruned_to_nothing_is_refused_by_name_and_nothing_changes():
    schedule = Schedule(prune=0.9, prune_from=1, prune_until=9, prune_every=2)
    model, made, sparse = sm.start("nn_lstm", schedule=schedule)
    sm.train(model, made, sparse, 2)
    masks = {name: mask.clone() for name, mask in sparse.masks.items()}
    with pytest.raises(ValueError, match=r"prune: output.weight must keep at least one live group"):
        sm.train(model, made, sparse, 8)
    assert all(torch.equal(m, masks[name]) or m.sum() < masks[name].sum() for name, m in
               sparse.masks.items())  # fmt: skip
    assert all(bool(mask.any()) for mask in sparse.masks.values())


def test_a_layer_whose_units_all_die_is_refused_by_name():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    masks = {"0.weight": torch.tensor([[1, 1], [0, 0]]).bool(), "2.weight": torch.eye(2).bool()}
    masks["2.weight"][0, 0], masks["2.weight"][0, 1] = False, True  # reads only what is not fed
    sparse = GrowPrune(model, Schedule(prune=0.01, prune_from=1, prune_until=1), masks=masks)
    with pytest.raises(ValueError, match="GrowPrune: 0.weight must keep live weights"):
        sparse.step()


def linear(*, like=(2, 3), dtype=torch.bool, device="cpu"):
    return {"weight": torch.ones(like, dtype=dtype, device=device)}


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"masks": linear(like=(3, 2))}, ValueError, r"mask of weight must have shape \(2, 3\)"),
        ({"masks": linear(dtype=torch.float)}, TypeError, "bool tensor, got torch.float32"),
        ({"masks": linear(device="meta")}, ValueError, "must be on cpu, got meta"),
        ({"masks": {}}, ValueError, "masks must be of weight, got none of weight"),
        ({"masks": linear() | {"x": torch.ones(1).bool()}}, ValueError, "got one of x"),
        ({"masks": {"weight": torch.zeros(2, 3).bool()}}, ValueError, "got an empty mask"),
        (
            {"masks": {"weight": torch.eye(2, 3).bool()}, "granularity": "row"},
            ValueError,
            "mask of weight must be made of row groups",
        ),
        ({"granularity": "3x3"}, ValueError, "GrowPrune: granularity must be one of element"),
        ({"rank_by": "max"}, ValueError, "rank_by must be one of .* got 'max'"),
        ({"wake": "one"}, ValueError, "wake must be one of .* got 'one'"),
        ({"fast_sizes": [8]}, ValueError, "fast_sizes must come with granularity row or column"),
        ({"weights": ["bias"]}, ValueError, "weights must be of weight, got 'bias'"),
        ({"weights": []}, ValueError, "model must have maskable weights"),
        ({"readers": {"no": []}}, ValueError, "readers must name modules, got 'no'"),
    ],
)
def test_bad_arguments_are_refused_and_change_nothing(options, error, text):
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    with pytest.raises(error, match=text):
        GrowPrune(model, Schedule(seed=0.5), **options)
    assert torch.equal(model.weight, before)


def test_a_state_may_come_from_another_device(device):
    model, made, sparse = sm.start("h_lstm", accept=lambda: True)
    sm.train(model, made, sparse, 8)
    state = through_a_file(sparse.state_dict())
    other, made, second = sm.start("h_lstm")
    other.to(device)
    second.load_state_dict(state)  # its masks and sums are on the CPU
    assert all(mask.device.type == device for mask in second.masks.values())
    assert all(torch.equal(mask.cpu(), sparse.masks[n]) for n, mask in second.masks.items())


def test_the_report_names_every_weight():
    _, _, sparse = sm.start("mlp")
    lines = sparse.report().splitlines()
    assert lines[0].startswith("step 0: seed, ") and lines[0].endswith(" live weights")
    assert [line.split()[0] for line in lines[1:]] == ["0.weight", "3.weight"]
    assert sparse.progress == 0


@pytest.mark.parametrize("kind", ["nn_lstm", "h_lstm"])
def test_a_model_loaded_before_it_is_wrapped_keeps_its_weights(kind):
    """The random seed of the new GrowPrune clears weights that the loaded masks want."""
    model, made, sparse = sm.start(kind)
    sm.train(model, made, sparse, 7)
    other, _, _ = sm.start(kind)
    other.load_state_dict(model.state_dict())
    again = GrowPrune(other, sparse.schedule, seed=99)
    assert not equal(other.state_dict(), model.state_dict())
    again.load_state_dict(sparse.state_dict())
    assert equal(other.state_dict(), model.state_dict())
