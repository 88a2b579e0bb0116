# SPDX-License-Identifier: Apache-2.0
"""A budget in seconds: it decides the steps once, a resumed run keeps them, short runs say so."""

import json

import pytest

from ltlstm.recipes import pace, senone, training
from ltlstm.recipes.checkpoint import CheckpointError
from ltlstm.recipes.models import ModelSpec, Sparsity
from ltlstm.recipes.speech import corpus, folder
from recipe_data import make_folder, no_bar

MOST = training.Budget(steps=5000, batch=4, frames=10)
SPARSE = Sparsity(0.2, seed=0.3, grown=0.5, granularity="element")
SPECS = [
    ModelSpec("LSTM", 1, 8),
    ModelSpec("HLSTM", 1, 8, SPARSE),
]  # the second learns of the first


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = make_folder(tmp_path_factory.mktemp("speech"), speakers=4, utterances=3)
    return corpus.make(folder.find_jobs(root, seed=0)[0], "small", 7600, workers=1, bar=no_bar)


@pytest.fixture
def clock(monkeypatch):
    """A step takes 10 ms, a look 20, whatever the machine does."""
    asked = []

    def timed(spec, small, budget, teacher):
        asked.append((spec, teacher))
        return spec.name, 0.01, 0.02

    monkeypatch.setattr(pace, "timed", timed)
    return asked


def fitted(small, path, seconds, seeds=1):
    lines: list[str] = []
    budget = pace.fitted(seconds, path, SPECS, seeds, small, MOST, lines.append)
    return budget, lines


@pytest.mark.parametrize(
    ("seconds", "seeds", "steps"),
    [(10, 1, 480), (10, 2, 230), (1, 1, 30), (1, 9, training.LOOKS), (100_000, 1, MOST.steps)],
)
def test_steps_and_looks_of_all_runs_fit(small, tmp_path, clock, seconds, seeds, steps):
    budget, lines = fitted(small, tmp_path / "steps.json", seconds, seeds)
    assert (budget.steps, budget.batch, budget.frames) == (steps, 4, 10)
    assert len(lines) == 1
    assert lines[0].startswith(f"{seconds} s of training: {steps:,} steps of each model (here one")
    assert clock == [(SPECS[0], None), (SPECS[1], SPECS[0].name)]


def test_what_was_decided_is_kept(small, tmp_path, clock):
    path = tmp_path / "kept" / "steps.json"
    first, _ = fitted(small, path, 10)
    clock.clear()
    again, lines = fitted(small, path, 10)
    assert again == first and clock == []
    assert lines == [f"10 s of training: 480 steps of each model, as decided before ({path})"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"steps": 0}', '{"steps": "9"}'])
def test_a_damaged_file_is_one_line(small, tmp_path, content):
    path = tmp_path / "steps.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match="does not tell this run's steps .*: delete it") as e:
        fitted(small, path, 10)
    assert "\n" not in str(e.value)


def test_steps_are_timed_as_they_are_trained(small):
    teacher, step, look = training.timed(SPECS[0], small, MOST, None)
    assert step > 0 and look > 0
    assert all(number > 0 for number in training.timed(SPECS[1], small, MOST, teacher)[1:])


def test_the_command_fits_its_steps_and_goes_on_with_them(tmp_path, capfd):
    speech = make_folder(tmp_path / "speech", speakers=5, utterances=6, phones=40)
    out = tmp_path / "out"
    arguments = ["--data", speech, "--out", out, "--cache", tmp_path, "--depth", 2, "--width", 8]

    def run(*more):
        assert senone.main([str(a) for a in (*arguments, *more)]) == 0
        said = capfd.readouterr().out
        scores = json.loads((out / "results.json").read_text())["scores"]
        for score in scores:
            score.pop("step_ms")
        return said, scores

    said, scores = run("--budget", 1)
    (kept,) = out.glob("checkpoints/steps-*.json")
    steps = json.loads(kept.read_text())["steps"]
    assert f"1 s of training: {steps} steps of each model (here " in said
    assert f"Too short to rank models: {steps} steps, not 1,500." in said
    assert "Too short to rank models" in (out / "table.txt").read_text()

    said, again = run("--budget", 1)
    assert "as decided before" in said and said.count("trained earlier") == 4
    assert again == scores
    said, given = run("--steps", steps)
    assert said.count("trained earlier") == 4 and given == scores


def test_a_budget_and_steps_exclude_each_other(capfd):
    with pytest.raises(SystemExit) as error:
        senone.parse(["--budget", "9", "--steps", "9"])
    assert error.value.code == 2
    assert "not allowed with argument" in capfd.readouterr().err
