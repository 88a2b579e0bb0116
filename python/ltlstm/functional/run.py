# SPDX-License-Identifier: Apache-2.0
"""What every stack does around its computation: backend, precision, dropout, packing, states."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ltlstm.functional import onnx
from ltlstm.functional.dropout import draw_masks
from ltlstm.functional.lengths import packing
from ltlstm.functional.problem import (
    Flags,
    Problem,
    Result,
    check,
    check_values,
    is_per_sample,
    python_only,
)
from ltlstm_kernels.backend import Asked, choose, compute_dtype
from ltlstm_kernels.capture import is_captured

Compute = Callable[[Problem], Result]


def run(
    p: Problem, compute: Compute, *, dropout: float, masks: int, return_states: bool,
    gate_dropout: float = 0.0, beyond_torch: Sequence[str] = (), backend: str | None,
) -> Result:  # fmt: skip
    """``compute`` with everything around it. ``masks``: how many layers' outputs are dropped;
    both rates of dropout are 0 outside training. ``beyond_torch``: what aten cannot compute."""
    device = p.input.device.type
    autocast = _autocast_dtype(device, p.weights[0].dtype)
    tensors = p.tensors()
    check(p, tensors, autocast is not None)
    unseen = python_only(tensors)
    # torch.jit.trace checks its graph under no_grad: the two must not differ.
    recorded = torch.is_grad_enabled() and not torch.jit.is_tracing()
    per_sample = unseen is not None and is_per_sample(p.weights)
    gradients = recorded and (per_sample or any(t.requires_grad for t in tensors))
    p.states, p.save = return_states, return_states or gradients
    sizes = p.sizes(gradients)
    asked = Asked(
        p.op, device, p.input.dtype, beyond_torch, unseen, autocast, sizes,
        inference=not p.save and dropout == 0,
        shape=None if device == "cpu" or p.gate_layers else p.shape(sizes),
        device_index=p.input.device.index,
        aten_sees=per_sample and p.op in ("lstm", "residual_lstm"),
    )  # fmt: skip
    p.backend = choose(backend, asked)
    if per_sample and p.backend != "aten":  # the products of the reference take T for the batch
        raise RuntimeError(
            f"{p.op}: weights must be tensors that backend {p.backend!r} can take, got per-sample "
            "ones (torch.func.vmap over torch.func.grad gives their gradients here)"
        )
    traced = is_captured()
    if not traced and unseen is None:
        check_values(p)

    dtype = p.input.dtype if autocast is None else autocast
    inner = compute_dtype(p.backend, asked)
    if autocast is not None or inner != dtype:
        _cast(p, inner)

    if dropout > 0 and p.backend == "aten" and p.op == "lstm":
        p.dropout = dropout
    elif dropout > 0:
        p.masks = draw_masks(masks, (*p.input.shape[:-1], p.width), dropout, p.input)
    if gate_dropout > 0:
        layers, width = p.h0.shape[0] * p.gate_layers, p.weights[0].shape[0]
        shape = (layers, *p.input.shape[:-1], width)
        p.gate_masks = draw_masks(1, shape, gate_dropout, p.input)[0]

    if p.backend == "onnx":
        compute = onnx.compute
    elif p.lengths is not None and p.backend != "reference" and p.input.shape[1] > 0:
        compute = partial(_packed, compute=compute, traced=traced)
    if autocast is None:
        result = compute(p)
    else:
        with torch.autocast(device, enabled=False):
            result = compute(p)
    return result if inner == dtype else _cast_result(result, dtype)


def _autocast_dtype(device: str, dtype: torch.dtype) -> torch.dtype | None:
    """The dtype autocast asks for here, if it is on; like torch's, it leaves float64 alone."""
    if not torch._C._is_any_autocast_enabled() or dtype == torch.float64:
        return None
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def _cast(p: Problem, dtype: torch.dtype) -> None:
    p.input, p.h0, p.c0 = p.input.to(dtype), p.h0.to(dtype), p.c0.to(dtype)
    p.weights = [w.to(dtype) for w in p.weights]
    p.traj_weights = [w.to(dtype) for w in p.traj_weights]
    p.contexts = [q.to(dtype) for q in p.contexts]


def _cast_result(r: Result, dtype: torch.dtype) -> Result:
    def cast(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.to(dtype)

    return Result(
        r.output.to(dtype), r.h_n.to(dtype), r.c_n.to(dtype),
        cast(r.hidden), cast(r.cells), cast(r.g), cast(r.m),
    )  # fmt: skip


def _packed(p: Problem, compute: Compute, traced: bool) -> Result:
    """Padded rows with lengths, run as packed rows."""
    assert p.lengths is not None
    k = packing(p.lengths.to(p.input.device, torch.int64), p.input.shape[0], complete=traced)
    # What lies past an end may be anything, NaN included, and NaN times no gradient is NaN.
    x = p.input.masked_fill(~k.valid[..., None], 0) if traced else p.input
    r = compute(
        replace(
            p,
            input=k.pack(x),
            h0=k.pack_state(p.h0),
            c0=k.pack_state(p.c0),
            masks=[k.pack(mask) for mask in p.masks],
            gate_masks=None if p.gate_masks is None else k.pack_layers(p.gate_masks),
            reset=None if p.reset is None else k.pack(p.reset),
            batch_sizes=k.batch_sizes,
            lengths=None,
        )
    )

    def unpack(x: Tensor | None) -> Tensor | None:
        return None if x is None else k.unpack(x)

    return Result(
        k.unpack(r.output), k.unpack_state(r.h_n, p.h0), k.unpack_state(r.c_n, p.c0),
        unpack(r.hidden), unpack(r.cells), unpack(r.g), unpack(r.m),
    )  # fmt: skip


def states_h(hidden: Tensor, flags: Flags) -> Tensor:
    """hidden (L, *, dirs*P) -> (L*dirs, *, P), the layout of h_n."""
    if not flags.bidirectional:
        return hidden
    return hidden.unflatten(-1, (2, -1)).movedim(-2, 1).flatten(0, 1)
