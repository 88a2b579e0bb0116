# SPDX-License-Identifier: Apache-2.0
"""Small speech corpora for the recipe's tests: a tone for each phone, files as tools write them."""

import contextlib
import random
import wave
from pathlib import Path

import torch

RATE = 16000  # Hz
TONES = {"AA": 300.0, "T": 2000.0, "IY": 800.0, "S": 5000.0, "SIL": 0.0}  # Hz
PHONE = 0.09  # s


def tone(hz: float, seconds: float, rate: int = RATE) -> torch.Tensor:
    """(n,) float64, amplitude one half."""
    return 0.5 * torch.sin(2 * torch.pi * hz * torch.arange(round(seconds * rate)).double() / rate)


def write_wav(path: Path, samples: torch.Tensor, rate: int = RATE, width: int = 2, channels=1):
    """PCM, `width` bytes a sample, the same samples in each channel."""
    peak = 256**width // 2
    values = (samples.double() * peak).round().clamp(-peak, peak - 1).long()
    values = (values + (peak if width == 1 else 0)).repeat_interleave(channels)
    data = b"".join(int(v).to_bytes(width, "little", signed=width > 1) for v in values)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)


def utterance(seed: int, phones: int = 8) -> tuple[torch.Tensor, list[tuple[float, float, str]]]:
    """Samples, and (start s, end s, phone) of each of its phones."""
    generator = random.Random(seed)
    names = ["SIL", *(generator.choice(["AA", "T", "IY", "S"]) for _ in range(phones)), "SIL"]
    noise = 0.01 * torch.randn(
        round(PHONE * RATE) * len(names), generator=torch.Generator().manual_seed(seed)
    )
    samples = torch.cat([tone(TONES[name], PHONE) for name in names]) + noise
    return samples, [(k * PHONE, (k + 1) * PHONE, name) for k, name in enumerate(names)]


def ctm_lines(name: str, spans: list[tuple[float, float, str]]) -> str:
    return "".join(f"{name} 1 {start:.2f} {end - start:.2f} {p}\n" for start, end, p in spans)


def no_bar(title: str, total: int):
    """For progress that nobody watches."""
    return contextlib.nullcontext(lambda done, note: None)


def make_folder(root: Path, speakers: int = 6, utterances: int = 4, phones: int = 8) -> Path:
    """A folder for each speaker, wav and CTM side by side."""
    for s in range(speakers):
        for u in range(utterances):
            samples, spans = utterance(100 * s + u, phones)
            path = root / f"speaker{s}" / f"u{u}.wav"
            write_wav(path, samples)
            path.with_suffix(".ctm").write_text(ctm_lines(f"u{u}", spans))
    return root
