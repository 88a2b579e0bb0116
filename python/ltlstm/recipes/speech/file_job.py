# SPDX-License-Identifier: Apache-2.0
"""One utterance of a corpus on disk: where its audio and alignment are, and how both are read."""

from __future__ import annotations

import dataclasses
import pathlib

from ltlstm.recipes.speech import alignments, audio
from ltlstm.recipes.speech.recording import BadFile, Recording, Segment


@dataclasses.dataclass(frozen=True)
class FileJob:
    """An utterance is an audio file from `start` (s) to `end` (s; None: all that follows)."""

    name: str
    speaker: str
    path: pathlib.Path
    alignment: pathlib.Path | list[Segment] | BadFile
    split: str = ""
    start: float = 0.0
    end: float | None = None

    def recordings(self) -> list[Recording]:
        if isinstance(self.alignment, BadFile):
            raise self.alignment
        samples, rate = audio.read_audio(self.path)
        duration = len(samples) / rate
        end = duration if self.end is None else self.end
        if not 0 <= self.start < end <= duration + alignments.SLACK:
            span = f"{self.start:.2f} to {end:.2f} s"
            raise BadFile(self.path, f"{self.name} is {span} of it, it lasts {duration:.2f} s")
        samples = samples[round(self.start * rate) : round(end * rate)]
        if isinstance(self.alignment, list):
            segments, source = self.alignment, self.name
        else:
            segments = alignments.read_alignment(self.alignment, rate)
            source = str(self.alignment)
        alignments.check_end(source, segments, len(samples) / rate)
        return [Recording(self.name, self.split, samples, rate, segments)]
