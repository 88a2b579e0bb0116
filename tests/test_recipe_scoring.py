# SPDX-License-Identifier: Apache-2.0
"""Decoding and scoring: Viterbi against every path there is, edit distance, the tuned numbers."""

import itertools
import random

import pytest
import torch

from ltlstm.recipes import decoding, report, scoring
from ltlstm.recipes.decoding import NEVER, PhoneLoop, Tuning
from ltlstm.recipes.speech.corpus import DELAY, IGNORED, Split

SENONES = 5  # silence and two phones


def split_of(sequences: list[list[int]]) -> Split:
    labels: list[int] = []
    for sequence in sequences:
        labels += [IGNORED] * DELAY + sequence
    spoken = [decoding.phones_of_path(torch.tensor(sequence)) for sequence in sequences]
    lengths = [len(sequence) + DELAY for sequence in sequences]
    names = [str(k) for k in range(len(sequences))]
    return Split(
        torch.zeros(len(labels), 240),
        torch.tensor(labels, dtype=torch.int16),
        lengths,
        spoken,
        names,
    )


TRAINING = [[0, 1, 2, 2, 3, 4, 0], [0, 1, 1, 2, 1, 2, 0], [3, 4, 4, 3, 3, 0, 0], [1, 3, 4, 2]]


@pytest.fixture
def loop() -> PhoneLoop:
    return decoding.count_loop(split_of(TRAINING), SENONES)


def test_transitions_are_counted_by_hand(loop):
    # State 1 stays once, goes on to state 2 three times and leaves its phone once (for state 3);
    # each of the three has half a count more.
    assert loop.stay[1, 1].exp().item() == pytest.approx(1.5 / 6.5)
    assert loop.stay[1, 2].exp().item() == pytest.approx(3.5 / 6.5)
    assert loop.stay[2, 1] == loop.stay[1, 3] == NEVER  # no way back, and none across
    # Phone 2 is entered three times, always at its first state (from 2, from 1, and anew from 4).
    assert loop.leave[1, 3].exp().item() == pytest.approx(1.5 / 6.5 * 3.5 / 4)
    assert loop.leave[1, 4].exp().item() == pytest.approx(1.5 / 6.5 * 0.5 / 4)
    assert loop.leave[4, 3] > NEVER and loop.leave[3, 4] == NEVER
    # Of 25 frames 6 are silence; half a count for each of 5 senones.
    assert loop.prior[0].exp().item() == pytest.approx(6.5 / (25 + 2.5))


def test_the_bigram_is_one_of_phones(loop):
    assert loop.bigram[2, 3] == loop.bigram[1, 4]  # the same pair of phones
    by_phone = loop.bigram[1, [0, 1, 3]].exp()
    assert by_phone.sum().item() == pytest.approx(1.0)
    # Phone 1 is followed by phone 2 twice, by itself and by silence once.
    assert by_phone[2] > by_phone[0] and by_phone[2] > by_phone[1]


@pytest.mark.parametrize("seed", range(6))
def test_viterbi_finds_the_best_of_all_paths(loop, seed):
    torch.manual_seed(seed)
    tuning = Tuning(prior_weight=0.3 * seed, lm_weight=1.5, insertion_bonus=seed - 3.0)
    lengths = [5, 1, 4]
    posteriors = [torch.randn(n, SENONES).log_softmax(-1) for n in lengths]
    step = decoding.transitions(loop, tuning)

    def total(scores: torch.Tensor, path: tuple[int, ...]) -> float:
        emitted = sum(
            float(scores[t, s] - tuning.prior_weight * loop.prior[s]) for t, s in enumerate(path)
        )
        return emitted + sum(float(step[a, b]) for a, b in itertools.pairwise(path))

    for scores, found in zip(posteriors, decoding.best_path(posteriors, loop, tuning), strict=True):
        best = max(
            itertools.product(range(SENONES), repeat=len(scores)), key=lambda p: total(scores, p)
        )
        assert found.tolist() == list(best)


