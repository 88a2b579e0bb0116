# SPDX-License-Identifier: Apache-2.0
"""What a trained model is worth on speech it has not heard: frame error and phone error."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ltlstm.recipes.decoding import PhoneLoop, Tuning, best_path, phones_of_path
from ltlstm.recipes.models import AcousticModel
from ltlstm.recipes.speech.corpus import DELAY, IGNORED, Split

BATCH = 32  # utterances
# What the decoder's three numbers may be; each is tuned in turn on the dev voices.
GRID = {
    "prior_weight": (0.0, 0.25, 0.5, 0.75, 1.0),
    "lm_weight": (0.5, 1.0, 1.5, 2.0, 3.0),
    "insertion_bonus": (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0),
}


@torch.no_grad()
def log_posteriors(model: AcousticModel, split: Split) -> list[torch.Tensor]:
    """For each utterance (frames, senones), the delay taken off."""
    model.eval()
    parts = split.features.split(split.lengths)
    order = sorted(range(len(parts)), key=lambda u: len(parts[u]))  # alike lengths share a batch
    found: dict[int, torch.Tensor] = {}
    for at in range(0, len(order), BATCH):
        members = order[at : at + BATCH]
        # What pads a shorter utterance comes after its end, where no output is read.
        inputs = torch.nn.utils.rnn.pad_sequence([parts[u].float() for u in members])
        logits, _ = model(inputs)
        for k, u in enumerate(members):
            found[u] = logits[DELAY : len(parts[u]), k].log_softmax(-1)
    model.train()
    return [found[u] for u in range(len(parts))]


def frame_error(posteriors: Sequence[torch.Tensor], split: Split) -> float:
    """Per cent of the scored frames whose most probable senone is not their label."""
    wrong = total = 0
    for scores, labels in zip(posteriors, split.labels.split(split.lengths), strict=True):
        scored = labels[DELAY:] != IGNORED
        wrong += int((scores.argmax(-1) != labels[DELAY:])[scored].sum())
        total += int(scored.sum())
    return 100.0 * wrong / max(total, 1)


def phone_error(
    posteriors: Sequence[torch.Tensor], split: Split, loop: PhoneLoop, tuning: Tuning
) -> float:
    """Per cent: insertions, deletions and substitutions over the phones spoken (no silence)."""
    errors = 0
    order = sorted(range(len(posteriors)), key=lambda u: len(posteriors[u]))
    for at in range(0, len(order), BATCH):
        members = order[at : at + BATCH]
        paths = best_path([posteriors[u] for u in members], loop, tuning)
        for u, path in zip(members, paths, strict=True):
            errors += edit_distance(phones_of_path(path), split.spoken[u])
    return 100.0 * errors / max(sum(len(phones) for phones in split.spoken), 1)


def tune(posteriors: Sequence[torch.Tensor], split: Split, loop: PhoneLoop) -> Tuning:
    """The decoder's numbers with the lowest phone error on `split`, one after the other."""
    best = Tuning()
    lowest = phone_error(posteriors, split, loop, best)
    for name, values in GRID.items():
        for value in values:
            candidate = best.with_value(name, value)
            if candidate != best:
                error = phone_error(posteriors, split, loop, candidate)
                if error < lowest:
                    best, lowest = candidate, error
    return best


def edit_distance(found: Sequence[int], spoken: Sequence[int]) -> int:
    """Fewest insertions, deletions and substitutions that turn one into the other."""
    row = list(range(len(spoken) + 1))
    for i, a in enumerate(found, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(spoken, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]
