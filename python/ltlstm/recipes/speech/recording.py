# SPDX-License-Identifier: Apache-2.0
"""What every source of speech hands on: a recording with its phones, or the word that it is bad."""

from __future__ import annotations

import dataclasses

import torch

SPLITS = ("train", "dev", "test")
SILENCE = ""  # the phone name of everything that is no phone


class BadFile(Exception):
    """An audio or alignment file that cannot be used: it is named, counted and skipped."""

    def __init__(self, name: object, reason: object) -> None:
        super().__init__(f"{name}: {reason}")


class DataError(Exception):
    """The corpus as a whole cannot be used: one line that says why."""


@dataclasses.dataclass(frozen=True)
class Segment:
    phone: str  # without stress; SILENCE for silence
    start: float  # s
    middle: float  # s, where the second of the phone's two states begins
    end: float  # s


@dataclasses.dataclass(frozen=True)
class Recording:
    name: str
    split: str  # "train", "dev" or "test"
    samples: torch.Tensor  # (n,) float32 in [-1, 1)
    rate: int  # Hz
    segments: list[Segment]  # in order of time, not overlapping


def halved(phone: str, start: float, end: float) -> Segment:
    """A segment whose two states last equally long."""
    return Segment(phone, start, (start + end) / 2, end)
