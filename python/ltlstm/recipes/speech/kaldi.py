# SPDX-License-Identifier: Apache-2.0
"""A Kaldi data folder: wav.scp and one phone CTM; segments, utt2spk and phones.txt if there.

The CTM is what `ali-to-phones --ctm-output` writes: times within the utterance, phones by name,
or by number with phones.txt. Paths in wav.scp start here or at the folder that holds it; commands
there are not run.
"""

from __future__ import annotations

import dataclasses
import pathlib

from ltlstm.recipes.speech import alignments
from ltlstm.recipes.speech.file_job import FileJob
from ltlstm.recipes.speech.labels import plain_aligned
from ltlstm.recipes.speech.recording import BadFile, DataError


def find_jobs(root: pathlib.Path) -> list[FileJob]:
    found = sorted(path for path in [*root.glob("*.ctm"), root / "ctm"] if path.is_file())
    if len(found) != 1:
        raise DataError(f"{root} must hold one phone CTM (*.ctm) beside wav.scp, got {len(found)}")
    names = {number: name for name, number in _table(root / "phones.txt")}
    try:
        utterances, errors = alignments.read_ctm(
            found[0], lambda phone: plain_aligned(names.get(phone, phone))
        )
    except BadFile as error:
        raise DataError(str(error)) from error
    wavs = dict(_table(root / "wav.scp"))
    speakers = dict(_table(root / "utt2spk"))
    if (root / "segments").is_file():
        spans = [(name, *rest.split()) for name, rest in _table(root / "segments")]
    else:
        spans = [(name, name) for name in wavs]

    jobs = []
    for span in spans:
        job = _job(root, span, wavs, speakers.get(span[0], span[1]))
        if isinstance(job.alignment, list):
            missing = BadFile(job.name, f"no line in {found[0].name}")
            alignment = errors.get(job.name) or utterances.get(job.name) or missing
            job = dataclasses.replace(job, alignment=alignment)
        jobs.append(job)
    return jobs


def _job(root: pathlib.Path, span: tuple[str, ...], wavs: dict[str, str], speaker: str) -> FileJob:
    """`span` is (utterance, recording) or, from `segments`, also start and end in s."""
    name, recording = span[0], span[1]
    place = wavs.get(recording, "")
    reason: str | None = None
    start: float = 0.0
    end: float | None = None
    if len(span) not in (2, 4):
        reason = "its line in segments must be <utterance> <recording> <start> <end>"
    elif not place:
        reason = f"no line for {recording} in wav.scp"
    elif place.endswith("|"):
        reason = "its line in wav.scp is a command, which is not run: convert it to wav or flac"
    elif len(span) == 4:
        try:
            start, end = float(span[2]), float(span[3])
            end = None if end == -1 else end  # Kaldi's word for the end of the recording
        except ValueError:
            reason = f"its times in segments must be seconds, got {span[2]} {span[3]}"
    path = root / place  # `place` alone if it is absolute
    path = path if path.exists() else pathlib.Path(place)
    return FileJob(name, speaker, path, BadFile(name, reason) if reason else [], "", start, end)


def _table(path: pathlib.Path) -> list[tuple[str, str]]:
    """Lines `key value...` of a Kaldi file; none if there is no such file."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = [line.split(maxsplit=1) for line in lines]
    return [(pair[0], pair[1].strip()) for pair in pairs if len(pair) == 2]
