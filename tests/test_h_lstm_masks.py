# SPDX-License-Identifier: Apache-2.0
"""Masks: a masked weight is exactly zero in use, whatever happens to the parameter; its gradient;
how masks are saved and loaded, and met by torch's own pruning."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

import ltlstm
from ltlstm.functional.masks import in_use, may_look

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
    assert in_use(weight, mask.t().contiguous().t()) is weight
    with torch.inference_mode():
        unversioned = torch.ones(3, 4).bool()
        assert torch.equal(in_use(weight, unversioned), weight)
        unversioned[0] = False
        assert not in_use(weight, unversioned)[0].any()


# Writes that give a tensor no other version.
WRITES: dict[str, Any] = {
    "data": lambda mask: mask.data.fill_(False),
    "numpy": lambda mask: mask.numpy().fill(False),
    "dlpack": lambda mask: torch.from_dlpack(mask.view(torch.uint8)).zero_(),
    "another process": lambda mask: mask.untyped_storage().fill_(0),
}


@pytest.mark.parametrize("cell", [False, True])
@pytest.mark.parametrize("name", WRITES)
def test_a_write_of_any_kind_to_a_mask_that_was_all_on_acts(name: str, cell: bool) -> None:
    module = ltlstm.HLSTMCell(D, H) if cell else ltlstm.HLSTM(D, H)
    x = torch.randn(N, D) if cell else torch.randn(T, N, D)
    h, mask = torch.randn(N, H), module.get_buffer(f"weight_hh{'' if cell else '_l0'}_mask")
    hx = (h, h) if cell else (h[None], h[None])
    with torch.no_grad():
        dense = module(x, hx)[0]
        WRITES[name](mask)
        masked = module(x, hx)[0]
        assert not torch.allclose(masked, dense)
        assert torch.equal(masked, dense_twin(module)(x, hx)[0])


def test_a_traced_call_takes_the_masks_along_unread() -> None:
    module, x = ltlstm.HLSTM(D, H), torch.randn(T, N, D)
    graphs: dict[str, Any] = {
        "make_fx": make_fx(lambda x: module(x)[0])(x),
        "pre-dispatch": make_fx(lambda x: module(x)[0], pre_dispatch=True)(x),
    }
    with torch.no_grad():
        traced = torch.jit.trace(module, (x,))
        graphs["trace"] = lambda x: traced(x)[0]
    dense = module(x)[0]
    assert all(torch.equal(graph(x), dense) for graph in graphs.values())
    module.weight_hh_l0_mask.fill_(False)
    assert not torch.allclose(module(x)[0], dense)
    for name, graph in graphs.items():
        torch.testing.assert_close(graph(x), module(x)[0], msg=name)


@pytest.mark.parametrize("mode", ["fake", "symbolic"])
def test_no_value_is_looked_at_under_fake_tensors(mode: str) -> None:
    module = sparse()
    given = dict(module.named_parameters()) | dict(module.named_buffers())

    def call(given: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(module, given, (x,))[0]

    x = torch.randn(T, N, D)
    if mode == "fake":
        graph = make_fx(call, tracing_mode=mode)(given, x)
        assert torch.equal(graph(given, x), module(x)[0])
    with FakeTensorMode() as fake:
        given = {k: fake.from_tensor(v) for k, v in given.items()}
        assert not may_look(*given.values()) and not may_look(*given.values(), wait=True)
        assert call(given, fake.from_tensor(x)).shape == (T, N, H)


def test_when_values_may_be_looked_at() -> None:
    mask = torch.ones(2).bool()
    assert may_look() and may_look(mask) and may_look(mask, nn.Parameter(torch.ones(2)))
    assert not may_look(mask.to("meta"), wait=True)
    with FlopCounterMode(display=False):  # it watches, and keeps no graph
        assert may_look(mask)
    assert not torch.func.vmap(lambda x: x * may_look(mask))(torch.ones(2)).any()
    assert not torch.compile(lambda x: x * may_look(x), backend="eager")(torch.ones(2)).any()


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


@pytest.mark.parametrize("cell", [False, True])
def test_reset_parameters_turns_every_mask_on(cell: bool) -> None:
    """As construction does: on memory that was never written, too."""

    def made() -> Any:
        return ltlstm.HLSTMCell(D, H) if cell else ltlstm.HLSTM(D, H, 2, bidirectional=True)

    with torch.device("meta"):
        module = made()
    module.to_empty(device="cpu")
    for mask in module.buffers():
        mask.fill_(False)  # as the memory may be
    torch.manual_seed(0)
    module.reset_parameters()
    torch.manual_seed(0)
    state = made().state_dict()
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())


def activations(module: Any, state: dict[str, Tensor]) -> str:
    module.load_state_dict(state)
    return module.activation


def test_the_activation_travels_with_the_state_dict() -> None:
    leaky, relu, x = sparse(), sparse(1, activation="relu"), torch.randn(T, N, D)
    for state in (relu.state_dict(), dict(relu.state_dict()), nn.Sequential(relu).state_dict()):
        inside = "0.weight_ih_l0" in state
        twin = nn.Sequential(sparse(2)) if inside else sparse(2)
        twin.load_state_dict(state)
        found = twin(x)[0]
        assert torch.equal(found, relu(x)[0])
        again = twin.load_state_dict(
            nn.Sequential(leaky).state_dict() if inside else leaky.state_dict()
        )
        assert again == ([], []) and torch.equal(twin(x)[0], leaky(x)[0])
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in relu.state_dict().items()}
    assert activations(sparse(2), half) == "relu"
    assert torch.equal(torch.func.functional_call(leaky, relu.state_dict(), (x,))[0], relu(x)[0])
    assert leaky.activation == "leaky_relu"
    # Parameters and masks alone are what a state dict held at first, and as "leaky_relu" it does.
    assert list(leaky.state_dict()) == [
        *dict(leaky.named_parameters()),
        *dict(leaky.named_buffers()),
    ]


def test_a_state_dict_without_an_activation_has_the_usual_one() -> None:
    relu, old = sparse(activation="relu"), dict(sparse(1).state_dict())
    with pytest.warns(UserWarning, match="activation was 'relu' and is 'leaky_relu' now"):
        assert activations(relu, old) == "leaky_relu"
    relu.activation = "relu"
    relu.load_state_dict({}, strict=False)  # no weight came
    assert relu.activation == "relu"
    with pytest.raises(RuntimeError, match=r"slope must be one of \(0.01, 0.0\), got 0.5"):
        relu.load_state_dict(old | {"activation_slope": torch.tensor(0.5)})
    cell = ltlstm.HLSTMCell(D, H, activation="relu")
    other = ltlstm.HLSTMCell(D, H)
    other.load_state_dict(cell.state_dict())
    assert other.activation == "relu"
