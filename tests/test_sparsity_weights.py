# SPDX-License-Identifier: Apache-2.0
"""Which parameters GrowPrune masks: by what they are, whichever modules share them."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import ltlstm
import sparse_models as sm
from ltlstm.sparsity import GrowPrune, Schedule, find_weights

HALF = Schedule(seed=0.5)


def masked(model: nn.Module, **options: Any) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(GrowPrune(model, HALF, **options).masks)


class Scaled(nn.LSTM):
    """With parameters beside nn.LSTM's, one called a weight."""

    def __init__(self) -> None:
        super().__init__(3, 4)
        self.weight_scale = nn.Parameter(torch.ones(4, 4))


class Gated(nn.RNNCellBase):
    """A cell of three gates, as GRUs have."""

    def __init__(self) -> None:
        super().__init__(3, 4, True, num_chunks=3)


def test_weights_are_what_their_module_has_as_such() -> None:
    model = nn.ModuleDict({"a": Scaled(), "b": Gated(), "c": nn.LSTMCell(3, 4), "d": nn.GRU(3, 4)})
    assert masked(model) == ["a.weight_ih_l0", "a.weight_hh_l0", "c.weight_ih", "c.weight_hh"]


def test_frozen_weights_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), ltlstm.HLSTM(6, 6))
    model[0].requires_grad_(False)
    model[2].weight_hh_l0.requires_grad_(False)
    before = {name: p.clone() for name, p in model.named_parameters()}
    assert masked(model) == ["2.weight_ih_l0", "2.gate1_weight_l0"]
    for name in ("0.weight", "1.weight", "2.weight_hh_l0"):
        assert torch.equal(model.get_parameter(name), before[name])
    assert model[2].weight_hh_l0_mask.all()
    with pytest.raises(
        ValueError, match="GrowPrune: 0.weight must require gradients, got a frozen"
    ):
        GrowPrune(model, HALF, weights=["0.weight"])


def dropped(module: nn.Module, name: str) -> None:
    """A dropout of weights: the module computes with what is made of the raw ones."""
    raw = module._parameters.pop(name)
    module.register_parameter(f"{name}_raw", raw)
    setattr(module, name, nn.functional.dropout(raw, 0.5))


REPARAMETRISED: dict[str, Any] = {
    "weight_norm": parametrizations.weight_norm,
    "old weight_norm": nn.utils.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "old spectral_norm": nn.utils.spectral_norm,
    "pruning": lambda module, name: prune.l1_unstructured(module, name, 0.5),
    "weight drop": dropped,
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", REPARAMETRISED)
@pytest.mark.parametrize(
    ("make", "attribute"),
    [
        (lambda: nn.Linear(6, 6), "weight"),
        (lambda: nn.LSTM(6, 6), "weight_hh_l0"),
        (lambda: ltlstm.LSTM(6, 6), "weight_hh_l0"),
        (lambda: ltlstm.HLSTM(6, 6), "weight_hh_l0"),
        (lambda: nn.LSTMCell(6, 6), "weight_hh"),
    ],
)
def test_computed_weights_are_left_out_with_a_word(make: Any, attribute: str, name: str) -> None:
    model = nn.Sequential(make(), nn.Linear(6, 6))
    REPARAMETRISED[name](model[0], attribute)
    before = {n: p.clone() for n, p in model.named_parameters() if attribute in n}
    with pytest.warns(UserWarning, match=f"GrowPrune: 0.{attribute} left out: computed from"):
        sparse = GrowPrune(model, HALF)
    sparse.step()
    assert not any(attribute in n for n in sparse.masks if n.startswith("0."))
    assert "1.weight" in sparse.masks
    for n, value in before.items():
        if n.startswith("0."):
            assert torch.equal(model.get_parameter(n), value)


class Words(nn.Module):
    """A language model whose decoder is its embedding."""

    def __init__(self, first: str) -> None:
        super().__init__()
        for name in ("embedding", "decoder") if first == "embedding" else ("decoder", "embedding"):
            setattr(self, name, nn.Embedding(9, 6) if name == "embedding" else nn.Linear(6, 9))
        self.rnn = ltlstm.LSTM(6, 6)
        self.decoder.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.rnn(self.embedding(x))[0])


