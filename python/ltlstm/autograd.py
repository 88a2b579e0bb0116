# SPDX-License-Identifier: Apache-2.0
"""Derivatives of the operators, registered on import: the first on the kernels, the second through
the reference.

A backward operator is itself differentiable: its derivative is the vector-Jacobian product of the
reference's own vector-Jacobian product. Nothing else is needed for it than the operator's inputs,
so what the forward saved for the kernel (gates, cells, outputs) has no derivative of its own there.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ltlstm import reference
from ltlstm_kernels import batching as batching  # registers the operators' rules under vmap
from ltlstm_kernels import h_lstm_ops, ops

FLAGS = ("bias", "projected", "peephole", "bidirectional")
OTHERS = ("masks", "batch_sizes", "reset")


class _Flat:
    """An argument list, each tensor with a place of its own: for save_for_backward, and back."""

    def __init__(self, arguments: Sequence[Any]) -> None:
        self.tensors: list[Tensor] = []
        self.layout = [self._strip(a) for a in arguments]

    def _strip(self, argument: Any) -> Any:
        if isinstance(argument, Tensor):
            self.tensors.append(argument)
            return len(self.tensors) - 1
        if isinstance(argument, list | tuple):
            return [self._strip(a) for a in argument]
        return None

    @staticmethod
    def restore(layout: Sequence[Any], tensors: Sequence[Tensor | None]) -> list[Any]:
        def fill(place: Any) -> Any:
            if isinstance(place, list):
                return [fill(p) for p in place]
            return None if place is None else tensors[place]

        return [fill(p) for p in layout]


def _save(ctx: Any, tensors: Sequence[Any], flags: Sequence[Any]) -> None:
    flat = _Flat(tensors)
    ctx.save_for_backward(*flat.tensors)
    ctx.layout, ctx.flags = flat.layout, tuple(flags)
    ctx.set_materialize_grads(False)


def _saved(ctx: Any) -> list[Any]:
    return _Flat.restore(ctx.layout, ctx.saved_tensors)


def _register(
    name: str,
    lists: int,
    outputs: int,
    non_differentiable: Sequence[int],
    backward_op: Callable[..., Any],
    run_reference: Callable[..., Sequence[Any]],
    other_names: Sequence[str] = OTHERS,
    flag_names: Sequence[str] = FLAGS,
) -> None:
    """Both derivatives of one stack operator.

    lists: how many lists of weights follow input, h0, c0. outputs: how many beside h_n and c_n.
    non_differentiable: places among all of them of what only the kernel's backward reads.
    other_names: of the tensors without a gradient that follow the weights, for the reference.
    flag_names: of what follows those, likewise; then `save`, and how to run.
    """
    leading = 3 + lists  # input, h0, c0 and the weights
    others = len(other_names)
    forward_op = getattr(torch.ops.ltlstm, f"{name}_forward").default

    def setup_forward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        tensors, rest = inputs[: leading + others], inputs[leading + others :]
        count = len(flag_names)
        flags, ctx.kept, how = rest[:count], rest[count], rest[count + 1 :]
        kept = [output[0], *output[3:]] if ctx.kept else []
        _save(ctx, [*tensors, *kept], (*flags, *how))
        ctx.mark_non_differentiable(*(output[i] for i in non_differentiable))

    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        saved, count = _saved(ctx), len(flag_names)
        grads = tuple(g for i, g in enumerate(grads) if i not in non_differentiable)
        if not ctx.kept:  # of a graph that was traced, which cannot know who runs it
            flags, how = ctx.flags[:count], ctx.flags[count:]
            with torch.no_grad():
                output = forward_op(*saved[: leading + others], *flags, True, *how)
            saved[leading + others :] = output[0], *output[3:]
        if any(g is not None for g in grads):
            found = backward_op(grads, saved, ctx.flags)
        else:
            found = [None if isinstance(a, Tensor) else [None] * len(a) for a in saved[:leading]]
        return (*found, *(None,) * (others + len(ctx.flags) + 1))

    def setup_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        tensors = len(gradients) + leading + others + outputs
        _save(ctx, inputs[:tensors], inputs[tensors:])

    def double_backward(ctx: Any, *outer: Any) -> tuple[Any, ...]:
        saved = _saved(ctx)
        grads, saved = saved[: len(gradients)], saved[len(gradients) :]
        flags = dict(zip(flag_names, ctx.flags, strict=False))  # how to run is not for it
        given = dict(zip(other_names, saved[leading:], strict=False))
        second = _second(differentiable, grads, saved[:leading], {**given, **flags}, outer)
        return (*second, *(None,) * (others + outputs + len(ctx.flags)))

    def differentiable(*arguments: Any, masks: Tensor | None, **given: Any) -> Sequence[Tensor]:
        """The outputs of the reference that the backward is given a gradient of."""
        masks_of = () if masks is None else masks.unbind(0)
        outputs = run_reference(*arguments, masks=masks_of, **given)
        output, h_n, c_n, hidden, cells, *lane = outputs
        if not lane:
            return output, h_n, c_n, hidden[:-1], cells
        return output, h_n, c_n, hidden, cells, lane[0][:-1], lane[1]

    # What the backward is given a gradient of: the outputs that have one.
    gradients = [i for i in range(outputs + 2) if i not in non_differentiable]
    torch.library.register_autograd(
        f"ltlstm::{name}_forward", backward, setup_context=setup_forward
    )
    torch.library.register_autograd(
        f"ltlstm::{name}_backward", double_backward, setup_context=setup_backward
    )


def _second(
    run_reference: Callable[..., Sequence[Tensor]],
    grads: Sequence[Tensor | None],
    arguments: Sequence[Any],
    given: dict[str, Any],
    outer: Sequence[Any],
) -> list[Any]:
    """Gradients of `grads` and `arguments`, given those (`outer`) of what the backward returned."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        flat = _Flat([list(grads), *arguments])
        # A view each: a tensor that stands in the list twice is two arguments, and the history of a
        # gradient is not ours. Not requires_grad_(), which vmap forbids.
        zero = torch.zeros((), requires_grad=True)
        tensors = [t.view_as(t) if t.requires_grad else t.detach() + zero for t in flat.tensors]
        grads_used, *arguments = _Flat.restore(flat.layout, tensors)
        outputs = run_reference(*arguments, **given)
        used = [(o, g) for o, g in zip(outputs, grads_used, strict=True) if g is not None]
        wanted = _Flat(arguments).tensors
        first = torch.autograd.grad(
            [o for o, _ in used], wanted, [g for _, g in used], create_graph=True, allow_unused=True
        )
        weights = [w for g in outer for w in (g if isinstance(g, list | tuple) else [g])]
        pairs = [
            (f, w) for f, w in zip(first, weights, strict=True)
            if f is not None and w is not None and f.requires_grad
        ]  # fmt: skip
        second: Sequence[Tensor | None] = [None] * len(tensors)
        if pairs:
            second = torch.autograd.grad(
                [f for f, _ in pairs],
                tensors,
                [w for _, w in pairs],
                create_graph=create_graph,
                allow_unused=True,
            )
    found, *rest = _Flat.restore(flat.layout, second)
    return [*found, *rest]


