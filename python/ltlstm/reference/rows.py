# SPDX-License-Identifier: Apache-2.0
"""What the two lanes share: the flat weights read group by group, and rows as time steps."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Has(NamedTuple):
    """Which of a cell's optional weights exist."""

    bias: bool
    projected: bool
    peephole: bool


class Weights(NamedTuple):
    ih: Tensor
    hh: Tensor | None
    b_ih: Tensor | None
    b_hh: Tensor | None
    hr: Tensor | None
    peephole: Tensor | None


def read(flat: Iterator[Tensor], has: Has, *, hh: bool = True, b_hh: bool = True) -> Weights:
    """Takes one group from the flat list, in its order."""
    return Weights(
        ih=next(flat),
        hh=next(flat) if hh else None,
        b_ih=next(flat) if has.bias else None,
        b_hh=next(flat) if has.bias and b_hh else None,
        hr=next(flat) if has.projected else None,
        peephole=next(flat) if has.peephole else None,
    )


class Rows:
    """How rows (*, ...) divide into time steps, and where a state starts afresh or has ended."""

    def __init__(
        self,
        example: Tensor,
        batch_sizes: Tensor | None,
        lengths: Tensor | None,
        reset: Tensor | None,
    ) -> None:
        if batch_sizes is not None and lengths is not None:
            raise ValueError("reference: lengths must be None for packed input")
        self.sizes = None if batch_sizes is None else batch_sizes.tolist()
        self.past_end: Tensor | None = None  # (T, N)
        if lengths is not None:
            t = torch.arange(example.shape[0], device=example.device)
            self.past_end = t[:, None] >= lengths.to(example.device)
            # A row that has ended crosses no boundary.
            reset = None if reset is None else reset & ~self.past_end
        self.reset = reset  # (*)

    def steps(self, x: Tensor) -> Sequence[Tensor]:
        """(*, ...) -> T tensors (n_t, ...)."""
        return x.unbind(0) if self.sizes is None else torch.split(x, self.sizes)

    def join(self, steps: Sequence[Tensor]) -> Tensor:
        """T tensors (n_t, ...) -> (*, ...)."""
        return torch.stack(list(steps)) if self.sizes is None else torch.cat(list(steps))

    def end(self, x: Tensor) -> Tensor:
        """Zeros past the end of each row."""
        return x if self.past_end is None else x.masked_fill(self.past_end[..., None], 0)

    def next(self, x: Tensor) -> Tensor:
        """The frame after each of x (*, F): zero at the end, and across a reset."""
        if self.reset is not None:
            x = x.masked_fill(self.reset[..., None], 0)
        if self.sizes is None:
            return torch.cat([x[1:], torch.zeros_like(x[:1])])
        steps = self.steps(x)
        after = [*steps[1:], steps[-1][:0]]
        ended = [torch.zeros_like(step) for step in steps]
        return self.join([replace(e, a) for e, a in zip(ended, after, strict=True)])


def first(state: Tensor, like: Tensor) -> Tensor:
    """As many of the first rows of the state (N, F) as ``like`` has."""
    n = like.shape[0]
    return state if n == state.shape[0] else state[:n]


def replace(state: Tensor, rows: Tensor) -> Tensor:
    """The state (N, F) with its first rows replaced: packed rows that have not begun, or have
    ended, keep theirs."""
    n = rows.shape[0]
    return rows if n == state.shape[0] else torch.cat([rows, state[n:]])
