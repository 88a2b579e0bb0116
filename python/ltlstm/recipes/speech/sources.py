# SPDX-License-Identifier: Apache-2.0
"""Where a corpus comes from: the jobs that make it and a description of all that decides it."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from ltlstm.recipes.speech import alignments, audio, folder, synthesis
from ltlstm.recipes.speech.corpus import Job


@dataclasses.dataclass(frozen=True)
class Source:
    words: str  # what it is, for the user
    split: str  # how the test set was held out, for the user
    jobs: Sequence[Job]
    description: dict[str, Any]  # what the cached corpus is known by


def synthetic(sentences: dict[str, int], seed: int) -> Source:
    """`sentences` a voice, by split."""
    espeak = synthesis.find_espeak()
    jobs = synthesis.voice_jobs(espeak, sentences, seed)
    voices = {split: sum(job.split == split for job in jobs) for split in sentences}
    words = ", ".join(
        f"{voices[split]} {split} voices x {count} sentences" for split, count in sentences.items()
    )
    return Source(
        f"espeak-ng {espeak.version}, {words}; noise at 0-20 dB",
        "by voice and sentence (none is in two sets)",
        jobs,
        {
            "espeak": [espeak.version, pathlib.Path(espeak.library).name],
            "voices": [[job.variant, job.split, job.seed, job.sentences] for job in jobs],
        },
    )


def on_disk(root: pathlib.Path, seed: int) -> Source:
    """A change of any file's size or time makes another corpus."""
    jobs, how = folder.find_jobs(root, seed)
    read = {job.path for job in jobs}
    relevant = (*audio.SUFFIXES, *alignments.SUFFIXES)
    read |= {path for path in root.rglob("*") if path.suffix.lower() in relevant}
    read |= {path for path in root.iterdir() if path.is_file()}  # Kaldi's tables
    stamps = [
        [str(path), path.stat().st_size, path.stat().st_mtime_ns]
        for path in sorted(read)
        if path.exists()
    ]
    return Source(
        f"{root}, {len(jobs)} utterances, split {how}",
        how,
        jobs,
        {"root": str(root.resolve()), "files": stamps, "seed": seed},
    )
