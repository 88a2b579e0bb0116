# SPDX-License-Identifier: Apache-2.0
"""The whole command in processes of its own: killed and interrupted runs, bad input, the table."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ltlstm.recipes import plots, senone
from ltlstm.recipes.checkpoint import Progress
from recipe_data import make_folder

ROOT = Path(__file__).resolve().parents[1]
MODELS = ["LSTM 2x16", "LSTM 3x8", "ResidualLSTM 3x8", "LTLSTM 3x8"]


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("speech"), speakers=5, utterances=6, phones=40)


def command(speech, out, *more):
    return [
        *(sys.executable, "-m", "ltlstm.recipes.senone", "--data", speech, "--out", out),
        *("--cache", out / "cache", "--depth", "3", "--width", "8", "--steps", "60"),
        *("--save-every", "5", *more),
    ]


def begin(arguments) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [str(a) for a in arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(arguments) -> tuple[int, str, str]:
    process = begin(arguments)
    out, err = process.communicate()
    return process.returncode, out, err


def stop_in_training(arguments, out, number, after) -> tuple[int, str, str]:
    """Sends the signal once the checkpoint of the model called `after` is there."""
    process = begin(arguments)
    while not list(out.glob(f"checkpoints/{after}-seed0-*.pt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(number)
    output, errors = process.communicate()
    assert not (out / "results.json").exists(), "it ended before it was stopped"
    return process.returncode, output, errors


def results(out):
    """All that a run found, but the times it took."""
    found = json.loads((out / "results.json").read_text())
    for score in found["scores"]:
        assert score.pop("step_ms") > 0
    states = {}
    for path in sorted((out / "checkpoints").iterdir()):
        content = torch.load(path, weights_only=True)
        states[path.name] = [*content["model"].values(), content["rng"]]
        for moments in content["optimizer"]["state"].values():
            states[path.name] += moments.values()
    return found, states


@pytest.fixture(scope="module")
def whole(speech, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return out, finish(command(speech, out))


def test_a_run_ends_with_the_table_and_its_files(whole):
    out, (code, output, errors) = whole
    assert code == 0 and "Traceback" not in errors
    assert "Budget: 60 steps of 16 x 64 frames of 30 ms" in output
    found, _ = results(out)
    rows = output[output.index("frame error %  phone error %") :].splitlines()[1:5]
    ranked = sorted(found["scores"], key=lambda score: score["frame_error"])
    for rank, (row, score) in enumerate(zip(rows, ranked, strict=True), start=1):
        assert row.split()[:3] == [str(rank), *score["model"].split()]
        assert f"{score['frame_error']:.1f}" in row and f"{score['parameters']:,}" in row
    assert sorted(score["model"] for score in ranked) == sorted(MODELS)
    assert ranked[0]["frame_error"] < 50  # tones are easy to tell apart
    assert (out / "table.txt").read_text().splitlines()[-4:] == rows


def test_killed_and_interrupted_runs_go_on_to_the_same_bits(speech, whole, tmp_path):
    arguments = command(speech, tmp_path)
    code, _, _ = stop_in_training(arguments, tmp_path, signal.SIGKILL, after="lstm-2x16")
    assert code == -signal.SIGKILL
    code, output, errors = stop_in_training(arguments, tmp_path, signal.SIGINT, after="lstm-3x8")
    assert code == 130 and "Traceback" not in errors
    assert "goes on from step" in output
    assert output.splitlines()[-1].startswith("stopped: ")
    assert output.splitlines()[-1].endswith("; the same command goes on from there")
    code, output, errors = finish(arguments)
    assert code == 0 and "Traceback" not in errors
    assert "goes on from step" in output and "corpus: read from" in output

    expected, expected_states = results(whole[0])
    found, states = results(tmp_path)
    assert found == expected
    assert states.keys() == expected_states.keys() and len(states) == 4
    for name, tensors in states.items():
        assert all(map(torch.equal, tensors, expected_states[name]))


def test_bad_files_are_named_and_counted_and_the_run_goes_on(tmp_path, capfd):
    speech = make_folder(tmp_path / "speech", speakers=5, utterances=6, phones=40)
    (speech / "speaker1" / "u1.wav").write_bytes(b"junk")
    (speech / "speaker2" / "u0.ctm").write_text("nonsense\n")
    arguments = command(speech, tmp_path / "out", "--steps", "3")[3:]
    assert senone.main([str(a) for a in arguments]) == 0
    output = capfd.readouterr().out
    assert "2 bad files skipped:" in output
    assert "speaker1/u1.wav: it ends too early" in output
    assert "speaker2/u0.ctm: line 1 must be" in output
    kept = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(kept["corpus"]["skipped"]) == 2


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ([], "senone: empty corpus: nothing for train, dev, test; 0 usable utterances"),
        (["--data", "/no/such/folder"], "senone: /no/such/folder is not a folder"),
    ],
)
def test_an_empty_corpus_stops_with_one_line(tmp_path, capfd, more, line):
    arguments = command(tmp_path, tmp_path / "out", *more)[3:]
    assert senone.main([str(a) for a in arguments]) == 1
    errors = capfd.readouterr().err
    assert errors.startswith(line) and errors.count("\n") == 1


def test_an_output_that_cannot_be_written_is_one_line(speech, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    arguments = [
        *command(speech, tmp_path / "file" / "out", "--steps", "2", "--cache", tmp_path)[3:]
    ]
    assert senone.main([str(a) for a in arguments]) == 1
    errors = capfd.readouterr().err
    assert errors.startswith("senone: ") and errors.count("\n") == 1


def progress() -> Progress:
    norms = [(step, [1.0, 10.0 + step]) for step in (0, 2, 4)]
    return Progress(4, None, [4.0, 3.0, 2.0, 1.0], [0.1] * 4, [(0, 90.0), (4, 50.0)], norms)


def test_two_pictures_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    runs = {"LSTM 2x8": [progress(), progress()], "LTLSTM 2x8": [progress(), progress()]}
    written = plots.write_plots(runs, tmp_path)
    assert [path.name for path in written] == ["learning_curves.png", "gradient_norms.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_without_matplotlib_the_run_says_so_and_ends_well(speech, tmp_path, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    arguments = command(speech, tmp_path, "--steps", "2", "--depth", "2")[3:]
    assert senone.main([str(a) for a in arguments]) == 0
    assert "no pictures: matplotlib is not installed (" in capfd.readouterr().out


def test_seeds_are_averaged_and_depth_is_taken(speech, tmp_path, capfd):
    arguments = command(speech, tmp_path, "--seeds", "2", "--steps", "2", "--depth", "1")[3:]
    assert senone.main([str(a) for a in arguments]) == 0
    output = capfd.readouterr().out
    assert "split by speaker (none is in two sets)." in output
    assert "2 seeds" in output and output.count("+-") == 8
    assert "LTLSTM 1x8" in output and "LSTM 1x16" in output


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--depth", "six"], ["--no-such"]])
def test_a_wrong_option_is_refused(arguments, capfd):
    with pytest.raises(SystemExit) as error:
        senone.parse(arguments)
    assert error.value.code == 2


def test_help_names_units_and_options(capfd):
    with pytest.raises(SystemExit) as error:
        senone.parse(["--help"])
    text = capfd.readouterr().out
    assert error.value.code == 0
    for option in ("--depth", "--steps", "--seeds", "--full", "--data DIR", "--out DIR", "HZ"):
        assert option in text
