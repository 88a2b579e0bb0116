# SPDX-License-Identifier: Apache-2.0
"""What each process of the distributed grow-and-prune test runs; gloo, two processes."""

import datetime
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import ltlstm
import sparse_models as sm
from ltlstm.sparsity import GrowPrune

WORLD = 2
STEPS = 12


def train(model: nn.Module, plain: nn.Module, share: slice, by_hand: bool = False) -> dict:
    """Grow-and-prune on a share of the batch; what it leaves."""
    optimizer = torch.optim.SGD(plain.parameters(), 0.05, momentum=0.9)
    # Only the first rank minds when the network was pruned twice; all must stop.
    sparse = GrowPrune(
        plain, sm.SCHEDULE, optimizer, accept=lambda: share.start != 0 or sparse.steps < 9
    )
    for step in range(STEPS):
        optimizer.zero_grad()
        x, target = sm.batch(step)
        x = torch.cat([x, x.flip(0)], 1)[:, share]
        (model(x) - target).square().mean().backward()
        if by_hand:  # no DDP: ranks see gradients of their own, and average them for the optimiser
            sparse.take_gradients()
            for p in plain.parameters():
                dist.all_reduce(p.grad)
                p.grad /= WORLD
        optimizer.step()
        sparse.step()
    log = [(entry["step"], entry["event"], entry["live"]) for entry in sparse.log]
    return {"masks": sparse.masks, "model": plain.state_dict(), "log": log}


def model_of(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return sm.MODELS[kind]()


@torch.no_grad()
def masks_that_come(rank: int) -> dict[str, Any]:
    """Outputs with masks that the first rank's memory brought, by DDP and by hand."""
    torch.manual_seed(0)
    x = sm.batch(0)[0]
    model = ltlstm.HLSTM(sm.D, sm.H)
    wrapped = DistributedDataParallel(model)
    found: dict[str, Any] = {"dense": model(x)[0]}
    if rank == 0:
        model.weight_hh_l0_mask[::2] = False
    with torch.enable_grad():  # where it broadcasts buffers
        found["ddp"] = wrapped(x)[0].detach()
    if rank == 0:
        model.weight_hh_l0_mask.fill_(False)
    dist.broadcast(model.weight_hh_l0_mask, 0)
    found["broadcast"] = model(x)[0]
    return found


KINDS = ("nn_lstm", "dry_h_lstm")


def process(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=WORLD,
        timeout=datetime.timedelta(seconds=120),
    )  # fmt: skip
    share = slice(rank * sm.N, (rank + 1) * sm.N)
    found: dict[str, Any] = {}
    for kind in KINDS:
        plain = model_of(kind)
        found[kind] = train(DistributedDataParallel(plain), plain, share)
        plain = model_of(kind)
        found[f"{kind} by hand"] = train(plain, plain, share, by_hand=True)
    found["masks that come"] = masks_that_come(rank)
    torch.save(found, folder / f"rank{rank}.pt")
    dist.destroy_process_group()
    if rank == 0:
        alone = {}
        for kind in KINDS:
            plain = model_of(kind)
            alone[kind] = alone[f"{kind} by hand"] = train(plain, plain, slice(0, 2 * sm.N))
        torch.save(alone, folder / "alone.pt")
