# SPDX-License-Identifier: Apache-2.0
"""Binary masks at several granularities: how weights form groups, and the seed of a network.

A group is live or dormant as a whole. Groups stand in bins: a count of live groups is kept over
all of them, or, bank-balanced, the same in every bin.

    element    single weights
    bank       single weights, the same count in every bank of 32 columns of every row
    16x1       16 rows of one column
    block16    16 rows of 16 columns
    block32    32 rows of 32 columns
    row        a row in all gates: one index set across them
    column     a column in all gates (of a convolution: an input channel)

Banks and blocks are cut inside each gate. Where their size does not divide the matrix, the last one
is padded: it holds fewer weights and counts as a whole group, and a bank of w < 32 columns holds
at most w live ones.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from ltlstm.sparsity.layout import Layout, check_fraction

GRANULARITIES = ("element", "bank", "16x1", "block16", "block32", "row", "column")
BANK = 32  # columns
CPU = torch.device("cpu")  # named, for torch may have another default
TILES = {"element": (1, 1), "16x1": (16, 1), "block16": (16, 16), "block32": (32, 32)}


def check_granularity(op: str, granularity: str) -> None:
    if granularity not in GRANULARITIES:
        raise ValueError(
            f"{op}: granularity must be one of {', '.join(GRANULARITIES)}, got {granularity!r}"
        )


def pool(values: Tensor, layout: Layout, granularity: str) -> Tensor:
    """Values of single weights, of the parameter's shape, summed by group: (bins, groups)."""
    x = layout.view(values)
    if granularity == "row":
        return x.sum((0, 2)).view(1, -1)
    if granularity == "column":
        return x.sum((0, 1)).view(-1, layout.span).sum(1).view(1, -1)
    if granularity == "bank":
        return pad(x, (0, -layout.columns % BANK)).reshape(-1, BANK)
    height, width = TILES[granularity]
    x = pad(x, (0, -layout.columns % width, 0, -layout.rows % height))
    tiles = x.view(layout.gates, x.shape[1] // height, height, x.shape[2] // width, width)
    return tiles.sum((2, 4)).view(1, -1)


def spread(groups: Tensor, layout: Layout, granularity: str) -> Tensor:
    """What holds for groups (bins, groups), for each of their weights: (gates, rows, columns)."""
    gates, rows, columns, span = layout
    if granularity == "row":
        return groups.view(1, rows, 1).expand(gates, rows, columns).contiguous()
    if granularity == "column":
        per_column = groups.view(-1).repeat_interleave(span)
        return per_column.view(1, 1, columns).expand(gates, rows, columns).contiguous()
    if granularity == "bank":
        return groups.view(gates, rows, -1)[:, :, :columns].contiguous()
    height, width = TILES[granularity]
    grid = groups.view(gates, -(-rows // height), -(-columns // width))
    tiles = grid.repeat_interleave(height, 1).repeat_interleave(width, 2)
    return tiles[:, :rows, :columns].contiguous()


def group_sizes(layout: Layout, granularity: str, device: torch.device | None = None) -> Tensor:
    """Weights in each group, (bins, groups) float32, on the CPU unless a device
    is named; 0 for what only pads a bank."""
    ones = torch.ones(layout.gates, layout.rows, layout.columns, device=device or CPU)
    return pool(ones, layout, granularity)


def live_groups(mask: Tensor, layout: Layout, granularity: str) -> Tensor:
    """Which groups have a live weight, (bins, groups) bool."""
    return pool(mask.float(), layout, granularity) > 0


def check_groups(op: str, mask: Tensor, layout: Layout, granularity: str, name: str) -> None:
    """ValueError where a mask cuts through a group or is not balanced over the banks."""
    live = live_groups(mask, layout, granularity)
    whole = torch.equal(spread(live, layout, granularity), layout.view(mask))
    if whole and granularity == "bank":
        room = group_sizes(layout, granularity, mask.device).sum(1)
        counts = live.sum(1)
        whole = torch.equal(counts, torch.minimum(counts.max(), room).to(counts.dtype))
    if not whole:
        raise ValueError(f"{op}: mask of {name} must be made of {granularity} groups, got others")


def take_highest(score: Tensor, candidates: Tensor, count: int) -> Tensor:
    """In each bin the ``count`` candidates of the highest score; equal ones in their order."""
    ranked = score.masked_fill(~candidates, -torch.inf).sort(dim=1, descending=True, stable=True)
    taken = torch.zeros_like(candidates)
    taken.scatter_(1, ranked.indices[:, :count], True)
    return taken & candidates


def rankable(values: Tensor) -> Tensor:
    """Absolute values in float32 at least, in which sums over groups are taken."""
    return values.abs().to(torch.promote_types(values.dtype, torch.float32))


def share_of(count: int, fraction: float) -> int:
    """``fraction`` of ``count``, rounded; at least one unless the fraction is 0."""
    return max(1, int(count * fraction + 0.5)) if fraction > 0 else 0


def seed(
    layout: Layout,
    fraction: float,
    granularity: str = "element",
    *,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """A random mask with ``fraction`` of the groups live: (gates, rows, columns) bool.

    In every gate each row and each column keeps at least one live weight, so a small fraction is
    exceeded as far as that needs. Exceptions: ``row`` and ``column``, whose dormant groups have
    none by their nature, and ``bank`` where its count times the rows is less than 32. Drawn on the
    CPU, so a generator's seed decides the mask whatever the device.
    """
    check_fraction("seed", "fraction", fraction)
    check_granularity("seed", granularity)
    sizes = group_sizes(layout, granularity)
    present = sizes > 0
    score = torch.rand(sizes.shape, generator=generator, device=CPU)
    if granularity == "bank":
        cover = _cover_banks(layout, generator)
        count = max(1, share_of(BANK, fraction))
    elif granularity in ("row", "column"):
        cover = torch.zeros_like(present)
        count = max(1, share_of(sizes.numel(), fraction))
    else:
        cover = _cover_grid(layout, granularity, generator)
        count = max(int(cover.sum()), share_of(sizes.numel(), fraction))
    live = take_highest(score + cover.float(), present, count)
    return spread(live, layout, granularity).to(device or CPU)


def _cover_grid(layout: Layout, granularity: str, generator: torch.Generator | None) -> Tensor:
    """max(r, c) groups of each gate's r x c grid that meet every row and every column."""
    height, width = TILES[granularity]
    r, c = -(-layout.rows // height), -(-layout.columns // width)
    cover = torch.zeros(layout.gates, r, c, dtype=torch.bool, device=CPU)
    k = torch.arange(max(r, c), device=CPU)
    for gate in cover:
        rows = torch.randperm(r, generator=generator, device=CPU)[k % r]
        columns = torch.randperm(c, generator=generator, device=CPU)[k % c]
        gate[rows, columns] = True
    return cover.view(1, -1)


def _cover_banks(layout: Layout, generator: torch.Generator | None) -> Tensor:
    """A row for each column, spread so that no bank needs more than ceil(32 / rows)."""
    banks = -(-layout.columns // BANK)
    cover = torch.zeros(layout.gates, layout.rows, banks, BANK, dtype=torch.bool, device=CPU)
    order = torch.rand(layout.gates, banks, BANK, generator=generator, device=CPU).argsort(-1)
    first = torch.randint(layout.rows, (layout.gates, banks, 1), generator=generator, device=CPU)
    cover.scatter_(1, ((order + first) % layout.rows)[:, None], True)
    return cover.view(-1, BANK)
