# SPDX-License-Identifier: Apache-2.0
"""The training loop's parts: chunks, the common start, gradient norms, checkpoints, resume."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from ltlstm import reference
from ltlstm.recipes import models, probe, training
from ltlstm.recipes.models import AcousticModel, ModelSpec
from ltlstm.recipes.speech import corpus, folder
from ltlstm.recipes.speech.recording import DataError
from ltlstm.recipes.streams import Chunk, Streams
from recipe_data import make_folder, no_bar

KINDS = [kind for kind in models.STACKS if kind != "HLSTM"]  # of the oracle's cell
BUDGET = training.Budget(steps=12, batch=4, frames=10)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = make_folder(tmp_path_factory.mktemp("speech"), speakers=4, utterances=3)
    return corpus.make(folder.find_jobs(root, seed=0)[0], "small", 7600, workers=1, bar=no_bar)


def test_an_epoch_gives_every_frame_once_and_resets_at_each_utterance(small):
    split = small.splits["train"]
    split = corpus.Split(
        torch.arange(len(split.features))[:, None], split.labels, split.lengths, [], []
    )
    streams = Streams(split, batch=3, frames=7, seed=5)
    seen = [streams.chunk(step) for step in range(streams.chunks_per_epoch)]
    rows = torch.cat([chunk.features for chunk in seen])[:, :, 0].long()
    assert len(rows.unique()) == rows.numel() > len(split.features) - 3 * 7 - 3
    resets = torch.cat([chunk.reset for chunk in seen])
    assert torch.equal(resets[1:], torch.isin(rows, streams.starts)[1:]) and resets[0].all()
    # Within a stream a frame follows its predecessor unless an utterance begins.
    assert ((rows[1:] == rows[:-1] + 1) | resets[1:]).all()


def test_a_chunk_depends_on_seed_and_step_only(small):
    split, later = (
        small.splits["train"],
        3 * Streams(small.splits["train"], 4, 10, 1).chunks_per_epoch,
    )
    a, b = Streams(split, 4, 10, seed=1), Streams(split, 4, 10, seed=1)
    a.chunk(0)
    for x, y in zip(vars(a.chunk(later)).values(), vars(b.chunk(later)).values(), strict=True):
        assert torch.equal(x, y)
    other = Streams(split, 4, 10, seed=2).chunk(later)
    assert not torch.equal(a.chunk(later).features, other.features)
    assert not torch.equal(a.chunk(0).features, a.chunk(later).features)


def test_too_small_a_corpus_is_one_line(small):
    with pytest.raises(DataError, match="the training set has .* frames, one step takes 100 x 64"):
        Streams(small.splits["train"], 100, 64, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_starts_alike(kind):
    model = AcousticModel(ModelSpec(kind, 3, 8), input_size=8, num_classes=5)
    weights = dict(model.stack.named_parameters())
    assert any(name.startswith("traj_") for name in weights) == (kind == "LTLSTM")
    for name, weight in weights.items():
        for gate in weight.detach().chunk(4):
            if "weight_hh" in name:
                torch.testing.assert_close(gate @ gate.t(), torch.eye(8))
            elif "weight_ih" in name:
                assert 0.5 < gate.abs().max() / math.sqrt(6 / 16) <= 1  # xavier's bound
    for lane in ("", "traj_") if kind == "LTLSTM" else ("",):
        for layer in range(3):
            bias = weights[f"{lane}bias_ih_l{layer}"] + weights[f"{lane}bias_hh_l{layer}"]
            assert bias.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16


@pytest.fixture
def chunk():
    reset = torch.zeros(5, 2, dtype=torch.bool)
    reset[3, 1] = True
    return Chunk(torch.randn(5, 2, 6), torch.randint(7, (5, 2)), reset)


@pytest.mark.parametrize("kind", KINDS)
def test_the_probe_runs_the_model(kind, chunk):
    model = AcousticModel(ModelSpec(kind, 3, 4), input_size=6, num_classes=7)
    logits, hidden = probe.traced_forward(model, chunk.features, chunk.reset)
    expected, (h_n, _) = model(chunk.features, None, chunk.reset)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(torch.stack([layer[-1] for layer in hidden]), h_n)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_norms_are_those_of_total_derivatives(kind, chunk, monkeypatch):
    """Against differences of the loss: each h_t^l nudged where it is made, all else following."""
    model = AcousticModel(ModelSpec(kind, 2, 3), input_size=6, num_classes=7).double()
    chunk = Chunk(chunk.features.double(), chunk.labels, chunk.reset)
    chunk.labels[0, 0] = corpus.IGNORED
    steps, size, cell = 2 * len(chunk.features), 2 * 3, reference.cell

    def loss(step: int, nudge: torch.Tensor) -> float:
        calls = iter(range(steps))

        def nudged(preact, c):
            h, c = cell(preact, c)
            return (h + nudge.view_as(h) if next(calls) == step else h), c

        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(
                probe,
                "reference",
                SimpleNamespace(cell=nudged, layer_trajectory=reference.layer_trajectory),
            )
            logits, _ = probe.traced_forward(model, chunk.features, chunk.reset)
        return float(cross_entropy(logits.flatten(0, 1), chunk.labels.flatten(), reduction="sum"))

    nudges = 1e-5 * torch.eye(size, dtype=torch.float64)
    slopes = torch.tensor(
        [[(loss(step, n) - loss(step, -n)) / 2e-5 for n in nudges] for step in range(steps)]
    )
    expected = slopes.view(2, -1, 3).norm(dim=-1).mean(1)
    found = torch.tensor(probe.gradient_norms(model, chunk))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_the_rate_rises_then_falls_to_nothing():
    budget = training.Budget(steps=100)
    rates = [budget.rate * budget.share_at(step) for step in range(100)]
    assert max(rates) <= budget.rate and rates.index(max(rates)) == 5
    assert rates[:6] == sorted(rates[:6]) and rates[5:] == sorted(rates[5:], reverse=True)
    assert 0 < rates[-1] < 0.02 * budget.rate
    assert training.Budget(steps=1).share_at(0) > 0


SPEC = ModelSpec("LTLSTM", 2, 6)


def run(small, path, stop_after=None, budget=BUDGET, spec=SPEC, save_every=4):
    lines, done = [], []
    watch = training.Watch(
        lines.append,
        lambda step, note: done.append(step),
        lambda: stop_after is not None and done[-1] + 1 >= stop_after,
    )
    return *training.train(spec, small, budget, 7, path, save_every, watch), lines


def equal(a, b) -> bool:
    """Bit for bit, through dicts and lists."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def without_times(path) -> dict:
    content = torch.load(path, weights_only=True)
    assert len(content["progress"].pop("seconds")) == BUDGET.steps
    return content