def test_a_path_becomes_phones():
    path = torch.tensor([0, 1, 1, 2, 1, 2, 2, 0, 0, 4, 3, 3, 4, 1])
    assert decoding.phones_of_path(path) == [1, 1, 2, 2, 1]
    assert decoding.phones_of_path(torch.tensor([0, 0])) == []


def by_recursion(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(
        by_recursion(a[1:], b) + 1,
        by_recursion(a, b[1:]) + 1,
        by_recursion(a[1:], b[1:]) + (a[0] != b[0]),
    )


def test_edit_distance():
    assert scoring.edit_distance([], []) == 0
    assert scoring.edit_distance([1, 2, 3], [1, 3]) == 1
    assert scoring.edit_distance([1, 2], [2, 1]) == 2
    assert scoring.edit_distance([4, 4, 4], []) == 3
    generator = random.Random(0)
    for _ in range(50):
        a, b = ([generator.randrange(3) for _ in range(generator.randrange(6))] for _ in "ab")
        assert scoring.edit_distance(a, b) == by_recursion(tuple(a), tuple(b))


def confident(sequence: list[int], strength: float) -> torch.Tensor:
    scores = torch.zeros(len(sequence), SENONES)
    scores[torch.arange(len(sequence)), torch.tensor(sequence)] = strength
    return scores.log_softmax(-1)


def test_a_perfect_model_makes_no_error(loop):
    split = split_of(TRAINING)
    posteriors = [confident(sequence, 50.0) for sequence in TRAINING]
    assert scoring.frame_error(posteriors, split) == 0.0
    assert scoring.phone_error(posteriors, split, loop, Tuning()) == 0.0


def test_frame_error_leaves_out_what_is_not_scored():
    split = split_of([[0, 1, 2, 3]])
    split.labels[DELAY + 1] = IGNORED
    posteriors = [confident([0, 4, 2, 4], 5.0)]
    assert scoring.frame_error(posteriors, split) == pytest.approx(100 / 3)


def test_phone_error_counts_over_the_phones_spoken(loop):
    split = split_of([[1, 2, 3, 4], [1, 2, 2, 2]])
    posteriors = [confident([1, 2, 2, 2], 50.0), confident([1, 2, 2, 2], 50.0)]
    assert scoring.phone_error(posteriors, split, loop, Tuning()) == pytest.approx(100 / 3)


def test_tuning_never_does_worse_than_its_start(loop):
    torch.manual_seed(1)
    split = split_of(TRAINING)
    posteriors = [
        (confident(sequence, 2.0) + torch.randn(len(sequence), SENONES)).log_softmax(-1)
        for sequence in TRAINING
    ]
    tuned = scoring.tune(posteriors, split, loop)
    errors = [scoring.phone_error(posteriors, split, loop, t) for t in (tuned, Tuning())]
    assert errors[0] <= errors[1]
    assert tuned == scoring.tune(posteriors, split, loop)


def score(model: str, frame: float, phone: float, seed: int = 0) -> report.Score:
    return report.Score(model, seed, frame, phone, 1234567, 2345678, 12.34, {})


def test_the_table_ranks_by_mean_frame_error_as_found():
    scores = [score("A", 40.0, 20.0), score("B", 30.0, 25.0), score("A", 50.0, 22.0, seed=1)]
    scores += [score("B", 31.0, 25.0, seed=1)]
    header, first, second = report.table(scores).splitlines()
    assert header.split("  ")[0] == "" and "frame error %" in header and "ms a step" in header
    assert first.split() == "1 B 30.5 +- 0.7 25.0 +- 0.0 1,234,567 2,346 12.3".split()
    assert second.split() == "2 A 45.0 +- 7.1 21.0 +- 1.4 1,234,567 2,346 12.3".split()


def test_one_seed_has_no_spread():
    assert report.table([score("A", 40.0, 20.0)]).splitlines()[1].split()[2:4] == ["40.0", "20.0"]
