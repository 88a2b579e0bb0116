# SPDX-License-Identifier: Apache-2.0
"""The operators `torch.ops.ltlstm.*`, typed, with the shapes of what they take and give.

Shape letters: T time steps, N batch, L layers, D input size, H hidden size, P width of h (the
projection size, or H), dirs 1 or 2, G = dirs*H and Q = dirs*P of the layer-LSTM. `*` stands for one
entry a row: (T, N), or (S,) for packed input, whose `batch_sizes` (T,) int64 on the CPU say how
many rows each step has. Gate order i, f, g, o.

Flat `weights`, layer by layer, forward direction before reverse: w_ih (4H, D or Q), w_hh (4H, P),
[b_ih, b_hh (4H) with bias], [w_hr (P, H) if projected], [peephole (3, H): i, f, o if peephole].
Flat `traj_weights`, layer by layer: w_ih (4G, Q), w_hh (4G, Q) but in the first layer,
[b_ih, b_hh (4G)], [w_hr (Q, G)], [peephole (3, G)].
`masks`: dropout masks (*, Q), already scaled, for the outputs of the first layers; the raw
operators take them stacked, or None (AOTInductor hands an empty list over as None).
`reset` (*) bool: the state before that row is zero. All operators are functional; bad arguments
raise RuntimeError.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ltlstm_kernels import libraries, plan

# Without its library a namespace has no operators to describe.
AVAILABLE = libraries()["_ops_cpu"].loaded


class Stack(NamedTuple):
    """Outputs of lstm_stack_forward; `hidden`, `cells`, `gates` are empty where `save` is False."""

    output: Tensor  # (*, Q)
    h_n: Tensor  # (L*dirs, N, P)
    c_n: Tensor  # (L*dirs, N, H)
    hidden: Tensor  # (L-1, *, Q), outputs of the layers below the last, before dropout
    cells: Tensor  # (L*dirs, *, H)
    gates: Tensor  # (L*dirs, *, 4H), not differentiable; also empty where computed again


class Trajectory(NamedTuple):
    """Outputs of lt_lstm_forward. What follows `c_n` is empty where `save` is False."""

    output: Tensor  # (*, Q), g of the last layer
    h_n: Tensor  # (L*dirs, N, P)
    c_n: Tensor  # (L*dirs, N, H)
    hidden: Tensor  # (L, *, Q)
    cells: Tensor  # (L*dirs, *, H)
    gates: Tensor  # (L*dirs, *, 4H), not differentiable
    traj_hidden: Tensor  # (L-1, *, Q), g of the layers below the last
    traj_cells: Tensor  # (L, *, G)
    traj_gates: Tensor  # (L, *, 4G), not differentiable


def _plain(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [t.contiguous() for t in tensors]


def _plain_or_none(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _dispatch(op: Callable[..., Any], *arguments: Any) -> Any:
    """The operator; where nothing records a gradient, without the detour through Python's autograd,
    which costs as much as a small step."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return op(*arguments)
    with torch._C._AutoDispatchBelowAutograd():
        return op(*arguments)


def _stacked(masks: Sequence[Tensor]) -> Tensor | None:
    return torch.stack(list(masks)) if masks else None


def lstm_stack_forward(
    input: Tensor,
    h0: Tensor,
    c0: Tensor,
    weights: Sequence[Tensor],
    masks: Sequence[Tensor] = (),
    batch_sizes: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    bias: bool,
    projected: bool,
    peephole: bool,
    bidirectional: bool,
    save: bool,
) -> Stack:
    """A stack of time-LSTMs: input (*, D), h0 (L*dirs, N, P), c0 (L*dirs, N, H), 0 or L-1 masks.

    With L = 1 it is one layer. `save` keeps what the backward needs.
    """
    return Stack._make(
        _dispatch(
            torch.ops.ltlstm.lstm_stack_forward.default,
            input.contiguous(), h0.contiguous(), c0.contiguous(), _plain(weights),
            _stacked(masks), batch_sizes, _plain_or_none(reset),
            bias, projected, peephole, bidirectional, save,
        )
    )  # fmt: skip