@pytest.mark.parametrize("stop_after", [1, 4, 11])
def test_a_stopped_run_goes_on_to_the_same_bits(small, tmp_path, stop_after):
    whole, parts = tmp_path / "whole.pt", tmp_path / "parts.pt"
    run(small, whole)
    with pytest.raises(training.Stopped, match=f"LTLSTM 2x6, seed 7, step {stop_after} of 12"):
        run(small, parts, stop_after)
    torch.rand(3)  # whatever the process did before does not matter
    lines = run(small, parts)[-1]
    assert lines == [f"LTLSTM 2x6, seed 7: goes on from step {stop_after} of {parts}"]
    assert equal(without_times(whole), without_times(parts))


def test_a_stop_that_cannot_be_saved_promises_the_last_checkpoint_only(small, tmp_path):
    (tmp_path / "file").write_text("")  # a folder that cannot be made stands for a full disk
    with pytest.raises(training.Stopped, match="step 3 of 12; .* goes on from the last checkp"):
        run(small, tmp_path / "file" / "a.pt", stop_after=3)


def test_a_finished_run_is_not_repeated(small, tmp_path):
    path = tmp_path / "a.pt"
    first, _, _ = run(small, path)
    stamp = path.stat().st_mtime_ns
    second, progress, lines = run(small, path)
    assert equal(first.state_dict(), second.state_dict()) and progress.step == BUDGET.steps
    assert path.stat().st_mtime_ns == stamp
    assert lines == [f"LTLSTM 2x6, seed 7: trained earlier, {path}"]


def test_training_learns_and_records(small, tmp_path):
    budget = training.Budget(steps=60, batch=4, frames=10, rate=2e-2)
    spec = ModelSpec("LTLSTM", 2, 24)
    _, progress, _ = run(small, tmp_path / "a.pt", budget=budget, spec=spec)
    assert progress.dev_errors[-1][1] < 0.6 * progress.dev_errors[0][1]
    assert [step for step, _ in progress.dev_errors] == list(range(0, 61, 6))
    assert [step for step, _ in progress.gradient_norms] == [0, 30, 60]
    assert all(len(norms) == 2 and min(norms) > 0 for _, norms in progress.gradient_norms)
    assert len(progress.losses) == len(progress.seconds) == 60


def test_a_loss_that_is_no_number_stops_the_run(small, tmp_path):
    broken = corpus.Corpus(small.phones, dict(small.splits), [], "broken")
    train = small.splits["train"]
    spoilt = torch.full_like(train.features, float("nan"))
    broken.splits["train"] = corpus.Split(spoilt, train.labels, train.lengths, [], [])
    with pytest.raises(training.TrainingError, match="LTLSTM 2x6: the loss is nan at step 0"):
        run(broken, tmp_path / "a.pt")
