# SPDX-License-Identifier: Apache-2.0
"""From senone posteriors to phones: Viterbi over a loop of phone HMMs with a bigram of phones.

Each phone is two states, silence one. A phone may be left from its first state and entered at its
second, for many last a single frame. All probabilities are counted on the training labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from ltlstm.recipes.speech.corpus import DELAY, IGNORED, Split

SMOOTHING = 0.5  # added to each count of a state's transitions
BACKOFF = 5.0  # weight, in counts, of the unigram in a phone's bigram
NEVER = -1e30  # a log probability; finite, so that no difference is NaN


@dataclasses.dataclass(frozen=True)
class Tuning:
    prior_weight: float = 0.5
    lm_weight: float = 1.0
    insertion_bonus: float = 0.0

    def with_value(self, name: str, value: float) -> Tuning:
        return dataclasses.replace(self, **{name: value})


@dataclasses.dataclass(frozen=True)
class PhoneLoop:
    """Log probabilities; S senones as corpus.py numbers them."""

    prior: torch.Tensor  # (S,)
    stay: torch.Tensor  # (S, S) from, to, within one phone; NEVER elsewhere
    leave: torch.Tensor  # (S, S) out of a state's phone and into a state of the next one
    bigram: torch.Tensor  # (S, S) the next phone given the last, for each pair of their states


def phone_of(senones: torch.Tensor) -> torch.Tensor:
    return (senones + 1) // 2


def begins_phone(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Whether going from one senone to the other enters a phone: another, or this one anew."""
    return (phone_of(before) != phone_of(after)) | (after < before)


def count_loop(split: Split, senones: int) -> PhoneLoop:
    labels = split.labels.long()
    seen = torch.bincount(labels[labels != IGNORED], minlength=senones).double()
    pairs = torch.zeros(senones, senones, dtype=torch.float64)
    for utterance in labels.split(split.lengths):
        before, after = utterance[DELAY:-1], utterance[DELAY + 1 :]
        known = (before != IGNORED) & (after != IGNORED)
        pairs += torch.bincount(
            before[known] * senones + after[known], minlength=senones * senones
        ).view(senones, senones)

    state = torch.arange(senones)
    phones = phone_of(state)
    crossing = begins_phone(state[:, None], state)
    legal_stay = ~crossing
    # Out of a state: each legal move within the phone, or away.
    inside = torch.where(legal_stay, pairs + SMOOTHING, 0.0)
    away = torch.where(crossing, pairs, 0.0).sum(1) + SMOOTHING
    total = inside.sum(1) + away
    # Into a phone: the bigram, smoothed by the unigram, then by which of its states it is entered.
    size = int(phones[-1]) + 1
    by_phone = torch.zeros(size, size, dtype=torch.float64)
    crossings = torch.where(crossing, pairs, 0.0)
    by_phone.index_put_(
        (phones[:, None].expand_as(pairs), phones.expand_as(pairs)), crossings, accumulate=True
    )
    unigram = by_phone.sum(0) + SMOOTHING
    unigram = unigram / unigram.sum()
    bigram = (by_phone + BACKOFF * unigram) / (by_phone.sum(1, keepdim=True) + BACKOFF)
    entries = crossings.sum(0) + SMOOTHING
    entry = entries / torch.zeros(size, dtype=torch.float64).index_add_(0, phones, entries)[phones]

    log_leave = (away / total).log()[:, None] + entry.log()
    prior = (seen + SMOOTHING) / (seen + SMOOTHING).sum()
    return PhoneLoop(
        prior.log().float(),
        torch.where(legal_stay, (inside / total[:, None]).log(), NEVER).float(),
        # From a phone to itself the first state is entered again, as the labels show it.
        torch.where(crossing, log_leave, NEVER).float(),
        bigram.log()[phones][:, phones].float(),
    )


def transitions(loop: PhoneLoop, tuning: Tuning) -> torch.Tensor:
    """(S, S) log weights, from, to."""
    between = loop.leave + tuning.lm_weight * loop.bigram + tuning.insertion_bonus
    return torch.maximum(loop.stay, between)


def best_path(
    posteriors: Sequence[torch.Tensor], loop: PhoneLoop, tuning: Tuning
) -> list[torch.Tensor]:
    """Log posteriors, (frames, S) each -> the best sequence of senones for each, (frames,).

    A path may begin and end in any state.
    """
    lengths = torch.tensor([len(scores) for scores in posteriors])
    emissions = torch.nn.utils.rnn.pad_sequence(list(posteriors))  # (T, N, S)
    emissions = emissions - tuning.prior_weight * loop.prior
    step = transitions(loop, tuning).t().contiguous()  # (to, from)

    score = emissions[0]
    came_from = []
    stay_put = torch.arange(score.shape[1]).expand_as(score)
    for t in range(1, len(emissions)):
        best, source = (score[:, None, :] + step).max(-1)  # (N, to)
        running = (t < lengths)[:, None]  # an utterance that has ended keeps its scores
        score = torch.where(running, best + emissions[t], score)
        came_from.append(torch.where(running, source, stay_put))

    state = score.argmax(-1)
    states = [state]
    for source in reversed(came_from):
        state = source.gather(1, state[:, None]).squeeze(1)
        states.append(state)
    paths = torch.stack(states[::-1])
    return [paths[: int(length), n] for n, length in enumerate(lengths)]


def phones_of_path(path: torch.Tensor) -> list[int]:
    """The phones that a path goes through, without silence."""
    first = torch.ones(1, dtype=torch.bool)
    begins = torch.cat([first, begins_phone(path[:-1], path[1:])])
    phones = phone_of(path)[begins]
    return phones[phones != 0].tolist()
