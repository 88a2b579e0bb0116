# SPDX-License-Identifier: Apache-2.0
"""Rows of different lengths: padded data to packed data and back, by index, with no sort asked."""

from typing import NamedTuple

import torch
from torch import Tensor


class Packing(NamedTuple):
    """Where the rows of padded data (T, N) lie in packed data (S,).

    Packed rows are ordered by falling length, as in a PackedSequence. Eagerly S is the sum of the
    lengths, and a row of no steps is none of the M packed rows. Under torch.compile and
    torch.export a size must not depend on values: there what lies past the end of each row is
    packed as a row of its own, so that S = T*N, and M = 2N rows.
    """

    batch_sizes: Tensor  # (T,) on the CPU
    frames: Tensor  # (S,) where each packed frame lies in the flattened (T, N)
    order: Tensor  # (M,) row of the batch that became packed row k
    valid: Tensor  # (T, N) false past the end of a row

    def pack(self, x: Tensor) -> Tensor:
        """(T, N, ...) -> (S, ...)."""
        return x.flatten(0, 1).index_select(0, self.frames)

    def pack_layers(self, x: Tensor) -> Tensor:
        """(K, T, N, F) -> (K, S, F)."""
        return x.flatten(1, 2).index_select(1, self.frames)

    def unpack(self, x: Tensor) -> Tensor:
        """(..., S, F) -> (..., T, N, F), zeros past the end."""
        T, N = self.valid.shape
        padded = x.new_zeros((*x.shape[:-2], T * N, x.shape[-1]))
        padded = padded.index_copy(-2, self.frames, x).unflatten(-2, (T, N))
        return padded.masked_fill(~self.valid[..., None], 0) if self._complete else padded

    def pack_state(self, state: Tensor) -> Tensor:
        """(K, N, F) -> (K, M, F)."""
        if self._complete:
            state = torch.cat([state, torch.zeros_like(state)], dim=1)
        return state.index_select(1, self.order)

    def unpack_state(self, state: Tensor, given: Tensor) -> Tensor:
        """(K, M, F) -> (K, N, F); a row that was not packed keeps the state it was given."""
        whole = torch.cat([given, given], dim=1) if self._complete else given
        return whole.index_copy(1, self.order, state)[:, : self.valid.shape[1]]

    @property
    def _complete(self) -> bool:
        """The packed data holds what lies past the ends, too."""
        return self.order.shape[0] > self.valid.shape[1]


def packing(lengths: Tensor, T: int, complete: bool) -> Packing:
    """lengths (N,), each from 0 to T, on any device; ``complete`` asks for sizes free of values."""
    N = lengths.shape[0]
    time = torch.arange(T, device=lengths.device)[:, None]
    valid = time < lengths
    begin = torch.zeros_like(lengths)
    rows = lengths
    if complete:
        begin, rows = torch.cat([begin, lengths]), torch.cat([lengths, T - lengths])
    order = rows.argsort(descending=True, stable=True)
    alive = time < rows[order]  # (T, M)
    places = (time + begin[order]) * N + order % N
    batch_sizes = alive.sum(1).cpu()
    if complete:
        # The dead entries sort last: the same frames as a boolean index gives, T*N by construction.
        frames = places.flatten()[(~alive).flatten().argsort(stable=True)[: T * N]]
    else:
        frames = places[alive]
        # torch's own LSTM takes no empty step, unless it is all there is, and no row without one.
        batch_sizes = batch_sizes[: max(int((batch_sizes > 0).sum()), 1)]
        order = order[: int(batch_sizes[0])]
    return Packing(batch_sizes, frames, order, valid)
