# SPDX-License-Identifier: Apache-2.0
"""What each process of the distributed tests runs; gloo, two processes, found through a file."""

import copy
import datetime
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

import ltlstm

WORLD = 2
T, N, D, H = 5, 4, 3, 6


class Model(nn.Module):
    """Every stack, weights tied between two of them, and some masked."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = ltlstm.LSTM(D, H, 2, bidirectional=True, proj_size=3)
        self.lt = ltlstm.LTLSTM(H, H, 2, peephole=True, lookahead=1)
        self.residual = ltlstm.ResidualLSTM(H, H, 2)
        self.residual.weight_hh_l1 = self.residual.weight_hh_l0
        self.h = ltlstm.HLSTM(H, H, gate_hidden_size=5)
        for mask in self.h.buffers():
            mask.bernoulli_(0.6)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        for stack in (self.lstm, self.lt, self.residual, self.h):
            x = stack(x, lengths=lengths)[0]
        return x


def batch(step: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(step)
    return torch.randn(T, N, D, generator=g), torch.randint(1, T + 1, (N,), generator=g)


def train(model: nn.Module, share: slice) -> None:
    """Three steps, each on a share of the batch."""
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    for step in range(3):
        x, lengths = batch(step)
        optimizer.zero_grad()
        model(x[:, share], lengths[share]).square().sum(0).mean().backward()
        optimizer.step()


def run_ddp(model: nn.Module, share: slice) -> list[Tensor]:
    parallel = DistributedDataParallel(model)  # no find_unused_parameters: all of them are used
    train(parallel, share)
    return [p.detach() for p in parallel.parameters()]


def run_fsdp(model: Any, share: slice) -> list[Tensor]:
    for stack in (model.lstm, model.lt, model.residual, model.h):
        fully_shard(stack)
    fully_shard(model)
    train(model, share)
    model.lstm.reset_parameters()  # of sharded parameters: it must work
    return [p.full_tensor() for n, p in model.named_parameters() if not n.startswith("lstm.")]


def run_fsdp_bf16(model: Any, share: slice) -> list[Tensor]:
    fully_shard(model, mp_policy=MixedPrecisionPolicy(torch.bfloat16, torch.float32))
    train(model, share)
    return [p.full_tensor() for p in model.parameters()]


JOBS = {"ddp": run_ddp, "fsdp": run_fsdp, "fsdp_bf16": run_fsdp_bf16}


def process(rank: int, folder: Path) -> None:
    """All jobs, each from one start; leaves its parameters, and rank 0 those of one process."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=WORLD,
        timeout=datetime.timedelta(seconds=120),
    )  # fmt: skip
    torch.manual_seed(0)
    model = Model()
    share = slice(rank * N // WORLD, (rank + 1) * N // WORLD)
    for name, job in JOBS.items():
        torch.save(job(copy.deepcopy(model), share), folder / f"{name}{rank}.pt")
    dist.destroy_process_group()
    if rank == 0:
        train(model, slice(None))
        parameters = dict(model.named_parameters())
        torch.save({n: p.detach() for n, p in parameters.items()}, folder / "alone.pt")
