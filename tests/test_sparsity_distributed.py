# SPDX-License-Identifier: Apache-2.0
"""Two gloo processes grow and prune alike, and as one process on the whole batch does."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing

import sparse_distributed_job as job


@pytest.fixture(scope="module")
def found(tmp_path_factory: Any) -> list[dict[str, Any]]:
    """What the two ranks left, and one process alone."""
    folder: Path = tmp_path_factory.mktemp("distributed")
    torch.multiprocessing.spawn(job.process, (folder,), nprocs=job.WORLD)
    return [torch.load(folder / f"{name}.pt") for name in ("rank0", "rank1", "alone")]


@pytest.mark.parametrize("way", ["", " by hand"])
@pytest.mark.parametrize("kind", job.KINDS)
def test_ranks_agree_and_train_as_one(found, kind, way):
    first, second, alone = (each[kind + way] for each in found)
    assert first["masks"].keys() == second["masks"].keys() == alone["masks"].keys()
    for name, mask in first["masks"].items():
        assert torch.equal(mask, second["masks"][name])
        assert torch.equal(mask, alone["masks"][name])  # gradients were summed before ranking
    for name, value in first["model"].items():
        assert torch.equal(value, second["model"][name])
        torch.testing.assert_close(value, alone["model"][name])
    assert first["log"] == second["log"] == alone["log"]
    assert [event for _, event, _ in first["log"]][-3:] == ["prune", "prune", "reject"]


def test_masks_that_another_rank_sends_act_at_once(found):
    first, second = (each["masks that come"] for each in found[:2])
    for way in first:
        assert torch.equal(first[way], second[way]), way
    assert not torch.allclose(first["ddp"], first["dense"])
    assert not torch.allclose(first["broadcast"], first["ddp"])
