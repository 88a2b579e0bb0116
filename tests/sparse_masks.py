# SPDX-License-Identifier: Apache-2.0
"""Masks of every pattern that the sparse kernels know a form for, and of those they do not."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

BANK = 32


def element(rows: int, columns: int, density: float, g: Generator) -> Tensor:
    return torch.rand(rows, columns, generator=g) < density


def banks(rows: int, columns: int, density: float, g: Generator) -> Tensor:
    """The same count in each bank of 32 columns, in every row."""
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    for bank in mask.split(BANK, dim=1):
        width = bank.shape[1]
        count = max(1, round(density * width))
        order = torch.rand(rows, width, generator=g).argsort(1)
        bank.scatter_(1, order[:, :count], True)
    return mask


def blocks(
    rows: int, columns: int, density: float, g: Generator, height: int = 32, width: int = 32
) -> Tensor:
    """Whole blocks on or off; the last ones are cut."""
    coarse = element(-(-rows // height), -(-columns // width), density, g)
    fine = coarse.repeat_interleave(height, 0).repeat_interleave(width, 1)
    return fine[:rows, :columns].contiguous()


def tall(rows: int, columns: int, density: float, g: Generator) -> Tensor:
    """16 rows share their columns."""
    return blocks(rows, columns, density, g, 16, 1)


def empty(rows: int, columns: int, density: float, g: Generator) -> Tensor:
    return torch.zeros(rows, columns, dtype=torch.bool)


def full(rows: int, columns: int, density: float, g: Generator) -> Tensor:
    return torch.ones(rows, columns, dtype=torch.bool)


def empty_rows(rows: int, columns: int, density: float, g: Generator) -> Tensor:
    """Most rows have nothing, the others everything."""
    return (torch.rand(rows, 1, generator=g) < 0.3).expand(rows, columns).contiguous()


def last_column(rows: int, columns: int, density: float, g: Generator) -> Tensor:
    mask = empty(rows, columns, density, g)
    mask[:, -1] = True
    return mask


Pattern = Callable[[int, int, float, Generator], Tensor]
PATTERNS: dict[str, Pattern] = {
    made.__name__: made
    for made in (element, banks, blocks, tall, empty, full, empty_rows, last_column)
}


def mask_of(pattern: str, shape: torch.Size, density: float = 0.05, seed: int = 0) -> Tensor:
    """A mask for a weight of two or three dimensions."""
    g = torch.Generator().manual_seed(seed)
    *_, columns = shape
    return PATTERNS[pattern](shape.numel() // columns, columns, density, g).view(shape)