def lstm_stack_backward(
    grads: Sequence[Tensor | None], saved: Sequence, flags: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Gradients of input, h0, c0 and weights.

    grads: of output, h_n, c_n, hidden, cells, None where there is none. saved: input, h0, c0,
    weights, masks (stacked), batch_sizes, reset, output, hidden, cells, gates. flags: bias,
    projected, peephole, bidirectional.
    """
    return torch.ops.ltlstm.lstm_stack_backward(*map(_plain_or_none, grads), *saved, *flags)


def lt_lstm_forward(
    input: Tensor,
    h0: Tensor,
    c0: Tensor,
    weights: Sequence[Tensor],
    traj_weights: Sequence[Tensor],
    masks: Sequence[Tensor] = (),
    batch_sizes: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    bias: bool,
    projected: bool,
    peephole: bool,
    bidirectional: bool,
    save: bool,
    lanes: bool | None = None,
) -> Trajectory:
    """The stack with a layer-LSTM over its layers' outputs (arXiv 1808.09522).

    0 masks, or L-1 that act between time layers only, or L that the layer-LSTM reads through too.
    `lanes`: whether the two lanes run side by side; None leaves it to the plan.
    """
    return Trajectory._make(
        _dispatch(
            torch.ops.ltlstm.lt_lstm_forward.default,
            input.contiguous(), h0.contiguous(), c0.contiguous(), _plain(weights),
            _plain(traj_weights), _stacked(masks), batch_sizes, _plain_or_none(reset),
            bias, projected, peephole, bidirectional, save, lanes,
        )
    )  # fmt: skip


def lt_lstm_backward(
    grads: Sequence[Tensor | None], saved: Sequence, flags: Sequence[bool | None]
) -> tuple[Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Gradients of input, h0, c0, weights and traj_weights.

    grads: of output, h_n, c_n, hidden, cells, traj_hidden, traj_cells. saved: input, h0, c0,
    weights, traj_weights, masks (stacked), batch_sizes, reset, output, hidden, cells, gates,
    traj_hidden, traj_cells, traj_gates. flags: those and lanes.
    """
    return torch.ops.ltlstm.lt_lstm_backward(*map(_plain_or_none, grads), *saved, *flags)


def cell_forward(
    preact: Tensor, c: Tensor, peephole: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The pointwise cell: preact (R, 4H), c (R, H), peephole (3, H) -> h, c_new (R, H)."""
    preact, c, peephole = preact.contiguous(), c.contiguous(), _plain_or_none(peephole)
    return _dispatch(torch.ops.ltlstm.cell_forward.default, preact, c, peephole)


def cell_backward(
    d_h: Tensor | None,
    d_c_new: Tensor | None,
    preact: Tensor,
    c: Tensor,
    peephole: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of preact, c and peephole (size 0 where there is none)."""
    return torch.ops.ltlstm.cell_backward(
        _plain_or_none(d_h), _plain_or_none(d_c_new), preact, c, peephole
    )


def _like(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [t.new_empty(t.shape) for t in tensors]


def _state_dtype(input: Tensor) -> torch.dtype:
    """What c and m of every step are kept in: half types are too narrow for what is summed."""
    half = input.dtype in (torch.float16, torch.bfloat16)
    return torch.float32 if half else input.dtype


def _keeps_gates(input: Tensor, save: bool) -> bool:
    """Not where LTLSTM_CUDA_RECOMPUTE=1 has the backward on CUDA compute them again."""
    return save and not (input.is_cuda and plan.settings().recompute)


def _time_lane_fake(input, h0, c0, bidirectional, save, top):
    """Outputs of the time lane; `top` says whether `hidden` holds the last layer's as well."""
    rows, dirs, H = input.shape[:-1], 2 if bidirectional else 1, c0.shape[2]
    states = h0.shape[0] if save else 0
    hidden = max(states // dirs - (not top), 0)
    wide = (*rows, dirs * h0.shape[2])
    new = input.new_empty
    cells = new((states, *rows, H), dtype=_state_dtype(input))
    gates = new((states if _keeps_gates(input, save) else 0, *rows, 4 * H))
    return new(wide), *_like((h0, c0)), new((hidden, *wide)), cells, gates


def _lstm_stack_forward_fake(input, h0, c0, weights, masks, batch_sizes, reset, *flags):
    *_, bidirectional, save = flags
    return _time_lane_fake(input, h0, c0, bidirectional, save, top=False)


def _lt_lstm_forward_fake(input, h0, c0, weights, traj_weights, masks, batch_sizes, reset, *flags):
    *_, bidirectional, save, _ = flags
    rows, G = input.shape[:-1], (2 if bidirectional else 1) * c0.shape[2]
    time = _time_lane_fake(input, h0, c0, bidirectional, save, top=True)
    layers, *wide = time[3].shape
    new = input.new_empty
    below = new((max(layers - 1, 0), *wide))
    cells = new((layers, *rows, G), dtype=_state_dtype(input))
    return *time, below, cells, new((layers if _keeps_gates(input, save) else 0, *rows, 4 * G))


def _stack_backward_fake(*arguments):
    input, h0, c0, weights = arguments[5:9]
    return *_like((input, h0, c0)), _like(weights)


def _lt_lstm_backward_fake(*arguments):
    input, h0, c0, weights, traj_weights = arguments[7:12]
    return *_like((input, h0, c0)), _like(weights), _like(traj_weights)


def _cell_forward_fake(preact, c, peephole):
    return tuple(_like((c, c)))


def _cell_backward_fake(d_h, d_c_new, preact, c, peephole):
    return *_like((preact, c)), c.new_empty((0,) if peephole is None else peephole.shape)


if AVAILABLE:
    register_fake = torch.library.register_fake
    register_fake("ltlstm::lstm_stack_forward", _lstm_stack_forward_fake)
    register_fake("ltlstm::lstm_stack_backward", _stack_backward_fake)
    register_fake("ltlstm::lt_lstm_forward", _lt_lstm_forward_fake)
    register_fake("ltlstm::lt_lstm_backward", _lt_lstm_backward_fake)
    register_fake("ltlstm::cell_forward", _cell_forward_fake)
    register_fake("ltlstm::cell_backward", _cell_backward_fake)
