# SPDX-License-Identifier: Apache-2.0
"""What a trained model costs to run: one stream, measured here, each way it can be run.

All ways of all models are timed in turns, so that what disturbs the machine disturbs them alike.
"""

from __future__ import annotations

import copy
import dataclasses
import statistics
import time
from collections.abc import Mapping
from typing import cast

import torch
from torch import nn

from ltlstm.modules import HLSTM, LSTM
from ltlstm.recipes.models import READERS, AcousticModel
from ltlstm.sparsity import compact, count

FRAMES = 100  # of one stream, in one call
ROUNDS = 15
HEADER = ("model", "run as", "us a frame", "fastest", "times the first")


@dataclasses.dataclass(frozen=True)
class Latency:
    """Of one way to run a model."""

    model: str
    way: str
    parameters: int  # kept
    flops: int  # a frame, of weights that are not zero
    median: float  # us a frame
    minimum: float


def measure(models: Mapping[str, AcousticModel], rounds: int = ROUNDS) -> list[Latency]:
    """One stream of FRAMES frames through each model, each way; in the models' order."""
    ways = [(name, *way) for name, model in models.items() for way in ways_to_run(model)]
    first = next(iter(models.values())).stack
    assert isinstance(first, nn.RNNBase)
    x = torch.randn(FRAMES, 1, first.input_size, generator=torch.Generator().manual_seed(0))
    seconds: list[list[float]] = [[] for _ in ways]
    with torch.no_grad():
        for _ in range(rounds + 1):
            for k, (_, _, model) in enumerate(ways):
                seconds[k].append(_timed(model, x))
    found = []
    for (name, way, model), times in zip(ways, seconds, strict=True):
        frame = [1e6 * t / FRAMES for t in times[1:]]  # the first call warms up
        size = count(model)
        found.append(
            Latency(
                name,
                way,
                size.live_parameters,
                size.live_flops,
                statistics.median(frame),
                min(frame),
            )
        )
    return found


def _timed(model: AcousticModel, x: torch.Tensor) -> float:
    began = time.perf_counter()
    model.output(model.stack(x)[0])  # an nn.LSTM takes no reset
    return time.perf_counter() - began


def ways_to_run(model: AcousticModel) -> list[tuple[str, AcousticModel]]:
    """As it is, and what else gives the same outputs: torch's own, masks applied in each call, no
    masks, compiled for its zeros where they are enough, compacted."""
    plain = copy.deepcopy(model).eval()
    stack = plain.stack
    if model.spec.sparsity is None:
        ways = [(f"ltlstm.{model.spec.kind}", plain)]
    elif isinstance(stack, HLSTM):
        ways = [("masked", plain), ("dense", _with_stack(plain, dense(stack)))]
        compiled = stack.compile_sparse()
        if compiled is not None:
            ways.append(("compiled sparse", _with_stack(plain, compiled)))
    else:
        ways = [("masked", plain)]
    if isinstance(stack, LSTM):
        ways.append(("nn.LSTM", _with_stack(plain, stack.to_torch())))
    if model.spec.sparsity is not None:
        smaller = cast(AcousticModel, compact(plain, READERS).model)
        if isinstance(smaller.stack, HLSTM):
            smaller = _with_stack(smaller, smaller.stack.compile_sparse() or smaller.stack)
        ways.append(("compacted", smaller))
    return ways


def dense(stack: HLSTM) -> HLSTM:
    """The same outputs with no masks: the zeros are in the weights."""
    made = copy.deepcopy(stack)
    for name, mask in made.named_buffers():
        with torch.no_grad():
            made.get_parameter(name.removesuffix("_mask")).masked_fill_(~mask, 0)
            mask.fill_(True)
    return made


def _with_stack(model: AcousticModel, stack: nn.Module) -> AcousticModel:
    made = copy.copy(model)
    made._modules = {**model._modules, "stack": stack}
    return made


def table(found: list[Latency]) -> str:
    """A row a way; the ratio is the first row's median over its own."""
    rows = [HEADER]
    for each in found:
        rows.append(
            (
                each.model,
                each.way,
                f"{each.median:.1f}",
                f"{each.minimum:.1f}",
                f"{found[0].median / each.median:.2f}",
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEADER))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if k < 2 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
