# SPDX-License-Identifier: Apache-2.0
"""The recipe's HLSTM and grow-and-prune: start, training, exact resume, latency, the command."""

import dataclasses
import json

import pytest
import torch

from bench import __main__ as bench
from ltlstm.recipes import latency, senone, training
from ltlstm.recipes.models import AcousticModel, ModelSpec, Sparsity
from ltlstm.recipes.speech import corpus, folder
from ltlstm_kernels import sparse
from recipe_data import make_folder, no_bar
from tolerance import assert_close

BUDGET = training.Budget(steps=14, batch=4, frames=10)
SHARES = {"grow_share": (0.05, 0.25), "prune_share": (0.35, 0.75)}
SPARSE = Sparsity(0.2, seed=0.3, grown=0.5, granularity="element", distill=0.0, **SHARES)
STACK = ModelSpec("LSTM", 2, 8)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = make_folder(tmp_path_factory.mktemp("speech"), speakers=4, utterances=3)
    return corpus.make(folder.find_jobs(root, seed=0)[0], "small", 7600, workers=1, bar=no_bar)


def run(small, path, spec, stop_after=None, teacher=None):
    done = []
    watch = training.Watch(
        lambda line: None,
        lambda step, note: done.append(step),
        lambda: stop_after is not None and done[-1] + 1 >= stop_after,
    )
    return training.train(spec, small, BUDGET, 7, path, 100, watch, teacher)


