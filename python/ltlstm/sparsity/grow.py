# SPDX-License-Identifier: Apache-2.0
"""Growth by gradient: the dormant weights that the loss asks for most strongly wake up."""

from torch import Tensor

from ltlstm.sparsity.layout import Layout, check_fraction, check_mask
from ltlstm.sparsity.masks import (
    BANK,
    check_granularity,
    check_groups,
    group_sizes,
    live_groups,
    pool,
    rankable,
    share_of,
    spread,
    take_highest,
)


def grow(
    mask: Tensor,
    score: Tensor,
    fraction: float,
    layout: Layout,
    granularity: str = "element",
    *,
    name: str = "weight",
) -> Tensor:
    """The mask with the dormant groups of the highest score awake.

    Args:
        mask: bool, of the weight's shape.
        score: of that shape: |sum dL/dW| over the growth period, or sum |dL/dW|. A group counts
            with the sum over its weights.
        fraction: alpha; of all groups of the weight this many wake, rounded, at least one, and at
            most the dormant ones. With ``bank`` so many of a bank's 32 wake in each bank.
        name: the weight's, for errors.

    Raises:
        ValueError: a fraction outside [0, 1], a full mask, a mask that is not made of such groups.
        RuntimeError: a score that is NaN or infinite.

    Dai, Yin, Jha, arXiv 1805.11797, section 3.
    """
    check_fraction("grow", "fraction", fraction)
    check_granularity("grow", granularity)
    check_mask("grow", mask, score, name)
    check_groups("grow", mask, layout, granularity, name)
    groups = BANK if granularity == "bank" else group_sizes(layout, granularity).numel()
    return wake(mask, score, share_of(groups, fraction), layout, granularity, name=name)


def wake(
    mask: Tensor,
    score: Tensor,
    count: int,
    layout: Layout,
    granularity: str = "element",
    *,
    name: str = "weight",
) -> Tensor:
    """:func:`grow` by a number of groups; with ``bank``, in each bank."""
    check_mask("grow", mask, score, name)
    if bool(mask.all()):
        raise ValueError(f"grow: mask of {name} must have dormant weights, got a full one")
    if not bool(score.isfinite().all()):
        bad = "nan" if bool(score.isnan().any()) else "inf"
        raise RuntimeError(f"grow: gradient of {name} must be finite, got {bad}")
    live = live_groups(mask, layout, granularity)
    dormant = ~live & (group_sizes(layout, granularity, mask.device) > 0)
    woken = take_highest(pool(rankable(score), layout, granularity), dormant, count)
    return mask | spread(woken, layout, granularity).view(mask.shape)
