# SPDX-License-Identifier: Apache-2.0
"""Which blocks of the H-LSTM's recurrent weights are live, as the Triton kernels read it.

Found anew at each call, on the device, from the weights themselves: nothing to keep in step with a
mask that changes, no wait for the device, and the same work whatever is found, so that a CUDA graph
can hold it. A block is live where any of its weights is not zero. A size that blocks do not divide
is padded with zeros.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad


class Lists(NamedTuple):
    """The live blocks of each block row, for all gate layers, one behind the other."""

    columns: Tensor  # (rows, capacity) int32, in rising order
    counts: Tensor  # (rows,) int32


def live_blocks(weight: Tensor, block: int) -> Tensor:
    """weight (4, out, in) -> (4, ceil(out/block), ceil(in/block)) bool."""
    _, out, inputs = weight.shape
    padded = pad(weight != 0, (0, -inputs % block, 0, -out % block))
    return padded.unflatten(2, (-1, block)).unflatten(1, (-1, block)).any(4).any(2)


def _lists(layers: Sequence[Tensor]) -> Lists:
    capacity = max(live.shape[2] for live in layers)
    rows = torch.cat([pad(live, (0, capacity - live.shape[2])).flatten(0, 1) for live in layers])
    # Stable: the live columns come first, and keep their order.
    columns = rows.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    return Lists(columns.int().contiguous(), rows.sum(1, dtype=torch.int32))


def forward_lists(live: Sequence[Tensor]) -> Lists:
    """Of the layers (4, out, in), the first hidden layer's first and the gates' own last."""
    return _lists(live)


def backward_lists(live: Sequence[Tensor]) -> Lists:
    """Of their transposes: those that lead to each hidden layer, in order, and the first layer's,
    which leads to h."""
    return _lists([layer.transpose(1, 2) for layer in (*live[1:], live[0])])
