# SPDX-License-Identifier: Apache-2.0
"""Files are whole or as they were: every writer of results, tables, pictures and models."""

import errno
import json
import os

import pytest
from torch import nn

from bench import measured, report, senone
from ltlstm import files
from ltlstm.recipes import plots
from ltlstm.recipes.checkpoint import Progress
from ltlstm.sparsity import profile, save
from test_bench_report import keep, made, slower_at


def results(folder):
    return keep(folder / "results", made(slower_at((16, 256, "forward"))))


def write_senone(folder):
    found = {"budget": "", "settings": {}, "threads": 1, "scores": [], "latencies": []}
    for name in ("results.json", "latencies.json"):
        (folder / name).write_text(json.dumps(found))
    (folder / "sparsity.png").write_bytes(b"picture")
    senone.main(["--results", str(folder), "--out", str(folder / "kept")])


# What is written, and how.
WRITERS = {
    "a.pt": lambda folder: save(folder / "a.pt", nn.Linear(2, 2)),
    "a.safetensors": lambda folder: save(folder / "a.safetensors", nn.Linear(2, 2)),
    "profile.json": lambda folder: profile.main(
        ["--sizes", "4", "--steps", "2", "--rounds", "1", "--device", "cpu", "--out", str(folder)]
    ),
    "profile.png": lambda folder: profile.plot(
        [profile.Point(4, 1.0, 1.0)], [4], "", folder / "profile.png"
    ),
    "learning_curves.png": lambda folder: plots.write_plots(
        {"LSTM": [Progress(losses=[1.0], dev_errors=[(0, 1.0)], gradient_norms=[(0, [1.0])])]},
        folder,
    ),
    "report.md": lambda folder: report.main(
        ["--results", str(results(folder)), "--out", str(folder)]
    ),
    "sizes.png": lambda folder: report.main(
        ["--results", str(results(folder)), "--out", str(folder)]
    ),
    "measured.py": lambda folder: measured.main(
        ["--results", str(results(folder)), "--file", str(folder / "measured.py")]
    ),
    "kept/senone_sparse.png": write_senone,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_cannot_be_written_stays_as_it_was(name, tmp_path, monkeypatch, capsys):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("before")
    replace = os.replace

    def full(source, target) -> None:
        if os.fspath(target) == os.fspath(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    try:
        WRITERS[name](tmp_path)
    except OSError as error:
        said = str(error)
    else:
        said = capsys.readouterr().err  # a command's
    assert "No space left on device" in said and str(path) in said
    assert path.read_text() == "before"
    assert not list(tmp_path.rglob("*.part"))
    monkeypatch.undo()
    WRITERS[name](tmp_path)
    assert path.read_bytes() not in (b"before", b"")


def test_a_link_stays_one(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    files.write_atomically(tmp_path / "link", b"content")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "file").read_bytes() == b"content"
