# SPDX-License-Identifier: Apache-2.0
"""The layer lane away from its fused operator: any depth unit, with or without look-ahead.

It has no recurrence over time, so one layer is a few large products and one pointwise pass.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ltlstm import reference
from ltlstm.functional.depth_units import DEPTH_UNITS, Weights, by_layer
from ltlstm.functional.problem import Problem
from ltlstm_kernels import ops

_HALF = (torch.bfloat16, torch.float16)


def unit(
    depth_unit: str, backend: str, h: Tensor, below: Tensor | None, m: Tensor | None, w: Weights
) -> tuple[Tensor, Tensor | None]:
    """One layer: h of the time lane and g, m of the layer below -> g, m. No layer below: None."""
    return DEPTH_UNITS[depth_unit].compute(h, below, m, w, partial(pointwise_cell, backend))


def pointwise_cell(
    backend: str, preact: Tensor, c: Tensor, peephole: Tensor | None
) -> tuple[Tensor, Tensor]:
    """preact (..., 4H), c (..., H) -> h, c_new, on the operator where there is one."""
    if backend in ("aten", "onnx", "reference"):
        return reference.cell(preact, c, peephole)
    dtype = torch.promote_types(preact.dtype, c.dtype)
    # Half types are storage on the CPU.
    inner = torch.float32 if backend == "cpu" and dtype in _HALF else dtype
    peephole = None if peephole is None else peephole.to(inner)
    h, c_new = ops.cell_forward(
        preact.to(inner).flatten(0, -2), c.to(inner).flatten(0, -2), peephole
    )
    return h.view_as(c).to(dtype), c_new.view_as(c).to(dtype)


def layer_lane(p: Problem, hidden: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """L tensors (*, dirs*P) -> g, L tensors (*, Q), and m, as many (*, G), or none."""
    g: list[Tensor] = []
    m: list[Tensor] = []
    after = None
    if p.contexts:
        after = following(p.input.shape[:-1], p.input.device, p.batch_sizes, p.reset)
    for layer, w in enumerate(by_layer(p.traj_weights, p.depth_unit, p.layers, *p.flags[:3])):
        h = hidden[layer] * p.masks[layer] if len(p.masks) == p.layers else hidden[layer]
        below = g[-1] if layer > 0 else None
        if below is not None and after is not None:
            below = look_ahead(below, p.contexts[layer - 1], after)
        g_l, m_l = unit(p.depth_unit, p.backend, h, below, m[-1] if m else None, w)
        g.append(g_l)
        if m_l is not None:
            m.append(m_l)
    return g, m


def look_ahead(g: Tensor, context: Tensor, after: Tensor) -> Tensor:
    """z_t = sum_d q_d (.) g_{t+d}, for g (*, Q), context (tau+1, Q) and ``following``'s index."""
    rows = g.flatten(0, -2)
    end = rows.new_zeros(1, rows.shape[-1])
    z = context[0] * rows
    for q in context[1:].unbind(0):
        rows = torch.cat([rows, end]).index_select(0, after)
        z = z + q * rows
    return z.view_as(g)


def following(
    shape: torch.Size, device: torch.device, batch_sizes: Tensor | None, reset: Tensor | None
) -> Tensor:
    """For each frame of ``*``, flattened, the index of its row's next frame; the number of frames
    where there is none: at the end of the row, and across a reset."""
    frames = math.prod(shape)  # Size.numel() would make dynamic sizes constant
    here = torch.arange(frames, device=device)
    if batch_sizes is None:
        after = here + shape[1]  # past the last step every index is >= frames
    else:
        sizes = batch_sizes.to(device)
        ends = sizes.cumsum(0)
        step = torch.searchsorted(ends, here, right=True)
        row = here - (ends - sizes)[step]
        alive = row < torch.cat([sizes, sizes.new_zeros(1)])[step + 1]
        after = torch.where(alive, here + sizes[step], frames)
    after = after.clamp(max=frames)
    if reset is not None:
        crossing = torch.cat([reset.flatten(), reset.new_zeros(1)])[after]
        after = after.masked_fill(crossing, frames)
    return after
