# SPDX-License-Identifier: Apache-2.0
"""What is loaded or written into a model under GrowPrune stands: its masks are the only ones."""

import copy

import pytest
import torch
from torch import Tensor, nn

import ltlstm
import sparse_models as sm
from ltlstm.sparsity import GrowPrune, Schedule


def at_rest(model: nn.Module, made: torch.optim.Optimizer, sparse: GrowPrune) -> None:
    """A step that changes nothing."""
    for group in made.param_groups:
        group["lr"] = 0.0
        group["weight_decay"] = 0.0
    made.zero_grad()
    sm.backward(model, 0)
    made.step()
    sparse.step()


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("kind", ["dry_h_lstm", "deep_h_lstm"])
def test_a_state_dict_that_is_loaded_stands(kind: str, finished: bool) -> None:
    schedule = Schedule(prune=0.4, prune_from=2, prune_until=8, prune_every=2)
    options = {} if finished else {"readers": {"stack": ["output"]}}
    model, made, sparse = sm.start(kind, schedule=schedule, weights=recurrent(kind), **options)
    sm.train(model, made, sparse, 3)
    best = copy.deepcopy(model.state_dict())
    x = sm.batch(0)[0]
    expected = model(x)
    sm.train(model, made, sparse, 6)
    if finished:
        sparse.finish()
    assert not torch.equal(model(x), expected)
    model.load_state_dict(best)
    assert torch.equal(model(x), expected)
    at_rest(model, made, sparse)
    assert all(torch.equal(v, best[k]) for k, v in model.state_dict().items())
    assert all(
        torch.equal(m, best[f"{n}_mask"]) for n, m in sparse.masks.items() if n + "_mask" in best
    )
    assert sparse.density() == sparse.log[1]["density"]


def recurrent(kind: str) -> list[str]:
    """All that have masks of their own."""
    names = sm.MODELS[kind]().state_dict()
    return [name.removesuffix("_mask") for name in names if name.endswith("_mask")]


def test_biases_of_removed_units_live_where_the_loaded_units_do() -> None:
    model, made, sparse = sm.start(
        "dry_h_lstm", schedule=Schedule(prune=0.02, prune_from=3, prune_until=3),
        weights=recurrent("dry_h_lstm"),
    )  # fmt: skip
    sm.train(model, made, sparse, 2)
    best = copy.deepcopy(model.state_dict())
    with torch.no_grad():  # unit 5 of gate f has no input any more
        for mask in (model.stack.weight_ih_l0_mask, model.stack.weight_hh_l0_mask):
            mask.view(4, 8, -1)[1, 5] = False
    sm.train(model, made, sparse, 1)
    name = "stack.bias_l0"
    assert not sparse.masks[name].view(4, 8)[1, 5] and model.stack.bias_l0[13] == 0
    model.load_state_dict(best)
    assert sparse.masks[name].all()
    at_rest(model, made, sparse)
    assert all(torch.equal(v, best[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("write", ["copy", "data", "part"])
def test_a_mask_that_is_written_stands(write: str) -> None:
    model, made, sparse = sm.start("dry_h_lstm")
    mask, weight = model.stack.weight_hh_l0_mask, model.stack.weight_hh_l0
    wanted = torch.rand(mask.shape) < 0.5
    {"copy": mask.copy_, "data": mask.data.copy_, "part": lambda w: mask[:].copy_(w)}[write](wanted)
    with torch.no_grad():
        weight.fill_(1)
    sparse.step()
    assert torch.equal(weight.detach() == 1, wanted)
    assert torch.equal(sparse.masks["stack.weight_hh_l0"], wanted)


def test_a_model_keeps_the_masks_it_has() -> None:
    model = sm.MODELS["dry_h_lstm"]()
    model.stack.weight_hh_l0_mask[::2] = False
    kept: dict[str, Tensor] = {k: v.clone() for k, v in model.named_buffers()}
    x = sm.batch(0)[0]
    expected = model(x)
    sparse = GrowPrune(model, Schedule())
    assert all(torch.equal(v, kept[k]) for k, v in model.named_buffers())
    assert sparse.masks["output.weight"].all() and torch.equal(model(x), expected)
    with pytest.raises(ValueError, match="mask of stack.weight_.* must be made of column groups"):
        GrowPrune(model, Schedule(), granularity="column")
    GrowPrune(model, Schedule(seed=0.9))  # draws others, as it says
    assert model.stack.weight_hh_l0_mask.float().mean() > 0.85


def test_masks_that_come_in_part() -> None:
    model, made, sparse = sm.start("dry_h_lstm")
    state = model.state_dict()
    del state["stack.weight_hh_l0_mask"]
    model.load_state_dict(state)
    with torch.no_grad():
        model.stack.weight_hh_l0.fill_(1)
    at_rest(model, made, sparse)
    assert model.stack.weight_hh_l0.all() and sparse.density()["stack.weight_hh_l0"] == 1


def test_nothing_grows_after_the_end() -> None:
    model, made, sparse = sm.start("dry_h_lstm")
    sm.train(model, made, sparse, 1)
    assert isinstance(model.stack, ltlstm.HLSTM) and model.stack.dense_gradients
    sparse.finish()
    before = sparse.density()
    assert not model.stack.dense_gradients
    sm.train(model, made, sparse, 6)
    assert sparse.density() == before
