# SPDX-License-Identifier: Apache-2.0
"""Speech from espeak-ng with exact phone times: 104 voices, each spoken by a process of its own.

This side never loads the GPL library: it starts espeak_process.py and reads its pipe.
"""

from __future__ import annotations

import ctypes.util
import dataclasses
import importlib.util
import json
import pathlib
import random
import subprocess
import sys
from typing import Any

import torch

from ltlstm.recipes.speech import features
from ltlstm.recipes.speech.labels import segments_of_events
from ltlstm.recipes.speech.recording import DataError, Recording
from ltlstm.recipes.speech.sentences import make_sentences

SCRIPT = pathlib.Path(__file__).with_name("espeak_process.py")
LANGUAGE = "en-us"
DEV_VOICES, TEST_VOICES = 8, 16  # of 104; the others train


@dataclasses.dataclass(frozen=True)
class Espeak:
    library: str
    data: str  # a folder; "" for the library's own
    version: str
    variants: tuple[str, ...]


def find_espeak() -> Espeak:
    """The first of espeakng-loader's library and the system's that works here."""
    candidates = []
    # Found, not imported: its functions are not needed, and nothing of it may be loaded here.
    spec = importlib.util.find_spec("espeakng_loader")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(pathlib.Path(folder).glob("*espeak-ng.*")):
            candidates.append((str(path), str(path.with_name("espeak-ng-data"))))
    system = ctypes.util.find_library("espeak-ng")
    if system:
        candidates.append((system, ""))

    failures = []
    for library, data in candidates:
        try:
            reply = json.loads(_run({"library": library, "data": data, "list": True}))
        except DataError as error:
            failures.append(str(error))
            continue
        return Espeak(library, data, reply["version"], tuple(reply["variants"]))
    reason = "; ".join(failures) or "neither espeakng-loader nor a system libespeak-ng is installed"
    raise DataError(
        f"no speech synthesiser: {reason} (pip install espeakng-loader, or install espeak-ng, "
        "or read a corpus with --data)"
    )


@dataclasses.dataclass(frozen=True)
class VoiceJob:
    """One voice and all it says: made in one fresh process, so that it repeats exactly."""

    espeak: Espeak
    variant: str
    split: str
    sentences: tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        return self.variant

    def recordings(self) -> list[Recording]:
        request = {
            "library": self.espeak.library,
            "data": self.espeak.data,
            "voice": f"{LANGUAGE}+{self.variant}",
            "seed": self.seed,
            "sentences": self.sentences,
        }
        noise = torch.Generator().manual_seed(self.seed)
        made = []
        for k, (header, samples) in enumerate(_split_reply(_run(request))):
            events = [(position, mnemonic) for position, mnemonic in header["phones"]]
            segments = segments_of_events(events, samples, header["rate"])
            noisy = features.add_noise(samples.float() / 32768, noise)
            name = f"{self.variant} {k + 1}"
            made.append(Recording(name, self.split, noisy, header["rate"], segments))
        return made


def voice_jobs(espeak: Espeak, sentences: dict[str, int], seed: int) -> list[VoiceJob]:
    """A job for each voice; `sentences` a voice, by split. No voice and no sentence is in two
    splits."""
    order = list(espeak.variants)
    if len(order) <= DEV_VOICES + TEST_VOICES:
        raise DataError(
            f"espeak-ng {espeak.version} has {len(order)} voice variants, "
            f"more than {DEV_VOICES + TEST_VOICES} are needed"
        )
    shuffler = random.Random(seed)
    order.sort(key=lambda _: shuffler.random())
    splits = ["dev"] * DEV_VOICES + ["test"] * TEST_VOICES
    splits += ["train"] * (len(order) - len(splits))
    texts = iter(make_sentences(sum(sentences[split] for split in splits), seed))
    return [
        VoiceJob(
            espeak,
            variant,
            split,
            tuple(next(texts) for _ in range(sentences[split])),
            seed=seed * len(order) + k,
        )
        for k, (variant, split) in enumerate(zip(order, splits, strict=True))
    ]


def _run(request: dict[str, Any]) -> bytes:
    # -I: nothing of this project, its environment variables or its folders reaches the process.
    done = subprocess.run(
        [sys.executable, "-I", str(SCRIPT)],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"espeak-ng's process ended with {done.returncode}"
        raise DataError(reason)
    return done.stdout


def _split_reply(reply: bytes) -> list[tuple[dict[str, Any], torch.Tensor]]:
    parts = []
    at = 0
    while at < len(reply):
        line_end = reply.index(b"\n", at)
        header = json.loads(reply[at:line_end])
        at = line_end + 1 + 2 * header["samples"]
        samples = torch.frombuffer(bytearray(reply[line_end + 1 : at]), dtype=torch.int16)
        parts.append((header, samples))
    return parts
