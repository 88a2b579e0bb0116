# SPDX-License-Identifier: Apache-2.0
"""Pruning by magnitude: the smallest live weights of a layer are dropped."""

from torch import Tensor

from ltlstm.sparsity.layout import Layout, check_fraction, check_mask
from ltlstm.sparsity.masks import (
    check_granularity,
    check_groups,
    live_groups,
    pool,
    rankable,
    share_of,
    spread,
    take_highest,
)


def prune(
    mask: Tensor,
    weight: Tensor,
    fraction: float,
    layout: Layout,
    granularity: str = "element",
    *,
    name: str = "weight",
) -> Tensor:
    """The mask without the live groups of the smallest magnitude.

    Args:
        mask: bool, of the weight's shape.
        weight: its magnitudes count, summed over a group.
        fraction: beta; of the live groups this many are dropped, rounded, at least one. With
            ``bank`` of the count in each bank, the same number in every bank.
        name: the weight's, for errors.

    Raises:
        ValueError: a fraction outside [0, 1], an empty mask, a mask that is not made of such
            groups, a weight that would be left with nothing.
        RuntimeError: a live weight that is NaN, which has no rank.

    Dai, Yin, Jha, arXiv 1805.11797, section 3.
    """
    check_fraction("prune", "fraction", fraction)
    check_granularity("prune", granularity)
    check_mask("prune", mask, weight, name)
    check_groups("prune", mask, layout, granularity, name)
    count = live_count(mask, layout, granularity)
    kept = count - share_of(count, fraction)
    return keep_largest(mask, weight, kept, layout, granularity, name=name)


def live_count(mask: Tensor, layout: Layout, granularity: str) -> int:
    """Groups with a live weight; with ``bank``, live weights of the fullest bank."""
    return int(live_groups(mask, layout, granularity).sum(1).max())


def keep_largest(
    mask: Tensor,
    weight: Tensor,
    kept: int,
    layout: Layout,
    granularity: str = "element",
    *,
    name: str = "weight",
) -> Tensor:
    """:func:`prune` to a number of live groups; with ``bank``, in each bank.

    Groups that have lost weights with a unit that was removed count as live, and do not get them
    back.
    """
    check_mask("prune", mask, weight, name)
    if not bool(mask.any()):
        raise ValueError(f"prune: mask of {name} must have live weights, got an empty one")
    if kept < 1:
        raise ValueError(f"prune: {name} must keep at least one live group, got {kept}")
    if bool((weight.isnan() & mask).any()):
        raise RuntimeError(f"prune: {name} must not hold nan")
    live = live_groups(mask, layout, granularity)
    magnitude = pool(rankable(weight.detach()).masked_fill(~mask, 0), layout, granularity)
    stay = take_highest(magnitude, live, kept)
    return mask & spread(stay, layout, granularity).view(mask.shape)
