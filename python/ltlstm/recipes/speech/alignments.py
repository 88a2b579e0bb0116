# SPDX-License-Identifier: Apache-2.0
"""Phone alignments as tools write them: CTM (Kaldi), TextGrid (Praat, Montreal), phn (TIMIT)."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Iterable

from ltlstm.recipes.speech.labels import plain_aligned
from ltlstm.recipes.speech.recording import SILENCE, BadFile, Segment, halved

SUFFIXES = (".textgrid", ".phn", ".ctm")
SLACK = 0.1  # s that an alignment may reach past the audio: aligners round to their frames
OVERLAP = 0.005  # s that two segments may overlap: times are often rounded to 10 ms


def read_alignment(path: pathlib.Path, rate: int) -> list[Segment]:
    """One recording's alignment file; `rate` (Hz) turns TIMIT's sample numbers into seconds."""
    if path.suffix.lower() == ".textgrid":
        return checked(path, read_textgrid(path))
    if path.suffix.lower() == ".phn":
        return checked(path, read_phn(path, rate))
    utterances, errors = read_ctm(path)
    if errors:
        raise next(iter(errors.values()))
    if len(utterances) != 1:
        raise BadFile(path, f"it has lines for {len(utterances)} recordings, one was expected")
    return next(iter(utterances.values()))


def read_ctm(
    path: pathlib.Path, plain: Callable[[str], str] = plain_aligned
) -> tuple[dict[str, list[Segment]], dict[str, BadFile]]:
    """Lines `utterance channel start duration phone [...]`, times in s, by utterance.

    Utterances with a bad line come back in the second dict, with the reason.
    """
    spans: dict[str, list[Segment]] = {}
    errors: dict[str, BadFile] = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields or line.startswith(";;"):
            continue
        try:
            start, duration, phone = float(fields[2]), float(fields[3]), plain(fields[4])
        except (IndexError, ValueError):
            reason = f"line {number} must be <utterance> <channel> <start> <duration> <phone>"
            errors.setdefault(fields[0], BadFile(path, f"{reason}, got {line.strip()!r}"))
            continue
        spans.setdefault(fields[0], []).append(halved(phone, start, start + duration))

    utterances = {}
    for name, segments in spans.items():
        try:
            utterances[name] = checked(f"{path}, {name}", segments)
        except BadFile as error:
            errors.setdefault(name, error)
    return {name: found for name, found in utterances.items() if name not in errors}, errors


def read_phn(path: pathlib.Path, rate: int) -> list[Segment]:
    """Lines `first-sample end-sample phone`."""
    segments = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            start, end = int(fields[0]) / rate, int(fields[1]) / rate
            segments.append(halved(plain_aligned(fields[2]), start, end))
        except (IndexError, ValueError):
            reason = f"line {number} must be <first sample> <end sample> <phone>"
            raise BadFile(path, f"{reason}, got {line.strip()!r}") from None
    return segments


def read_textgrid(path: pathlib.Path) -> list[Segment]:
    """The interval tier `phones` of a TextGrid, long or short: both hold the same values."""
    text = re.sub(r"\[\d*\]", "", _text(path))  # the long form's `intervals [3]:` are no values
    values = re.findall(r'"(?:[^"]|"")*"|(?<![\w.])-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?', text)
    for at, value in enumerate(values):
        name = values[at + 1].strip('"').lower() if at + 1 < len(values) else ""
        if value == '"IntervalTier"' and re.search(r"(^|\W)phones?$", name):
            break
    else:
        raise BadFile(path, "it has no interval tier named 'phones'")
    try:
        count = int(values[at + 4])
        triples = values[at + 5 : at + 5 + 3 * count]
        if len(triples) != 3 * count:
            raise ValueError
        spans = zip(triples[0::3], triples[1::3], triples[2::3], strict=True)
        return [
            halved(plain_aligned(label.strip('"')), float(start), float(end))
            for start, end, label in spans
        ]
    except (IndexError, ValueError):
        raise BadFile(path, "its tier 'phones' is not complete") from None


def checked(name: object, segments: Iterable[Segment]) -> list[Segment]:
    """The segments in order of time, if they can be an alignment at all."""
    ordered = sorted(segments, key=lambda segment: segment.start)
    if not any(segment.phone != SILENCE for segment in ordered):
        raise BadFile(name, "it has no phone")
    for k, segment in enumerate(ordered):
        if not 0 <= segment.start <= segment.end < float("inf"):
            raise BadFile(name, f"{segment.phone!r} lasts from {segment.start} to {segment.end} s")
        if k and segment.start < ordered[k - 1].end - OVERLAP:
            raise BadFile(name, f"two phones overlap at {segment.start:.3f} s")
    return ordered


def check_end(name: object, segments: list[Segment], duration: float) -> None:
    """`duration` of the audio in s."""
    if segments[-1].end > duration + SLACK:
        ends = f"{segments[-1].end:.2f} s, the audio at {duration:.2f} s"
        raise BadFile(name, f"its alignment ends at {ends}")


def _text(path: pathlib.Path) -> str:
    try:
        data = path.read_bytes()
        # Praat writes UTF-16 as soon as a label is not ASCII.
        utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(path, error) from error
