# SPDX-License-Identifier: Apache-2.0
"""Masks: a masked weight is exactly zero in use, whatever happens to the parameter; its gradient;
how masks are saved and loaded, and met by torch's own pruning."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import ltlstm
from ltlstm.functional.masks import in_use

T, N, D, H = 5, 4, 3, 6


def sparse(seed: int = 0, **options: Any) -> ltlstm.HLSTM:
    torch.manual_seed(seed)
    module = ltlstm.HLSTM(D, H, 2, gate_num_layers=2, **options)
    for mask in module.buffers():
        mask.bernoulli_(0.5)
    return module


def masked(module: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Every weight with its mask."""
    found = dict(module.named_buffers())
    assert found
    return {k.removesuffix("_mask"): (module.get_parameter(k[:-5]), m) for k, m in found.items()}


def dense_twin(module: ltlstm.HLSTM) -> ltlstm.HLSTM:
    """With zeros in the weights themselves, and every mask on."""
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for weight, mask in masked(twin).values():
            weight.masked_fill_(~mask, 0)
            mask.fill_(True)
    return twin


OPTIMISERS: dict[str, Any] = {
    "momentum and decay": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.05, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, 0.05),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.05),
}


@pytest.mark.parametrize("dense", [False, True], ids=["masked gradients", "dense gradients"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_zero_in_use_through_any_optimiser(name: str, dense: bool) -> None:
    module = sparse()
    module.dense_gradients = dense
    before = {k: w.detach().clone() for k, (w, _) in masked(module).items()}
    optimiser = OPTIMISERS[name](module.parameters())
    for _ in range(3):
        optimiser.zero_grad()
        module(torch.randn(T, N, D))[0].square().mean().backward()
        optimiser.step()
    for k, (weight, mask) in masked(module).items():
        assert not module.weight_in_use(k)[~mask].any()
        assert torch.equal(module.weight_in_use(k)[mask], weight[mask])
        assert not torch.equal(weight[mask], before[k][mask])  # it has learnt
    x = torch.randn(T, N, D)
    assert torch.equal(module(x)[0], dense_twin(module)(x)[0])


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_gradients_are_masked_unless_asked_dense(backend: str) -> None:
    module = sparse(backend=backend)
    x = torch.randn(T, N, D)
    twin = dense_twin(module)
    twin(x)[0].square().sum().backward()
    module(x)[0].square().sum().backward()
    for k, (weight, mask) in masked(module).items():
        whole = twin.get_parameter(k).grad
        assert whole is not None and weight.grad is not None and whole[~mask].any(), k
        assert torch.equal(weight.grad, whole.masked_fill(~mask, 0)), k
    module.zero_grad()
    module.dense_gradients = True
    assert torch.equal(module(x)[0], twin(x)[0])  # the forward is the same
    module(x)[0].square().sum().backward()
    for k, (weight, _) in masked(module).items():
        assert weight.grad is not None and torch.equal(weight.grad, twin.get_parameter(k).grad), k


@pytest.mark.parametrize("dense", [False, True])
def test_in_use_is_differentiable_twice(dense: bool) -> None:
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(3, 4) < 0.5
    used = in_use(weight, mask, dense)
    assert torch.equal(used, weight.detach() * mask)
    (first,) = torch.autograd.grad(used.pow(3).sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), weight)
    torch.testing.assert_close(second, 6 * weight.detach() * mask)
    gone = weight.detach().masked_fill(~mask, torch.nan)
    assert not in_use(gone, mask)[~mask].any()


def test_a_full_mask_costs_nothing_and_a_change_is_seen() -> None:
    weight, mask = torch.randn(3, 4, requires_grad=True), torch.ones(3, 4).bool()
    assert in_use(weight, mask) is weight and in_use(weight, None) is weight
    mask[1, 2] = False
    assert in_use(weight, mask)[1, 2] == 0 and in_use(weight, mask).count_nonzero() == 11
    mask.fill_(True)
    assert in_use(weight, mask) is weight
    with torch.inference_mode():
        unversioned = torch.ones(3, 4).bool()
        assert torch.equal(in_use(weight, unversioned), weight)
        unversioned[0] = False
        assert not in_use(weight, unversioned)[0].any()


def test_state_dicts_carry_masks_and_a_missing_one_is_all_on() -> None:
    module, other = sparse(), sparse(1)
    x = torch.randn(T, N, D)
    assert other.load_state_dict(module.state_dict()) == ([], [])
    assert torch.equal(other(x)[0], module(x)[0])
    held = module.state_dict()
    bare = {k: v for k, v in held.items() if not k.endswith("_mask")}
    count = len(bare)
    assert other.load_state_dict(bare) == ([], [])
    assert len(bare) == count and all(mask.all() for mask in other.buffers())
    assert not torch.equal(other(x)[0], module(x)[0])
    # Where a weight does not come, its mask stays.
    del held["weight_ih_l0"], held["weight_ih_l0_mask"]
    missing, _ = module.load_state_dict(held, strict=False)
    assert missing == ["weight_ih_l0", "weight_ih_l0_mask"]
    assert not module.weight_ih_l0_mask.all()


def test_state_dicts_inside_a_model_and_by_assignment() -> None:
    model = nn.Sequential(sparse(), nn.Identity())
    bare = {k: v for k, v in model.state_dict().items() if not k.endswith("_mask")}
    with torch.device("meta"):
        empty = nn.Sequential(ltlstm.HLSTM(D, H, 2, gate_num_layers=2), nn.Identity())
    assert empty.load_state_dict(model.state_dict(), assign=True) == ([], [])
    x = torch.randn(T, N, D)
    assert torch.equal(empty(x)[0], model(x)[0])
    with torch.device("meta"):
        empty = nn.Sequential(ltlstm.HLSTM(D, H, 2, gate_num_layers=2), nn.Identity())
    assert empty.load_state_dict(bare, assign=True) == ([], [])
    assert all(not m.is_meta and m.all() for m in empty.buffers())
    assert torch.equal(empty(x)[0].isfinite(), torch.ones(T, N, H).bool())


def test_torch_s_own_pruning() -> None:
    module = ltlstm.HLSTM(D, H)
    prune.l1_unstructured(module, "gate1_weight_l0", 0.5)
    x = torch.randn(T, N, D)
    pruned = module(x)[0]
    assert module.weight_in_use("gate1_weight_l0").count_nonzero() == 4 * H * H // 2
    prune.remove(module, "gate1_weight_l0")
    assert torch.equal(module(x)[0], pruned)