def equal(a, b) -> bool:
    """Bit for bit, through dicts and lists."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def without_times(path) -> dict:
    content = torch.load(path, weights_only=True)
    assert len(content["progress"].pop("seconds")) == BUDGET.steps
    return content


def test_an_hlstm_starts_as_the_others_do():
    model = AcousticModel(ModelSpec("HLSTM", 1, 8), input_size=6, num_classes=5)
    weights = dict(model.stack.named_parameters())
    for gate in [*weights["weight_hh_l0"].chunk(4), *weights["gate1_weight_l0"]]:
        torch.testing.assert_close(gate @ gate.t(), torch.eye(8))
    assert not weights["bias_l0"].any()
    assert weights["gate1_bias_l0"].tolist() == [[float(gate == 1)] * 8 for gate in range(4)]


@pytest.mark.parametrize("kind", ["HLSTM", "LSTM"])
def test_a_model_is_grown_and_pruned_as_it_trains(small, tmp_path, kind):
    model, progress = run(small, tmp_path / "a.pt", ModelSpec(kind, 1, 8, SPARSE))
    steps, live = zip(*progress.live, strict=True)
    total = sum(p.numel() for name, p in model.named_parameters() if "weight" in name)
    assert abs(live[0] / total - 0.3) < 0.03 and abs(max(live) / total - 0.5) < 0.03
    assert abs(live[-1] / total - 0.2) < 0.03 and steps[-1] < BUDGET.steps
    for name, parameter in model.stack.named_parameters():
        if "weight" in name:
            assert 0.1 < (parameter != 0).float().mean() < 0.4
    if kind == "HLSTM":
        assert model.stack.activation == "relu"
    run_again = run(small, tmp_path / "a.pt", ModelSpec(kind, 1, 8, SPARSE))  # only read
    assert equal(run_again[0].state_dict(), model.state_dict())
    assert run_again[1].live == progress.live
    assert getattr(run_again[0].stack, "activation", "relu") == "relu"


@pytest.mark.parametrize("distill", [0.0, 0.5])
@pytest.mark.parametrize("stop_after", [1, 3, 8])
def test_a_stopped_run_goes_on_to_the_same_bits(small, tmp_path, stop_after, distill):
    spec = ModelSpec("HLSTM", 1, 8, Sparsity(0.2, 0.3, 0.5, "bank", distill=distill, **SHARES))
    teacher, _ = run(small, tmp_path / "teacher.pt", STACK)
    whole, parts = tmp_path / "whole.pt", tmp_path / "parts.pt"
    run(small, whole, spec, teacher=teacher)
    with pytest.raises(training.Stopped, match=f"HLSTM 1x8 at 20%, seed 7, step {stop_after} of"):
        run(small, parts, spec, stop_after, teacher)
    torch.rand(3)
    run(small, parts, spec, teacher=teacher)
    assert equal(without_times(whole), without_times(parts))


def test_a_teacher_changes_what_is_learnt(small, tmp_path):
    teacher, _ = run(small, tmp_path / "teacher.pt", STACK)
    modes = []
    teacher.register_forward_pre_hook(lambda module, x: modes.append(module.training))
    teacher.train().zero_grad()
    losses = []
    for share in (0.0, 0.5):
        spec = ModelSpec("LSTM", 1, 8, dataclasses.replace(SPARSE, distill=share))
        losses.append(run(small, tmp_path / f"{share}.pt", spec, teacher=teacher)[1].losses)
    assert losses[0][0] != losses[1][0]
    assert all(p.grad is None for p in teacher.parameters())
    assert modes == [False] * BUDGET.steps


@pytest.mark.parametrize("kind", ["HLSTM", "LSTM"])
def test_every_way_to_run_a_model_gives_its_outputs(kind):
    model = AcousticModel(ModelSpec(kind, 1, 8, SPARSE), input_size=6, num_classes=5)
    with torch.no_grad():
        model.stack.weight_hh_l0[::8] = 0
        if kind == "HLSTM":
            model.stack.gate1_weight_l0_mask[:, ::2] = False
    x = torch.randn(7, 2, 6)
    ways = dict(latency.ways_to_run(model))
    assert list(ways) == ["masked", "dense" if kind == "HLSTM" else "nn.LSTM", "compacted"]
    with torch.no_grad():
        truth = AcousticModel.__call__(model.eval(), x)[0]
        for way in ways.values():
            assert_close(way.output(way.stack(x)[0]), truth.double(), truth + truth.abs() * 1e-7)
    dense = latency.ways_to_run(AcousticModel(ModelSpec("HLSTM", 1, 8), 6, 5))
    assert [name for name, _ in dense] == ["ltlstm.HLSTM"]


def test_a_sparse_model_is_also_run_compiled(monkeypatch):
    model = AcousticModel(ModelSpec("HLSTM", 1, 32, SPARSE), input_size=32, num_classes=5)
    with torch.no_grad():
        for mask in model.stack.buffers():
            mask.copy_(torch.rand(mask.shape) < 0.05)
    count, forward = [], sparse.h_lstm_sparse_forward
    monkeypatch.setattr(
        sparse, "h_lstm_sparse_forward", lambda *a, **o: count.append(1) or forward(*a, **o)
    )
    calls = {}
    with torch.no_grad():
        for name, way in latency.ways_to_run(model):
            count.clear()
            way.stack(torch.randn(7, 1, 32))
            calls[name] = len(count)
    assert calls == {"masked": 0, "dense": 0, "compiled sparse": 1, "compacted": 1}


def test_latencies_are_of_every_model_and_way():
    models = {
        spec.name: AcousticModel(spec, input_size=6, num_classes=5)
        for spec in (STACK, ModelSpec("HLSTM", 1, 8, SPARSE))
    }
    found = latency.measure(models, rounds=2)
    assert [(each.model, each.way) for each in found] == [
        ("LSTM 2x8", "ltlstm.LSTM"), ("LSTM 2x8", "nn.LSTM"), ("HLSTM 1x8 at 20%", "masked"),
        ("HLSTM 1x8 at 20%", "dense"), ("HLSTM 1x8 at 20%", "compacted"),
    ]  # fmt: skip
    assert all(0 < each.minimum <= each.median for each in found)
    lines = latency.table(found).splitlines()
    assert lines[0].split() == " ".join(latency.HEADER).split()
    assert lines[1].endswith("1.00") and len(lines) == 6


NAMES = ["LSTM 2x8", "LSTM 1x8", "HLSTM 1x10/6 at 25%", "LSTM 2x8 at 30%"]


def test_the_command_compares_grown_and_pruned_models(tmp_path, capfd):
    speech = make_folder(tmp_path / "speech", speakers=5, utterances=4, phones=32)
    arguments = [
        *("--data", speech, "--out", tmp_path, "--cache", tmp_path / "cache", "--steps", "12"),
        *("--model", "hlstm", "--grow-prune", "--width", "8", "--density", "0.25"),
        *("--hlstm-width", "10", "--gate-width", "6", "--stack-density", "0.3", "--seeds", "1"),
        *("--granularity", "16x1", "--distill", "0.3"),
    ]
    assert senone.main([str(a) for a in arguments]) == 0
    output = capfd.readouterr().out
    assert "One stream, 100 frames a call, seed 0, 1 thread:" in output
    kept = json.loads((tmp_path / "results.json").read_text())
    assert [score["model"] for score in kept["scores"]] == NAMES
    measured = json.loads((tmp_path / "latencies.json").read_text())["latencies"]
    assert {each["model"] for each in measured} == set(NAMES)
    size = {score["model"]: score["parameters"] for score in kept["scores"]}
    assert size["HLSTM 1x10/6 at 25%"] < size["LSTM 1x8"] / 2 < size["LSTM 2x8"] / 2
    assert kept["curves"]["HLSTM 1x10/6 at 25%"][0]["live"][0][0] == 0
    assert "HLSTM 1x10/6 at 25%" in (tmp_path / "table.txt").read_text()
    assert (tmp_path / "sparsity.png").read_bytes().startswith(b"\x89PNG")
    checkpoints = {p: p.stat().st_mtime_ns for p in (tmp_path / "checkpoints").iterdir()}
    assert len(checkpoints) == 4

    assert senone.main([str(a) for a in arguments]) == 0  # nothing is trained again
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "checkpoints").iterdir()} == checkpoints
    assert capfd.readouterr().out.count("trained earlier") == 4
    again = json.loads((tmp_path / "results.json").read_text())
    for score in (*kept["scores"], *again["scores"]):
        score.pop("step_ms")
    assert again["scores"] == kept["scores"]

    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.*")}
    assert senone.main([*map(str, arguments), "--measure"]) == 0
    after = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.*")}
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"latencies.json", "latencies.txt"}
    assert senone.main([*map(str, arguments), "--measure", "--steps", "13"]) == 1
    assert "not finished: the same command without --measure trains it" in capfd.readouterr().err

    where = ["--results", str(tmp_path), "--out", str(tmp_path / "kept")]
    bench.main(["senone", *where, "--trained-at", "abc"])
    lines = (tmp_path / "kept" / "senone_sparse.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["model"] for row in rows if row["group"] == "senone"] == NAMES
    assert [row["way"] for row in rows if row["group"] == "senone latency"] == [
        each["way"] for each in measured
    ]
    assert (tmp_path / "kept" / "senone_sparse.png").exists()
    assert rows[2]["trained_at"] == "abc"
    assert rows[2]["live"] and rows[2]["commit"] and rows[2]["settings"]["steps"] == 12
    with pytest.raises(SystemExit):
        bench.main(["senone", "--results", str(tmp_path / "kept")])
    assert "no results in" in capfd.readouterr().err


def test_an_hlstm_may_be_compared_dense():
    options = senone.parse(["--model", "hlstm"])
    assert [spec.name for spec in senone.specs(options)] == [
        "LSTM 2x192", "LSTM 1x192", "HLSTM 1x512/64",
    ]  # fmt: skip


def test_an_hlstm_may_have_narrow_gates_and_another_schedule():
    options = senone.parse(
        [
            "--model",
            "hlstm",
            "--grow-prune",
            "--gate-width",
            "8",
            "--grow",
            "0:.1",
            "--prune",
            ".2:1",
        ]
    )
    spec = senone.specs(options)[2]
    assert (spec.name, spec.file_name) == ("HLSTM 1x512/8 at 15.5%", "hlstm-1x512-8-at-15.5")
    assert (spec.sparsity.grow_share, spec.sparsity.prune_share) == ((0.0, 0.1), (0.2, 1.0))
    model = AcousticModel(ModelSpec("HLSTM", 1, 8, gate_width=3), input_size=6, num_classes=5)
    assert model.stack.gate_hidden_size == 3


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--grow-prune"], "--grow-prune goes with --model hlstm"),
        (["--model", "hlstm", "--grow-prune", "--density", "0.9"], "must be at most --grown-den"),
        (["--model", "hlstm", "--grow-prune", "--grow", ".2:.9"], "--grow must end before --prune"),
        (["--measure"], "--measure goes with --model hlstm"),
        (["--model", "hlstm", "--grow-prune", "--density", "0"], "densities at the end, above 0"),
    ],
)
def test_options_that_do_not_fit_are_one_line(arguments, line, capfd):
    assert senone.main(arguments) == 2
    errors = capfd.readouterr().err
    assert line in errors and errors.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--density", "2"], ["--model", "gru"], ["--distill", "x"], ["--prune", ".5:.1"]]
)
def test_a_wrong_option_is_refused(arguments):
    with pytest.raises(SystemExit) as error:
        senone.parse(arguments)
    assert error.value.code == 2
