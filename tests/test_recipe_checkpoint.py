# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: a full disk keeps the last one, a corrupt or foreign one is one line."""

import errno
import os
import resource

import pytest
import torch

from ltlstm import files
from ltlstm.recipes import checkpoint
from ltlstm.recipes.checkpoint import CheckpointError, Progress


def saved(path):
    model = torch.nn.Linear(40, 40)
    optimizer = torch.optim.Adam(model.parameters())
    lines: list[str] = []
    checkpoint.save(path, model, optimizer, Progress(step=3), lines.append)
    return model, optimizer, lines


def still_good(path, content, lines):
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]
    assert len(lines) == 1 and "\n" not in lines[0]
    assert lines[0].startswith("checkpoint of step 3 not saved, the last one stays: ")


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    assert saved(path)[2] == []
    content = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    lines = saved(path)[2]
    monkeypatch.undo()
    still_good(path, content, lines)
    assert lines[0].endswith(f"No space left on device: '{path}'")


def test_a_write_that_breaks_off_keeps_the_last_checkpoint(tmp_path):
    path = tmp_path / "a.pt"
    assert saved(path)[2] == []
    content = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # the real thing: half a file
    try:
        lines = saved(path)[2]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    still_good(path, content, lines)


@pytest.mark.parametrize(
    "content",
    [b"", b"junk", b"PK\x03\x04 half a zip"],
    ids=["empty", "junk", "cut"],
)
def test_a_corrupt_checkpoint_is_one_line(tmp_path, content):
    path = tmp_path / "a.pt"
    model, optimizer, _ = saved(path)
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match="a.pt is no checkpoint of this run .*another --out"
    ) as error:
        checkpoint.load(path, model, optimizer)
    assert "\n" not in str(error.value)


def test_a_foreign_checkpoint_is_one_line(tmp_path):
    path = tmp_path / "a.pt"
    saved(path)
    other = torch.nn.Linear(3, 3)
    with pytest.raises(CheckpointError, match="no checkpoint of this run") as error:
        checkpoint.load(path, other, torch.optim.Adam(other.parameters()))
    assert "\n" not in str(error.value)
    files.save_tensors(path, {"weights": torch.ones(3)})
    with pytest.raises(CheckpointError, match="no checkpoint of this run"):
        checkpoint.load(path, other, torch.optim.Adam(other.parameters()))
