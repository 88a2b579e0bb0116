# SPDX-License-Identifier: Apache-2.0
"""Triton's interpreter made fit to judge kernels; for a process of its own, which sets
TRITON_INTERPRET=1 before anything imports Triton.

- bfloat16 by value. The interpreter keeps it as 16-bit integers: it would multiply these in a dot,
  and cut off where hardware rounds. Other arithmetic on bfloat16 is refused, not repaired.
- Every load and store must hit a tensor that the launch was given. Kernels run on copies that lie
  alone in memory, with GUARD bytes on either side.
- Programs that share work run side by side, each in a process, so that their barrier is a barrier.
"""

import os
import time
import traceback
from typing import Any

import numpy as np
import torch
import triton.language as tl
from torch import Tensor
from triton.runtime import interpreter

GUARD = 1 << 16

launches: list[str] = []  # names of the kernels launched, in order
loaded: list[int] = []  # elements that each of them loaded, in this process
columns: list[int] = []  # programs that shared its rows

_Builder = interpreter.InterpreterBuilder
_Executor = interpreter.GridExecutor
_convert, _dot, _binary = interpreter._convert_float, _Builder.create_dot, _Builder.binary_op
_load, _store = _Builder.create_masked_load, _Builder.create_masked_store
_atomic = _Builder.create_atomic_rmw


def _widen(bits: np.ndarray) -> np.ndarray:
    return (bits.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _narrow(values: np.ndarray) -> np.ndarray:
    """To nearest, ties to even; NaN stays one."""
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def _convert_float(data: np.ndarray, source: Any, target: Any, rounding: Any) -> np.ndarray:
    if (source, target) == (tl.bfloat16, tl.float32):
        return _widen(np.ascontiguousarray(data))
    if (source, target) == (tl.float32, tl.bfloat16):
        return _narrow(np.ascontiguousarray(data))
    return _convert(data, source, target, rounding)


def _by_value(x: Any) -> Any:
    if x.dtype.scalar != tl.bfloat16:
        return x
    return interpreter.TensorHandle(_widen(np.ascontiguousarray(x.data)), tl.float32)


def _create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
    return _dot(self, _by_value(a), _by_value(b), *rest)


def _binary_op(self: Any, lhs: Any, rhs: Any, op: Any) -> Any:
    if lhs.dtype.scalar == tl.bfloat16:
        raise TypeError(f"{op.__name__} of bfloat16: the interpreter would take its bits")
    return _binary(self, lhs, rhs, op)


class _Arena:
    """The tensors of a launch, in guarded copies, and the addresses that are theirs."""

    def __init__(self) -> None:
        self.copies: list[tuple[Tensor, Tensor]] = []
        self.first = self.end = np.empty(0, np.uint64)
        self.loaded = 0  # elements

    def place(self, tensor: Any) -> Any:
        if not isinstance(tensor, Tensor):
            return tensor
        size, extents = tensor.element_size(), zip(tensor.shape, tensor.stride(), strict=True)
        span = 1 + sum((n - 1) * step for n, step in extents) if tensor.numel() else 0
        count = span + 2 * GUARD // size
        memory = torch.zeros(count, dtype=tensor.dtype).share_memory_()
        copy = memory.as_strided(tensor.shape, tensor.stride(), GUARD // size).copy_(tensor)
        self.copies.append((tensor, copy))
        end = copy.data_ptr() + span * size
        self.first = np.append(self.first, np.uint64(copy.data_ptr()))
        self.end = np.append(self.end, np.uint64(end))
        order = self.first.argsort()
        self.first, self.end = self.first[order], self.end[order]
        return copy

    def check(self, pointers: Any, mask: Any, what: str) -> None:
        at = pointers.data[mask.data.astype(bool)].astype(np.uint64)
        size = np.uint64(pointers.get_element_ty().primitive_bitwidth // 8)
        if at.size == 0:
            return
        ends = np.array([at.min(), at.max()])  # one tensor at most, nearly always
        for some in (ends, at):
            owner = self.first.searchsorted(some, side="right") - 1
            astray = (owner < 0) | (some + size > self.end[owner])
            if owner[0] == owner[-1] and not astray.any():
                return
        if astray.any():
            raise IndexError(f"{what}: {astray.sum()} of {at.size} elements outside of any tensor")


_arena = _Arena()


def _masked_load(self: Any, pointers: Any, mask: Any, *rest: Any) -> Any:
    _arena.check(pointers, mask, "load")
    _arena.loaded += int(mask.data.sum())
    return _load(self, pointers, mask, *rest)


def _masked_store(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
    _arena.check(pointers, mask, "store")
    return _store(self, pointers, value, mask, *rest)


def _atomic_rmw(self: Any, *arguments: Any) -> Any:
    """With a rest: it is polled, and what it waits for needs the processor."""
    time.sleep(1e-4)
    return _atomic(self, *arguments)


def _column(kernel: Any, arguments: dict[str, Any], rows: int, column: int) -> int:
    """Runs the programs (row, column), row after row; an exit status."""
    try:
        for row in range(rows):
            interpreter.interpreter_builder.set_grid_idx(row, column, 0)
            kernel(**arguments)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _run(self: Any, *args: Any, **kwargs: Any) -> None:
    """A launch: each column of the grid in a process of its own, the first in this one."""
    global _arena
    _arena = _Arena()
    launches.append(self.fn.__name__)
    named = dict(zip(self.arg_names, args, strict=False)) | kwargs
    arguments = {}
    for name in self.arg_names:
        value = _arena.place(named[name])
        arguments[name] = value if name in self.constexprs else interpreter._implicit_cvt(value)
    rows, parts = self.grid
    columns.append(parts)
    interpreter.interpreter_builder.set_grid_dim(rows, parts, 1)
    scope = interpreter._patch_lang(self.fn)
    children = []
    for column in range(1, parts):
        children.append(os.fork())
        if children[-1] == 0:
            os._exit(_column(self.fn, arguments, rows, column))
    failed = _column(self.fn, arguments, rows, 0)
    scope.restore()
    failed += sum(os.waitpid(child, 0)[1] for child in children)
    if failed:
        raise RuntimeError(f"{self.fn.__name__} failed: its traceback is above")
    loaded.append(_arena.loaded)
    for original, copy in _arena.copies:
        original.data.copy_(copy)  # no write that autograd counts: most are inputs, unchanged


interpreter._convert_float = _convert_float
_Builder.create_dot, _Builder.binary_op = _create_dot, _binary_op
_Builder.create_masked_load, _Builder.create_masked_store = _masked_load, _masked_store
_Builder.create_atomic_rmw = _atomic_rmw
_Executor.__call__ = _run
