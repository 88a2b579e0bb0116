# SPDX-License-Identifier: Apache-2.0
"""What the H-LSTM's operators ask of their arguments before a Triton kernel reads them: everything
that keeps its loads and stores inside of the tensors."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _refuse(op: str, argument: str, contract: str, got: Any) -> None:
    raise RuntimeError(f"{op}: {argument} must {contract}, got {got}")


def check(
    op: str, input: Tensor, h0: Tensor, c0: Tensor, weights: Sequence[Tensor],
    masks: Tensor | None, gate_masks: Tensor | None, batch_sizes: Tensor | None,
    reset: Tensor | None, bias: bool, bidirectional: bool,
) -> None:  # fmt: skip
    """Raises RuntimeError, with the text of the other devices' operators where they have one."""
    if input.dtype not in DTYPES:
        _refuse(op, "input", "be float32, bfloat16 or float16", input.dtype)
    dims = 3 if batch_sizes is None else 2
    if input.dim() != dims:
        _refuse(op, "input", f"have {dims} dimensions", input.dim())
    if h0.dim() != 3 or h0.shape[2] == 0:
        _refuse(op, "h0", "have 3 dimensions, and a positive hidden size", tuple(h0.shape))
    states, N, H = h0.shape
    first, later, dirs = 2 + bias, 1 + bias, 2 if bidirectional else 1
    per_cell = len(weights) // states if states else 0
    if per_cell <= first or len(weights) % states or (per_cell - first) % later or states % dirs:
        contract = "hold w_ih, w_hh and as many gate layers for each of the states of h0"
        _refuse(op, "weights", contract, f"{len(weights)} tensors for {states}")
    if weights[0].dim() != 2 or weights[0].shape[0] == 0 or weights[0].shape[0] % 4:
        _refuse(op, "weights[0]", "have 4K rows, K positive", tuple(weights[0].shape))
    J, K, rows = (per_cell - first) // later, weights[0].shape[0] // 4, tuple(input.shape[:-1])
    if batch_sizes is None:
        N = rows[1]
    else:
        _check_batch_sizes(op, batch_sizes, N, rows[0])
    expected: dict[str, tuple[Tensor, tuple[int, ...]]]
    expected = {"h0": (h0, (states, N, H)), "c0": (c0, (states, N, H))}
    for k in range(states):
        inputs = input.shape[-1] if k < dirs else dirs * H
        shapes: list[tuple[int, ...]] = [(4 * K, inputs), (4 * K, H)] + [(4 * K,)] * bias
        for out in [K] * (J - 1) + [H]:
            shapes += [(4, out, K)] + [(4, out)] * bias
        for i, shape in enumerate(shapes, k * per_cell):
            expected[f"weights[{i}]"] = weights[i], shape
    if masks is not None:
        expected["masks"] = masks, (states // dirs - 1, *rows, dirs * H)
    if gate_masks is not None:
        expected["gate_masks"] = gate_masks, (states * J, *rows, 4 * K)
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            _refuse(op, name, f"have shape {list(shape)}", list(tensor.shape))
        if tensor.dtype != input.dtype or tensor.device != input.device:
            contract = f"be {input.dtype} on {input.device}, as input is"
            _refuse(op, name, contract, f"{tensor.dtype} on {tensor.device}")
    if reset is not None:
        if reset.dtype != torch.bool or tuple(reset.shape) != rows or reset.device != input.device:
            contract = f"be bool of shape {list(rows)} on {input.device}"
            _refuse(op, "reset", contract, f"{reset.dtype} {list(reset.shape)} on {reset.device}")


def _check_batch_sizes(op: str, batch_sizes: Tensor, N: int, rows: int) -> None:
    b = batch_sizes
    if b.dtype != torch.int64 or b.dim() != 1 or b.numel() == 0 or b.device.type != "cpu":
        contract = "be int64 of shape [T] on the CPU, T positive"
        _refuse(op, "batch_sizes", contract, f"{b.dtype} {list(b.shape)} on {b.device}")
    sizes = b.tolist()
    for size, most in zip(sizes, [N, *sizes], strict=False):
        if not 0 <= size <= most:
            contract = "not increase, and lie within the batch"
            _refuse(op, "batch_sizes", contract, f"{size} after {most}")
    if sum(sizes) != rows:
        _refuse(op, "batch_sizes", f"sum to the rows of input, {rows}", sum(sizes))
