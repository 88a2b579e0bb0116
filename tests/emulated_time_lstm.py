# SPDX-License-Identifier: Apache-2.0
"""Problems for the emulated time-LSTM kernels, and what the float64 reference says of them.

The kernels start from pre-activations, and so does the reference here. Names of arrays are those of
csrc/cuda/problem.cuh; those of a second direction end in 1.
"""

from dataclasses import dataclass
from math import ceil
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import linear

from emulator.records import launch
from ltlstm.reference.rows import Rows
from ltlstm.reference.time_lane import cell, scan

REGIMES = {"block": 0, "cluster": 1, "grid": 2, "streamed": 3}
DTYPES = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 2}


@dataclass(frozen=True)
class Problem:
    regime: str
    T: int
    N: int
    H: int
    units: int = 8
    columns: int = 8
    k_splits: int = 1
    back_splits: int = 0  # backward; 0: as forward
    P: int = 0  # 0: no projection
    dtype: torch.dtype = torch.bfloat16
    bidirectional: bool = False
    reverse: bool = False
    packed: bool = False
    reset: bool = False
    peephole: bool = False
    recompute: bool = False
    held: bool = False  # weights in registers
    only: str = ""  # the one output that has a gradient; all where empty
    groups: int = 0  # of a launch; 0: all that the batch needs
    first_row: int = 0
    seed: int = 0

    def __str__(self) -> str:
        on = [name for name, value in vars(self).items() if value is True]
        name = f"{self.regime}-T{self.T}N{self.N}H{self.H}" + f"P{self.P}" * (self.P > 0)
        tile = f"u{self.units}c{self.columns}k{self.k_splits}"
        return "-".join([name, tile, str(self.dtype).removeprefix("torch."), *on, self.only])

    @property
    def blocks(self) -> int:
        return ceil(self.H / self.units)

    @property
    def out(self) -> int:
        return self.P or self.H

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def lengths(self) -> list[int]:
        """Longest first; packed input ends with rows of length 1 where T allows no less."""
        if not self.packed:
            return [self.T] * self.N
        return [max(1, self.T - (self.T * n) // self.N) for n in range(self.N)]

    @property
    def batch_sizes(self) -> list[int]:
        return [sum(length > t for length in self.lengths) for t in range(self.T)]

    @property
    def rows(self) -> int:
        return sum(self.batch_sizes)

    def sizes(self, backward: bool) -> Tensor:
        """The struct Sizes of tests/emulator/kernels/time_lstm.h."""
        projected = 8 * ceil(self.P / (8 * self.blocks))
        parts = ceil(self.units / 16) if backward else self.units // 8
        splits = self.back_splits if backward and self.back_splits else self.k_splits
        reverse = 2 if self.bidirectional else int(self.reverse)
        stride = self.directions * self.out
        groups = self.groups or ceil(self.N / self.columns)
        loop = [self.units, self.blocks, groups, self.columns, splits]
        problem = [self.T, self.N, self.H, self.out, self.directions, reverse, stride]
        tail = [parts * splits, projected, int(self.held), int(backward)]
        how = [self.first_row, int(self.recompute), DTYPES[self.dtype], REGIMES[self.regime]]
        return torch.tensor([*problem, *how, *loop, *tail])


def suffix(direction: int) -> str:
    return "1" if direction else ""


def inputs(p: Problem) -> dict[str, Tensor]:
    """What forward reads, in the types that the kernels take."""
    g = torch.Generator().manual_seed(p.seed)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=g) * scale).to(p.dtype)

    made: dict[str, Tensor] = {}
    for k in range(p.directions):
        end = suffix(k)
        made["preact" + end] = draw(p.rows, 4 * p.H)
        made["w_hh" + end] = draw(4 * p.H, p.out, scale=p.out**-0.5)
        if p.P:
            made["w_hr" + end] = draw(p.P, p.H, scale=p.H**-0.5)
        if p.peephole:
            made["peephole" + end] = draw(3, p.H, scale=0.5).float()
        made["h0" + end] = draw(p.N, p.out)
        made["c0" + end] = draw(p.N, p.H).float()
    if p.packed:
        sizes = torch.tensor(p.batch_sizes)
        made["batch_sizes"] = sizes
        made["offsets"] = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    if p.reset:
        made["reset"] = torch.rand(p.rows, generator=g) < 0.3
    return made


def output_gradients(p: Problem) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(p.seed + 1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g).to(p.dtype)

    made = {"d_hidden": draw(p.rows, p.directions * p.out)}
    for k in range(p.directions):
        end = suffix(k)
        made["d_cells" + end] = draw(p.rows, p.H).float()
        made["d_h_n" + end] = draw(p.N, p.out).float()
        made["d_c_n" + end] = draw(p.N, p.H).float()
    return {name: x for name, x in made.items() if not p.only or name.startswith(p.only)}