def _cell_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _save(ctx, inputs, ())


def _cell_backward(ctx: Any, d_h: Tensor | None, d_c_new: Tensor | None) -> tuple[Any, ...]:
    if d_h is None and d_c_new is None:
        return None, None, None
    preact, c, peephole = _saved(ctx)
    d_preact, d_c, d_peephole = ops.cell_backward(d_h, d_c_new, preact, c, peephole)
    return d_preact, d_c, None if peephole is None else d_peephole


def _cell_double_backward(ctx: Any, *outer: Tensor | None) -> tuple[Any, ...]:
    *grads, preact, c, peephole = _saved(ctx)
    present = [t for t in (preact, c, peephole) if t is not None]
    second = _second(reference.cell, grads, present, {}, outer[: len(present)])
    return (*second, *(None,) * (3 - len(present)))


if ops.AVAILABLE:
    _register("lstm_stack", 1, 4, (5,), ops.lstm_stack_backward, reference.lstm)
    _register("lt_lstm", 2, 7, (5, 8), ops.lt_lstm_backward, reference.lt_lstm)
    _register(
        "h_lstm", 1, 5, (5, 6), h_lstm_ops.h_lstm_backward, reference.h_lstm,
        ("masks", "gate_masks", "batch_sizes", "reset"), ("bias", "bidirectional", "slope"),
    )  # fmt: skip
    torch.library.register_autograd(
        "ltlstm::cell_forward", _cell_backward, setup_context=_cell_setup
    )
    torch.library.register_autograd(
        "ltlstm::cell_backward", _cell_double_backward, setup_context=_cell_setup
    )
