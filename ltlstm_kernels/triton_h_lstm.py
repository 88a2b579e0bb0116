# SPDX-License-Identifier: Apache-2.0
"""The H-LSTM's time loops on Triton: one cell, forward and backward, from tensors to launches.

Nothing but this file launches the kernels. The product for the inputs of all steps, before the time
loop, and those for the weights' gradients, after it, are torch's.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ltlstm_kernels import triton_plan
from ltlstm_kernels.triton_backward import h_lstm_backward_kernel
from ltlstm_kernels.triton_blocks import backward_lists, forward_lists, live_blocks
from ltlstm_kernels.triton_forward import h_lstm_forward_kernel
from ltlstm_kernels.triton_rows import Rows


class Cell(NamedTuple):
    """One cell's weights: a layer in one direction."""

    ih: Tensor  # (4K, D)
    hh: Tensor  # (4K, H)
    b: Tensor | None  # (4K,)
    later: list[Tensor]  # J of (4, K or H, K)
    later_b: list[Tensor]  # J of (4, K or H), or none

    @property
    def layers(self) -> list[Tensor]:
        """The recurrent ones (4, out, in): the first hidden layer's, and what follows."""
        return [self.hh.unflatten(0, (4, -1)), *self.later]

    def flat(self) -> tuple[Tensor, Tensor]:
        """All recurrent weights, and all later biases, one behind the other."""
        weights = torch.cat([w.reshape(-1) for w in self.layers])
        # Where there is no bias a kernel reads none: any tensor will do.
        bias = torch.cat([b.reshape(-1) for b in self.later_b]) if self.later_b else weights
        return weights, bias


