# SPDX-License-Identifier: Apache-2.0
"""Where `auto` shall take torch's own LSTM, and where our kernels, by what was measured.

On the CPU our kernels serve all but the boxes where aten was faster, on a GPU, where none of them
has been measured, only the boxes where they were. A row is a box of sizes, each bound inclusive,
from the benchmark's results; only calls that both can compute are looked up.
"""

from functools import lru_cache
from typing import NamedTuple

Span = tuple[int, int]


class Sizes(NamedTuple):
    """What decides how fast a call is."""

    T: int
    N: int
    H: int
    L: int
    gradients: bool


class Box(NamedTuple):
    """Sizes at which one was faster, with or without gradients."""

    op: str
    T: Span
    N: Span
    H: Span
    L: Span
    gradients: bool


ATEN_FASTER: tuple[Box, ...] = (
    Box("lstm", (2, 2**62), (3, 8), (182, 362), (1, 2**62), False),
    Box("lstm", (2, 2**62), (33, 2**62), (182, 362), (1, 2**62), False),
    Box("lstm", (2, 2**62), (33, 2**62), (363, 724), (1, 2**62), False),
    Box("lstm", (2, 2**62), (33, 2**62), (725, 2**62), (1, 2**62), False),
)

# One step of a cell is the same two products here and there, with less around them in torch: at
# H = 8..1024 and N = 1..64 it took 0.75 to 1.03 of our time with gradients, and without.
_CELL = tuple(
    Box("lstm_cell", (1, 1), (1, 2**62), (1, 2**62), (1, 1), gradients)
    for gradients in (False, True)
)


# Of half types on a GPU; measured in bfloat16.
CUDA_FASTER: tuple[Box, ...] = ()


@lru_cache(maxsize=1024)  # a look at every row takes longer than a small step
def aten_is_faster(op: str, sizes: Sizes, table: tuple[Box, ...] = (*ATEN_FASTER, *_CELL)) -> bool:
    """Whether aten was faster than our CPU kernel at these sizes."""
    return _holds(table, op, sizes)


def cuda_is_faster(op: str, sizes: Sizes) -> bool:
    """Whether our CUDA kernel was faster than aten at these sizes."""
    return _holds(CUDA_FASTER, op, sizes)


def _holds(table: tuple[Box, ...], op: str, sizes: Sizes) -> bool:
    return any(
        (box.op, box.gradients) == (op, sizes.gradients)
        and all(low <= n <= high for n, (low, high) in zip(sizes[:4], box[1:5], strict=True))
        for box in table
    )