def reference(
    p: Problem, given: dict[str, Tensor], gradients: dict[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Everything both kernels return, computed in ``dtype``."""
    found: dict[str, Tensor] = {}
    hidden = []
    for k in range(p.directions):
        end = suffix(k)
        read = {
            name: given[name + end].to(dtype, copy=True).requires_grad_()
            for name in ("preact", "w_hh", "w_hr", "peephole", "h0", "c0")
            if name + end in given
        }
        x = read["preact"] if p.packed else read["preact"].view(p.T, p.N, -1)
        reset = given.get("reset")
        if reset is not None and not p.packed:
            reset = reset.view(p.T, p.N)
        rows = Rows(x, given.get("batch_sizes"), None, reset)

        def step(
            x: Tensor, h: Tensor, c: Tensor, read: dict[str, Tensor] = read
        ) -> tuple[Tensor, Tensor]:
            h, c = cell(x + linear(h, read["w_hh"]), c, read.get("peephole"))
            return (linear(h, read["w_hr"]) if p.P else h), c

        reverse = p.reverse or k == 1
        h, c, h_n, c_n = scan(x, read["h0"], read["c0"], rows, reverse, step)
        flat = {"hidden": h.reshape(p.rows, -1), "cells": c.reshape(p.rows, -1)}
        flat |= {"h_n": h_n, "c_n": c_n}
        loss = h.new_zeros(())
        for name, x in flat.items():
            gradient = gradients.get("d_" + name + ("" if name == "hidden" else end))
            if gradient is None:
                continue
            if name == "hidden":
                gradient = gradient[:, k * p.out : (k + 1) * p.out]
            loss = loss + (x * gradient.to(dtype)).sum()
        wanted = [name for name in read if name != "w_hh"]
        for name, gradient in zip(
            wanted, torch.autograd.grad(loss, [read[name] for name in wanted]), strict=True
        ):
            found[f"d_{name}{end}"] = gradient.detach()
        hidden.append(flat.pop("hidden"))
        found |= {name + end: x.detach() for name, x in flat.items()}
    found["hidden"] = torch.cat(hidden, dim=1).detach()
    return found


def unwritten(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.full(shape, torch.nan, dtype=dtype)


def forward_outputs(p: Problem) -> dict[str, Tensor]:
    made = {"hidden": unwritten(p.rows, p.directions * p.out, dtype=p.dtype)}
    for k in range(p.directions):
        end = suffix(k)
        made["gates" + end] = unwritten(p.rows, 4 * p.H, dtype=p.dtype)
        made["cells" + end] = unwritten(p.rows, p.H, dtype=torch.float32)
        made["h_n" + end] = unwritten(p.N, p.out, dtype=p.dtype)
        made["c_n" + end] = unwritten(p.N, p.H, dtype=torch.float32)
    return made


def backward_outputs(p: Problem) -> dict[str, Tensor]:
    made = {}
    for k in range(p.directions):
        end = suffix(k)
        made["d_preact" + end] = unwritten(p.rows, 4 * p.H, dtype=p.dtype)
        made["d_h0" + end] = unwritten(p.N, p.out, dtype=torch.float32)
        made["d_c0" + end] = unwritten(p.N, p.H, dtype=torch.float32)
        if p.peephole:
            made["d_peephole" + end] = torch.zeros(p.N, 3, p.H)
        if p.P:
            made["r" + end] = unwritten(p.rows, p.H, dtype=p.dtype)
            made["d_projected" + end] = unwritten(p.rows, p.P, dtype=p.dtype)
    return made


def run_forward(
    p: Problem, given: dict[str, Tensor], program: Path, seed: int
) -> dict[str, Tensor]:
    outputs = forward_outputs(p)
    made = launch(program, {**given, **outputs, "sizes": p.sizes(backward=False)}, seed)
    return {name: made[name] for name in outputs}


def run_backward(
    p: Problem,
    given: dict[str, Tensor],
    saved: dict[str, Tensor],
    gradients: dict[str, Tensor],
    program: Path,
    seed: int,
) -> dict[str, Tensor]:
    """The gradients of what the recurrence reads. ``saved`` is what forward returned."""
    outputs = backward_outputs(p)
    read = {name: x for name, x in {**given, **saved}.items() if name.startswith(READ_BACKWARD)}
    arrays = {**read, **gradients, **outputs, "sizes": p.sizes(backward=True)}
    made = launch(program, arrays, seed)
    found = {name: made[name] for name in outputs}
    for k in range(p.directions):
        end = suffix(k)
        if p.peephole:
            found["d_peephole" + end] = found["d_peephole" + end].sum(0)
        if p.P:
            d_h, r = found.pop("d_projected" + end), found.pop("r" + end)
            found["d_w_hr" + end] = (d_h.float().T @ r.float()).to(p.dtype)
    return found


READ_BACKWARD = (
    "w_h", "peephole", "c0", "gates", "cells", "batch_sizes", "offsets", "reset"
)  # fmt: skip