def plain_copy(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


class Saved(NamedTuple):
    """What backward needs of one cell, in the dtype of its weights."""

    cells: Tensor  # (S, H)
    gates: Tensor  # (S, 4H)
    hidden: Tensor  # (J, S, 4K), after dropout


def read(weights: Sequence[Tensor], cells: int, bias: bool) -> list[Cell]:
    """The flat list of `ltlstm.functional.h_lstm`, cell by cell."""
    size = len(weights) // cells
    found = []
    for k in range(cells):
        ih, hh, *rest = weights[k * size : (k + 1) * size]
        if bias:
            found.append(Cell(ih, hh, rest[0], rest[1::2], rest[2::2]))
        else:
            found.append(Cell(ih, hh, None, rest, []))
    return found


class Loop:
    """The time loop of one cell: what forward and backward ask of the kernels alike."""

    def __init__(
        self, cell: Cell, rows: Rows, slope: float, reverse: bool, drop: Tensor | None,
        reset: Tensor | None, save: bool,
    ) -> None:  # fmt: skip
        """drop (J, S, 4K): the gates' dropout masks; reset (S,)."""
        self.cell, self.rows, self.slope, self.reverse, self.drop = cell, rows, slope, reverse, drop
        self.H, self.K, self.J = cell.hh.shape[1], cell.hh.shape[0] // 4, len(cell.later)
        self.keep = None if reset is None else rows.keep(reset, reverse)
        self.plan = triton_plan.plan(
            rows.N, self.H, self.K, cell.hh.dtype, save, triton_plan.processors(rows.device)
        )
        self.live = [live_blocks(w, self.plan.block) for w in cell.layers]

    def _launch(self, kernel: Any, tensors: dict[str, Tensor], **arguments: int) -> None:
        plan, rows = self.plan, self.rows
        if rows.S == 0:
            return
        none = tensors["weights"]  # a tensor that is not read
        with torch.cuda.device(rows.device) if rows.device.type == "cuda" else nullcontext():
            kernel[(rows.blocks, plan.parts)](
                **tensors, **arguments,
                gate_masks=none if self.drop is None else self.drop,
                keep=none if self.keep is None else self.keep,
                offsets=rows.offsets,
                steps=rows.steps,
                arrivals=torch.zeros(rows.blocks, dtype=torch.int32, device=rows.device),
                H=self.H, K=self.K, J=self.J, S=rows.S, slope=self.slope,
                REVERSE=self.reverse, LEAKY=self.slope != 0, DROPOUT=self.drop is not None,
                RESET=self.keep is not None, SHARED=plan.shared,
                BLOCK=plan.block, DEPTH=plan.depth, UNITS=plan.units, ROWS=rows.block,
                STAGES=plan.stages, num_warps=plan.units, launch_cooperative_grid=plan.shared,
            )  # fmt: skip

    def forward(
        self, preact: Tensor, h0: Tensor, c0: Tensor, output: Tensor, saved: Saved | None
    ) -> tuple[Tensor, Tensor]:
        """preact (S, 4K): the x part. Writes output (S, H), with any distance between rows, and
        `saved`. Gives h_n and c_n (N, H), c_n in float32."""
        rows = self.rows
        h, c = plain_copy(h0), plain_copy(c0.float())
        cells, gates, hidden = saved or (
            preact, preact, preact.new_empty(self.J, rows.N, 4 * self.K)
        )  # fmt: skip
        weights, bias = self.cell.flat()
        columns, counts = forward_lists(self.live)
        tensors = {
            "preact": preact, "h": h, "c": c, "weights": weights, "bias": bias, "columns": columns,
            "counts": counts, "hidden": hidden, "output": output, "cells": cells, "gates": gates,
        }  # fmt: skip
        self._launch(
            h_lstm_forward_kernel, tensors, N=rows.N, capacity=columns.shape[1],
            output_stride=output.stride(0), BIAS=bool(self.cell.later_b), SAVE=saved is not None,
            DEEP=self.J > 1,
        )  # fmt: skip
        return h, c

    def backward(
        self, d_output: Tensor, d_cells: Tensor | None, dh: Tensor, dc: Tensor, c0: Tensor,
        saved: Saved,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """-> dz (J, S, 4K), dz_gates (S, 4H). dh, dc (N, H) float32: of h_n and c_n when called,
        then of h0 and c0."""
        dz, dz_gates = torch.empty_like(saved.hidden), torch.empty_like(saved.gates)
        weights, _ = self.cell.flat()
        columns, counts = backward_lists(self.live)
        tensors = {
            "d_output": d_output, "d_cells": d_output if d_cells is None else d_cells, "dh": dh,
            "dc": dc, "weights": weights, "columns": columns, "counts": counts,
            "c0": c0.float().contiguous(), "hidden": saved.hidden, "cells": saved.cells,
            "gates": saved.gates, "dz": dz, "dz_gates": dz_gates,
        }  # fmt: skip
        self._launch(
            h_lstm_backward_kernel, tensors, T=self.rows.T, capacity=columns.shape[1],
            d_output_stride=d_output.stride(0), CELLS=d_cells is not None,
        )  # fmt: skip
        return dz, dz_gates

    def weight_gradients(
        self, x: Tensor, h0: Tensor, output: Tensor, hidden: Tensor, dz: Tensor, dz_gates: Tensor
    ) -> list[Tensor]:
        """Of the cell's tensors in the flat list's order: dense, dormant positions included."""
        h_prev = self.rows.previous(output, h0, self.reverse)
        if self.keep is not None:
            h_prev = h_prev.masked_fill(self.keep[:, None] == 0, 0)
        biased = self.cell.b is not None
        found = [dz[0].t() @ x, dz[0].t() @ h_prev] + [dz[0].sum(0)] * biased
        for below, above in zip(hidden, [*dz[1:], dz_gates], strict=True):
            of_gate = above.unflatten(1, (4, -1))
            found.append(of_gate.permute(1, 2, 0) @ below.unflatten(1, (4, -1)).transpose(0, 1))
            found += [of_gate.sum(0)] * biased
        return found
