# SPDX-License-Identifier: Apache-2.0
"""How rows (T, N) or packed (S,) divide into steps, as the H-LSTM's Triton kernels are told."""

import torch
from torch import Tensor


class Rows:
    """S rows in T steps, a step's one behind the other; no step has more than the one before.

    Attributes:
        N: states, one for each row of the first step and some that no step reads. T, S: steps, rows
            in all.
        offsets: (T+1,) int64 on the device, where each step begins.
        blocks: row blocks of a step. steps: (blocks,) int32 on the device, in how many steps a
            block takes part.
    """

    def __init__(self, input: Tensor, N: int, batch_sizes: Tensor | None, block: int) -> None:
        """input (T, N, D), or (S, D) with batch_sizes (T,) on the CPU; block: rows of a program."""
        self.device, self.N, self.block, self.sizes = input.device, N, block, batch_sizes
        if batch_sizes is None:
            self.T, self.first, self.S = input.shape[0], N, input.shape[0] * N
            self.offsets = torch.arange(self.T + 1, device=self.device) * N
        else:
            self.T, self.first, self.S = len(batch_sizes), int(batch_sizes[0]), input.shape[0]
            ends = batch_sizes.cumsum(0)
            self.offsets = torch.cat([ends.new_zeros(1), ends]).to(self.device)
        self.blocks = -(-N // block)
        if batch_sizes is None:
            self.steps = torch.full((self.blocks,), self.T, dtype=torch.int32, device=self.device)
        else:
            leads = torch.arange(self.blocks) * block
            self.steps = (batch_sizes > leads[:, None]).sum(1, dtype=torch.int32).to(self.device)

    def _before(self) -> Tensor:
        """The row of the step before, of each row from the second step on."""
        later = torch.arange(self.first, self.S, device=self.device)
        if self.sizes is None:
            return later - self.N
        return later - self.sizes[:-1].repeat_interleave(self.sizes[1:]).to(self.device)

    def previous(self, x: Tensor, x0: Tensor, reverse: bool) -> Tensor:
        """x (S, F) of the step that the scan comes from, x0 (N, F) where it begins -> (S, F)."""
        if not reverse:
            return torch.cat([x0[: self.first], x.index_select(0, self._before())])
        if self.sizes is None:
            return torch.cat([x[self.N :], x0])
        # A row is its step's first and so much: that of x0 where no later step has it.
        within = torch.arange(self.S, device=self.device)
        within -= self.offsets[:-1].cpu().repeat_interleave(self.sizes).to(self.device)
        return x0.index_select(0, within).index_copy(0, self._before(), x[self.first :])

    def keep(self, reset: Tensor, reverse: bool) -> Tensor:
        """reset (S,) bool -> (S,) uint8, 0 where the state that enters a row is zero.

        A reset lies before its step: scanning back, a row is entered across the one after it.
        """
        kept = (~reset).to(torch.uint8)
        if not reverse:
            return kept
        return self.previous(kept[:, None], kept.new_ones(self.N, 1), reverse)[:, 0]
