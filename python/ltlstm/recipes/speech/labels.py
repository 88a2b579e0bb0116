# SPDX-License-Identifier: Apache-2.0
"""From phone events to a (phone, state) label for every frame: two states a phone.

At one frame every 30 ms the median phone (66 ms) lasts two frames, so a third state would have
none. Silence has one state.
"""

from __future__ import annotations

import re

import torch

from ltlstm.recipes.speech.recording import SILENCE, Segment, halved

Label = tuple[str, int]  # phone and its state, 0 or 1

# A stop or affricate starts with one of these letters in espeak-ng's mnemonics and closes the
# mouth first, in exact digital silence; D and T (as in "this", "thin") are other letters.
STOP_LETTERS = "ptkbdgcqJG?"
MAX_CLOSURE = 0.050  # s; what precedes it in a pause stays silence
ESPEAK_STRESS = "',%="
ARPABET_STRESS = re.compile(r"^([A-Z]+)[0-2]$")
KALDI_POSITION = re.compile(r"_[BIES]$")
SILENCE_NAMES = frozenset(
    "sil sp spn nsn pau epi h# # _ <eps> <sil> <unk> silence noise nonspeech".split()
)


def plain_espeak(mnemonic: str) -> str:
    """The phone without its stress; every kind of pause (`_`, `_:`, ...) is silence."""
    phone = mnemonic.lstrip(ESPEAK_STRESS)
    return SILENCE if phone.startswith("_") else phone


def plain_aligned(name: str) -> str:
    """The same for the phones of real alignments: ARPABET stress and Kaldi's position go."""
    if name.lower() in SILENCE_NAMES:
        return SILENCE
    phone = KALDI_POSITION.sub("", name)
    stressed = ARPABET_STRESS.match(phone)
    phone = stressed.group(1) if stressed else phone
    return SILENCE if phone.lower() in SILENCE_NAMES else phone


def segments_of_events(
    events: list[tuple[int, str]], samples: torch.Tensor, rate: int
) -> list[Segment]:
    """espeak-ng's events (position in samples, mnemonic) as segments, closures given to stops.

    `samples` (n,) int16 are the clean ones. espeak-ng credits the silence before a stop to the
    phone before it; here it becomes the stop's first state.
    """
    # starts[k] is where phone k begins, middles[k] where its second state does (if that is known).
    phones = [plain_espeak(mnemonic) for _, mnemonic in events]
    starts = [position for position, _ in events]
    middles: list[int | None] = [None] * len(events)
    for k in range(1, len(events)):
        if phones[k] and phones[k][0] in STOP_LETTERS:
            earliest = max(starts[k - 1], starts[k] - round(MAX_CLOSURE * rate))
            closure = _zeros_before(samples, starts[k], earliest)
            if closure < starts[k]:
                middles[k], starts[k] = starts[k], closure
    ends = [*starts[1:], len(samples)] if starts else []

    segments = []
    for phone, start, middle, end in zip(phones, starts, middles, ends, strict=True):
        segment = halved(phone, start / rate, end / rate)
        if middle is not None:
            segment = Segment(phone, segment.start, middle / rate, segment.end)
        segments.append(segment)
    return segments


def _zeros_before(samples: torch.Tensor, position: int, earliest: int) -> int:
    """Where the run of exact zeros that ends at `position` starts, `earliest` at the most."""
    sounding = samples[earliest:position].nonzero()
    return earliest + int(sounding[-1]) + 1 if len(sounding) else earliest


def frame_labels(segments: list[Segment], times: list[float]) -> list[Label]:
    """The label at each of `times` (s, ascending); what no segment covers is silence."""
    labels: list[Label] = []
    k = 0
    for time in times:
        while k < len(segments) and segments[k].end <= time:
            k += 1
        if k == len(segments) or time < segments[k].start or segments[k].phone == SILENCE:
            labels.append((SILENCE, 0))
        else:
            labels.append((segments[k].phone, int(time >= segments[k].middle)))
    return labels


def phone_sequence(segments: list[Segment]) -> list[str]:
    """The phones spoken, silence left out: what the phone error counts against."""
    return [segment.phone for segment in segments if segment.phone != SILENCE]
