# SPDX-License-Identifier: Apache-2.0
"""DDP and FSDP2 over two gloo processes train as one process on the whole batch does."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing

import distributed_job as job


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    """What the processes left behind."""
    folder: Path = tmp_path_factory.mktemp("distributed")
    torch.multiprocessing.spawn(job.process, (folder,), nprocs=job.WORLD)
    return folder


@pytest.mark.parametrize("name", job.JOBS)
def test_two_processes_train_as_one(folder: Path, name: str) -> None:
    alone = torch.load(folder / "alone.pt")
    if name == "fsdp":
        alone = {k: v for k, v in alone.items() if not k.startswith("lstm.")}
    ranks = [torch.load(folder / f"{name}{rank}.pt") for rank in range(job.WORLD)]
    loose = {"rtol": 0.05, "atol": 0.01} if name == "fsdp_bf16" else {}
    for first, second, one in zip(*ranks, alone.values(), strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, one, **loose)