def train(model: nn.Module, sparse: GrowPrune, optimizer: Any, x: Tensor, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        sparse.step()


@pytest.mark.parametrize("first", ["embedding", "decoder"])
def test_a_decoder_may_be_tied_to_its_embedding(first: str) -> None:
    model = Words(first)
    optimizer = torch.optim.Adam(model.parameters())
    sparse = GrowPrune(model, sm.SCHEDULE, optimizer, readers={"rnn": ["decoder"]})
    assert set(sparse.masks) == {f"{first}.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0"}
    train(model, sparse, optimizer, torch.randint(9, (5, 2)), 12)
    mask = sparse.masks[f"{first}.weight"]
    assert model.decoder.weight is model.embedding.weight
    assert not model.embedding.weight[~mask].any() and 0 < int(mask.sum()) < mask.numel() / 2
    # Any of its names means it.
    for name in ("embedding.weight", "decoder.weight"):
        assert [weight.name for weight in find_weights(model, [name])] == [f"{first}.weight"]
        again = GrowPrune(model, Schedule(), weights=[name], masks={name: mask})
        assert torch.equal(again.masks[f"{first}.weight"], mask)


def test_a_dead_unit_of_a_tied_weight_takes_nothing_from_the_other_place() -> None:
    """Column 2 of the embedding is read by the LSTM, whatever becomes of hidden unit 2."""
    model = Words("embedding")
    masks = {w.name: torch.ones_like(w.parameter).bool() for w in find_weights(model)}
    for name in ("rnn.weight_ih_l0", "rnn.weight_hh_l0"):
        masks[name].view(4, 6, 6)[:, 2] = False
    schedule = Schedule(prune=0.01, prune_from=1, prune_until=1)
    sparse = GrowPrune(model, schedule, masks=masks, readers={"rnn": ["decoder"]})
    sparse.step()
    assert sparse.masks["embedding.weight"][:, 2].any()


def test_lstm_weights_may_be_tied_and_models_converted() -> None:
    model = nn.ModuleDict({"a": nn.LSTM(6, 6), "b": nn.LSTM(6, 6), "c": nn.Linear(6, 6)})
    model["b"].weight_hh_l0 = model["a"].weight_hh_l0
    ltlstm.convert_(model)
    sparse = GrowPrune(model, HALF)
    assert list(sparse.masks) == [
        "a.weight_ih_l0", "a.weight_hh_l0", "b.weight_ih_l0", "c.weight",
    ]  # fmt: skip
    with torch.no_grad():
        model["b"].weight_hh_l0.fill_(1)
    sparse.step()
    assert model["b"].weight_hh_l0.count_nonzero() == sparse.masks["a.weight_hh_l0"].sum() < 72 * 2


def test_modules_that_share_a_weight_share_its_mask() -> None:
    model = nn.ModuleDict({"a": ltlstm.HLSTM(6, 6), "b": ltlstm.HLSTM(6, 6)})
    model["b"].weight_hh_l0 = model["a"].weight_hh_l0
    schedule = Schedule(seed=0.5, grow=0.1, grow_from=0, grow_until=3)
    sparse = GrowPrune(model, schedule)
    assert not model["a"].weight_hh_l0_mask.all()
    assert torch.equal(model["a"].weight_hh_l0_mask, model["b"].weight_hh_l0_mask)
    assert model["a"].dense_gradients and model["b"].dense_gradients
    sparse.finish()
    assert not model["a"].dense_gradients and not model["b"].dense_gradients


MISSING: dict[str, tuple[Any, str]] = {
    "unused": (lambda model: None, "others have one, so the loss does not depend on it"),
    "frozen": (lambda model: model[1].requires_grad_(False), "it is frozen; leave it out"),
}


@pytest.mark.parametrize("name", MISSING)
def test_the_cause_of_a_missing_gradient_is_named(name: str) -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    sparse = GrowPrune(model, Schedule(seed=0.5, grow=0.1, grow_until=3))
    MISSING[name][0](model)
    model[0](torch.ones(2, 6)).sum().backward()
    with pytest.raises(RuntimeError, match=f"gradient of 1.weight .* got None: {MISSING[name][1]}"):
        sparse.step()
