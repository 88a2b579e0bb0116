# SPDX-License-Identifier: Apache-2.0
"""Real corpora on disk: a folder of wav or flac with alignments, or a Kaldi data folder (kaldi.py).

A folder holds NAME.wav or NAME.flac anywhere below, with NAME.TextGrid, NAME.phn or NAME.ctm
beside it. The speaker is the folder that a file lies in. Folders named train, dev and test at the
top (in any case) split the corpus; else the speakers do.
"""

from __future__ import annotations

import dataclasses
import pathlib
import random

from ltlstm.recipes.speech import alignments, audio, kaldi
from ltlstm.recipes.speech.file_job import FileJob
from ltlstm.recipes.speech.recording import SPLITS, BadFile, DataError

# Of the speakers, as of the 104 synthetic voices: 80, 8 and 16.
DEV_SHARE, TEST_SHARE = 8 / 104, 16 / 104


def find_jobs(root: pathlib.Path, seed: int) -> tuple[list[FileJob], str]:
    """Every utterance below `root`, with its split; and how the corpus was split, in words."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    jobs = kaldi.find_jobs(root) if (root / "wav.scp").is_file() else _folder_jobs(root)
    return split_jobs(jobs, seed)


def split_jobs(jobs: list[FileJob], seed: int) -> tuple[list[FileJob], str]:
    given = {job.split for job in jobs} - {""}
    if {"train", "dev", "test"} <= given:
        return [job for job in jobs if job.split], "as its folders say"
    if {"train", "test"} <= given:
        jobs = [job for job in jobs if job.split]
        unit_of = {job.name: job.speaker for job in jobs if job.split == "train"}
        shares, how = {"dev": DEV_SHARE}, "train and test as its folders say, dev by speaker"
    else:
        unit_of = {job.name: job.speaker for job in jobs}
        shares = {"dev": DEV_SHARE, "test": TEST_SHARE}
        how = "by speaker (none is in two sets)"
    if len(set(unit_of.values())) < len(shares) + 1:
        unit_of = {name: name for name in unit_of}
        how = how.partition(" (")[0].replace("by speaker", "by utterance (too few speakers)")

    units = sorted(set(unit_of.values()))
    shuffler = random.Random(seed)
    units.sort(key=lambda _: shuffler.random())
    split_of_unit = dict.fromkeys(units, "train")
    at = 0
    for split, share in shares.items():
        count = max(1, round(share * len(units)))
        split_of_unit.update(dict.fromkeys(units[at : at + count], split))
        at += count
    split_of = {name: split_of_unit[unit] for name, unit in unit_of.items()}
    return [dataclasses.replace(job, split=split_of.get(job.name, job.split)) for job in jobs], how


def _folder_jobs(root: pathlib.Path) -> list[FileJob]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    alignment_of = {
        path.with_suffix(""): path for path in files if path.suffix.lower() in alignments.SUFFIXES
    }
    jobs = []
    for path in files:
        if path.suffix.lower() not in audio.SUFFIXES:
            continue
        missing = BadFile(path, "no alignment beside it (.TextGrid, .phn or .ctm)")
        alignment = alignment_of.get(path.with_suffix(""), missing)
        parts = path.relative_to(root).parts
        split = parts[0].lower() if len(parts) > 1 and parts[0].lower() in SPLITS else ""
        name = path.relative_to(root).with_suffix("").as_posix()
        speaker = path.parent.relative_to(root).as_posix()
        jobs.append(FileJob(name, speaker, path, alignment, split))
    return jobs
