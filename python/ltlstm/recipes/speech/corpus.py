# SPDX-License-Identifier: Apache-2.0
"""A corpus ready to train on: normalised features and senone labels of every utterance.

Made from jobs (one synthetic voice, or one file) in a fixed order, whatever the number of
workers, and then kept in one file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import torch

from ltlstm import files
from ltlstm.recipes.console import Bar
from ltlstm.recipes.speech import features, labels
from ltlstm.recipes.speech.recording import SILENCE, SPLITS, BadFile, DataError, Recording

FORMAT = 1  # of the cached file and of what the code makes: another number makes it anew
DELAY = 2  # frames (60 ms) by which a label comes later than its frame: what the network may wait
IGNORED = -100  # the label of a frame that is not scored, as cross_entropy has it


class Job(Protocol):
    """Something that makes recordings, or raises BadFile."""

    def recordings(self) -> list[Recording]: ...


@dataclasses.dataclass
class Split:
    features: torch.Tensor  # (S, 240) float16, all utterances one after the other
    labels: torch.Tensor  # (S,) int16: the senone of the frame DELAY earlier, or IGNORED
    lengths: list[int]  # (U,) frames of each utterance, DELAY more than it has labels
    spoken: list[list[int]]  # (U,) the phones in each, without silence, numbered from 1
    names: list[str]  # (U,)

    @property
    def hours(self) -> float:
        return len(self.features) * features.FRAME_PERIOD / 3600


@dataclasses.dataclass
class Corpus:
    phones: list[str]  # phones[0] is silence
    splits: dict[str, Split]
    skipped: list[str]  # a line for each bad file
    fingerprint: str  # of all that decides its content

    @property
    def senones(self) -> int:
        """Silence is senone 0, state s of phone p is senone 2 p - 1 + s."""
        return 2 * len(self.phones) - 1


@dataclasses.dataclass
class _Utterance:
    name: str
    split: str
    frames: torch.Tensor  # (frames, 240)
    labels: list[labels.Label]  # (frames,)
    spoken: list[str]


def fingerprint(description: dict[str, Any]) -> str:
    text = json.dumps([FORMAT, description], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_or_make(
    jobs: Sequence[Job],
    description: dict[str, Any],
    cache: pathlib.Path,
    top: float,
    workers: int,
    say: Callable[[str], None],
    bar: Bar,
) -> Corpus:
    """`description` holds all that decides the content; `top` is that of the mel bands in Hz."""
    name = fingerprint(description)
    path = cache / f"senone-{name}.pt"
    if path.exists():
        try:
            corpus = _unpacked(torch.load(path, weights_only=True, mmap=True))
            say(f"corpus: read from {path}")
            return corpus
        except Exception as error:  # whatever a damaged file makes torch.load raise
            say(f"corpus: {path} cannot be read ({type(error).__name__}), it is made again")
    corpus = make(jobs, name, top, workers, bar)
    try:
        files.save_tensors(path, _packed(corpus))
        say(f"corpus: kept in {path}")
    except OSError as error:
        say(f"corpus: not kept for the next run: {error}")
    return corpus


def make(jobs: Sequence[Job], name: str, top: float, workers: int, bar: Bar) -> Corpus:
    def run(job: Job) -> list[_Utterance] | BadFile:
        torch.set_num_threads(1)  # this worker's: the workers are what runs in parallel
        try:
            return [_utterance(recording, top) for recording in job.recordings()]
        except BadFile as error:
            return error

    utterances: list[_Utterance] = []
    skipped: list[str] = []
    pool = ThreadPoolExecutor(workers)
    try:
        with bar("features", len(jobs)) as update:
            for done, result in enumerate(pool.map(run, jobs), start=1):
                if isinstance(result, BadFile):
                    skipped.append(str(result))
                else:
                    utterances.extend(result)
                update(done, "")
    finally:
        pool.shutdown(cancel_futures=True)  # after an error or Ctrl-C nothing more is begun
    return _assembled(utterances, skipped, name)


def _utterance(recording: Recording, top: float) -> _Utterance:
    if recording.rate < 2 * top:
        half = recording.rate // 2
        reason = f"sampled at {recording.rate} Hz, too low for bands up to {top:g} Hz"
        raise BadFile(recording.name, f"{reason} (--top {half} would take it)")
    frames = features.stacked(features.log_mel(recording.samples, recording.rate, top))
    if len(frames) == 0:
        raise BadFile(recording.name, f"{len(recording.samples)} samples are less than a frame")
    if not frames.isfinite().all():
        raise BadFile(recording.name, "its samples are not all finite")
    times = features.frame_times(len(frames))
    return _Utterance(
        recording.name,
        recording.split,
        frames,
        labels.frame_labels(recording.segments, times),
        labels.phone_sequence(recording.segments),
    )


def _assembled(utterances: list[_Utterance], skipped: list[str], name: str) -> Corpus:
    by_split = {split: [u for u in utterances if u.split == split] for split in SPLITS}
    empty = [split for split in SPLITS if not by_split[split]]
    if empty:
        found = f"{len(utterances)} usable utterances, {len(skipped)} bad ones skipped"
        first = f" (the first: {skipped[0]})" if skipped else ""
        raise DataError(f"empty corpus: nothing for {', '.join(empty)}; {found}{first}")

    train = torch.cat([u.frames for u in by_split["train"]])
    mean, scale = train.mean(0), train.std(0, correction=0).clamp(min=1e-3)
    phones = [SILENCE, *sorted({phone for u in by_split["train"] for phone in u.spoken})]
    number = {phone: k for k, phone in enumerate(phones)}

    def senone(label: labels.Label) -> int:
        phone, state = label
        if phone == SILENCE:
            return 0
        # A phone that no training speaker says cannot be learnt: its frames are not scored,
        # but the phone error counts it.
        return 2 * number[phone] - 1 + state if phone in number else IGNORED

    def split_of(members: list[_Utterance]) -> Split:
        inputs, targets = [], []
        for u in members:
            frames = (u.frames - mean) / scale
            inputs += [frames, frames[-1:].expand(DELAY, -1)]
            targets += [IGNORED] * DELAY + [senone(label) for label in u.labels]
        return Split(
            torch.cat(inputs).half(),
            torch.tensor(targets, dtype=torch.int16),
            [len(u.frames) + DELAY for u in members],
            [[number.get(phone, len(phones)) for phone in u.spoken] for u in members],
            [u.name for u in members],
        )

    splits = {split: split_of(members) for split, members in by_split.items()}
    return Corpus(phones, splits, skipped, name)


def _packed(corpus: Corpus) -> dict[str, Any]:
    splits = {split: vars(content) for split, content in corpus.splits.items()}
    return {**vars(corpus), "splits": splits}


def _unpacked(content: dict[str, Any]) -> Corpus:
    splits = {split: Split(**content["splits"][split]) for split in SPLITS}
    return Corpus(**{**content, "splits": splits})
