# SPDX-License-Identifier: Apache-2.0
"""Masks at every granularity: properties of seed, growth and pruning, and what they refuse."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltlstm.sparsity import BANK, GRANULARITIES, Layout, grow, masks, matrix_layout, prune, seed

LAYOUTS = st.builds(
    Layout, st.sampled_from([1, 3, 4]), st.integers(1, 40), st.integers(1, 70), st.just(1)
) | st.builds(
    lambda r, c, s: Layout(1, r, c * s, s), st.integers(1, 9), st.integers(1, 9), st.integers(2, 9)
)
FRACTIONS = st.floats(0, 1)
EACH = st.sampled_from(GRANULARITIES)


def generator(n: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(n)


def groups(layout, granularity) -> int:
    """How many there are, with no code of the package's own."""
    g, r, c, span = layout
    tile = {"element": (1, 1), "16x1": (16, 1), "block16": (16, 16), "block32": (32, 32)}
    if granularity in tile:
        h, w = tile[granularity]
        return g * math.ceil(r / h) * math.ceil(c / w)
    return {"row": r, "column": c // span, "bank": 32}[granularity]


def live_count(mask, layout, granularity) -> int:
    """Live groups, or live weights of the fullest bank, counted one by one."""
    g, r, c, span = layout
    if granularity == "bank":
        return max(int(bank.sum()) for bank in mask.split(BANK, 2) for bank in bank.flatten(0, 1))
    h, w = {"element": (1, 1), "16x1": (16, 1), "row": (1, c), "column": (r, span)}.get(
        granularity, (int(granularity[-2:]),) * 2 if "block" in granularity else (1, 1)
    )
    if granularity in ("row", "column"):
        mask = mask.any(0, keepdim=True)
    return sum(
        bool(tile.any()) for gate in mask for rows in gate.split(h) for tile in rows.split(w, 1)
    )


@given(LAYOUTS, FRACTIONS, EACH)
def test_a_seed_has_its_fraction_and_reaches_every_unit(layout, fraction, granularity):
    mask = seed(layout, fraction, granularity, generator=generator())
    assert mask.dtype == torch.bool and mask.shape == layout[:3]
    masks.check_groups("seed", mask, layout, granularity, "weight")  # made of whole groups
    wanted = max(1, int(groups(layout, granularity) * fraction + 0.5))
    live = live_count(mask, layout, granularity)
    if granularity in ("row", "column"):
        assert live == wanted
        return
    if granularity == "bank":
        assert live == min(wanted, layout.columns)
        reached = wanted * layout.rows >= BANK
    else:
        h, w = masks.TILES[granularity]
        cover = layout.gates * max(math.ceil(layout.rows / h), math.ceil(layout.columns / w))
        assert live == max(wanted, cover)
        reached = True
    assert mask.any(2).all()
    assert mask.any(1).all() or not reached


@given(LAYOUTS, FRACTIONS, FRACTIONS, EACH)
def test_growth_wakes_the_highest_and_keeps_the_live(layout, density, alpha, granularity):
    mask = seed(layout, density, granularity, generator=generator())
    score = torch.rand(mask.shape, generator=generator(1))
    if mask.all():
        with pytest.raises(ValueError, match="grow: mask of weight must have dormant weights"):
            grow(mask, score, alpha, layout, granularity)
        return
    grown = grow(mask, score, alpha, layout, granularity)
    assert not (mask & ~grown).any()
    total, before = groups(layout, granularity), live_count(mask, layout, granularity)
    count = max(1, int(total * alpha + 0.5)) if alpha > 0 else 0
    room = min(BANK, layout.columns) if granularity == "bank" else total
    assert live_count(grown, layout, granularity) == min(before + count, room)
    if granularity == "bank":
        return
    pooled = masks.pool(score, layout, granularity)
    woken = masks.pool((grown & ~mask).float(), layout, granularity) > 0
    asleep = masks.pool((~grown).float(), layout, granularity) > 0
    if woken.any() and asleep.any():
        assert pooled[woken].min() >= pooled[asleep].max()


@given(LAYOUTS, FRACTIONS, FRACTIONS, EACH)
def test_pruning_drops_the_smallest_and_wakes_none(layout, density, beta, granularity):
    mask = seed(layout, density, granularity, generator=generator())
    weight = torch.randn(mask.shape, generator=generator(1))
    live = live_count(mask, layout, granularity)
    kept = live - (max(1, int(live * beta + 0.5)) if beta > 0 else 0)
    if kept == 0:
        with pytest.raises(ValueError, match="prune: weight must keep at least one live group"):
            prune(mask, weight, beta, layout, granularity)
        return
    left = prune(mask, weight, beta, layout, granularity)
    assert not (left & ~mask).any()
    assert live_count(left, layout, granularity) == kept
    masks.check_groups("prune", left, layout, granularity, "weight")
    if granularity == "bank":
        return
    pooled = masks.pool(weight.abs(), layout, granularity)
    stays = masks.pool(left.float(), layout, granularity) > 0
    dropped = masks.pool((mask & ~left).float(), layout, granularity) > 0
    if dropped.any():
        assert pooled[stays].min() >= pooled[dropped].max()


@given(st.integers(1, 5), st.integers(1, 100), st.integers(0, 32))
def test_every_whole_bank_has_the_same_count(rows, columns, count):
    layout = Layout(2, rows, columns)
    mask = seed(layout, count / BANK, "bank", generator=generator())
    for bank in mask.split(BANK, 2):
        assert set(bank.sum(2).flatten().tolist()) == {min(max(count, 1), bank.shape[2])}


def test_rows_and_columns_have_one_index_set_across_the_gates():
    layout = Layout(4, 12, 10)
    rows = seed(layout, 0.5, "row", generator=generator())
    columns = seed(layout, 0.3, "column", generator=generator())
    assert rows.sum() == 4 * 6 * 10 and columns.sum() == 4 * 12 * 3
    assert all(torch.equal(rows[0], gate) for gate in rows)
    assert all(torch.equal(columns[0, :1].expand(12, 10), gate) for gate in columns)


def test_a_column_of_a_convolution_is_an_input_channel():
    layout = matrix_layout((5, 4, 3, 3))
    assert layout == Layout(1, 5, 36, 9)
    weight = torch.ones(5, 4, 3, 3)
    weight[:, 2] = 0.1
    left = prune(torch.ones(5, 4, 3, 3).bool(), weight, 0.25, layout, "column")
    assert left.sum() == 5 * 3 * 9 and not left[:, 2].any()


@pytest.mark.parametrize("granularity", ["16x1", "block16", "block32", "bank"])
def test_a_size_that_does_not_divide_is_padded(granularity):
    layout = Layout(1, 33, 35)
    sizes = masks.group_sizes(layout, granularity)
    assert sizes.sum() == 33 * 35
    smallest = {"16x1": 1, "block16": 3, "block32": 3, "bank": 0}[granularity]
    assert sizes.min() == smallest
    # The corner group is whole with its few weights.
    mask = torch.zeros(33, 35, dtype=torch.bool)
    mask[32:, 32:] = True
    if granularity.startswith("block"):
        masks.check_groups("test", mask, layout, granularity, "weight")


def test_a_seed_is_that_of_its_generator_only():
    layout = Layout(1, 20, 20)
    first = seed(layout, 0.3, generator=generator(5))
    torch.rand(7)
    assert torch.equal(first, seed(layout, 0.3, generator=generator(5)))
    assert not torch.equal(first, seed(layout, 0.3, generator=generator(6)))


def test_equal_scores_are_taken_in_order():
    layout = Layout(1, 2, 8)
    mask = torch.eye(2, 8).bool()
    grown = grow(mask, torch.ones(2, 8), 0.25, layout)
    assert (grown & ~mask).nonzero().tolist() == [[0, 1], [0, 2], [0, 3], [0, 4]]


def test_growth_counts_magnitudes_and_half_scores():
    layout = Layout(1, 1, 4)
    mask = torch.tensor([[True, False, False, False]])
    score = torch.tensor([[0.0, 1.0, -3.0, 2.0]])
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert grow(mask, score.to(dtype), 0.5, layout).tolist() == [[True, False, True, True]]


FULL = torch.ones(2, 3).bool()
HALF = torch.tensor([[True, False, True], [False, True, False]])
SCORE = torch.ones(2, 3)
LAYOUT = Layout(1, 2, 3)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: grow(FULL, SCORE, 0.1, LAYOUT), ValueError, "grow: mask of weight must have dorm"),
        (lambda: grow(HALF, SCORE, 1.5, LAYOUT), ValueError, r"grow: fraction must .* got 1.5"),
        (lambda: grow(HALF, SCORE, -0.1, LAYOUT), ValueError, r"fraction .* \[0, 1\], got -0.1"),
        (lambda: grow(HALF, SCORE, math.nan, LAYOUT), ValueError, r"\[0, 1\], got nan"),
        (lambda: grow(HALF, SCORE, "x", LAYOUT), ValueError, r"\[0, 1\], got 'x'"),
        (lambda: grow(HALF, SCORE * math.nan, 0.1, LAYOUT), RuntimeError, "be finite, got nan"),
        (lambda: grow(HALF, SCORE * math.inf, 0.1, LAYOUT), RuntimeError, "be finite, got inf"),
        (lambda: grow(HALF, SCORE, 0.1, LAYOUT, "row"), ValueError, "be made of row groups"),
        (lambda: grow(HALF, SCORE, 0.1, LAYOUT, "bank"), ValueError, "be made of bank groups"),
        (lambda: grow(HALF, SCORE, 0.1, LAYOUT, "3x3"), ValueError, "grow: granularity .* '3x3'"),
        (lambda: grow(HALF[:1], SCORE, 0.1, LAYOUT), ValueError, r"shape \(2, 3\), got \(1, 3\)"),
        (lambda: grow(HALF.float(), SCORE, 0.1, LAYOUT), TypeError, "got torch.float32"),
        (lambda: grow([1], SCORE, 0.1, LAYOUT), TypeError, "bool tensor, got list"),
        (lambda: grow(HALF.to("meta"), SCORE, 0.1, LAYOUT), ValueError, "on cpu, got meta"),
        (lambda: prune(~FULL, SCORE, 0.1, LAYOUT), ValueError, "have live weights, got an empty"),
        (lambda: prune(HALF, SCORE, 2, LAYOUT), ValueError, r"prune: fraction .* got 2"),
        (lambda: prune(HALF, SCORE, 1.0, LAYOUT, name="a.b"), ValueError, "prune: a.b must keep"),
        (lambda: prune(HALF, SCORE * math.nan, 0.1, LAYOUT), RuntimeError, "must not hold nan"),
        (lambda: prune(HALF, SCORE, 0.4, LAYOUT, "row"), ValueError, "be made of row groups"),
        (lambda: prune(HALF, SCORE[:1], 0.1, LAYOUT), ValueError, r"shape \(1, 3\), got \(2, 3\)"),
        (lambda: seed(LAYOUT, 1.01), ValueError, r"seed: fraction must .* got 1.01"),
        (lambda: seed(LAYOUT, 0.5, "rows"), ValueError, "seed: granularity must be one of"),
        (lambda: matrix_layout((5, 3), 4), ValueError, r"with 4 gates, got \(5, 3\)"),
        (lambda: matrix_layout((5,)), ValueError, r"matrix_layout: shape must be"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_masks_on_a_device(device):
    layout = Layout(4, 16, 33)
    mask = seed(layout, 0.3, "bank", generator=generator(), device=torch.device(device))
    assert mask.device.type == device
    assert torch.equal(mask.cpu(), seed(layout, 0.3, "bank", generator=generator()))
    score = torch.rand(mask.shape, device=device)
    grown = grow(mask, score, 0.1, layout, "bank")
    assert torch.equal(grown.cpu(), grow(mask.cpu(), score.cpu(), 0.1, layout, "bank"))
