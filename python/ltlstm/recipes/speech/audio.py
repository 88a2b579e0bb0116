# SPDX-License-Identifier: Apache-2.0
"""Samples of a wav or flac file. PCM wav needs only the standard library, the rest soundfile.

Several channels are averaged.
"""

from __future__ import annotations

import pathlib
import sys
import wave

import torch

from ltlstm.recipes.speech.recording import BadFile

SUFFIXES = (".wav", ".flac")


def read_audio(path: pathlib.Path) -> tuple[torch.Tensor, int]:
    """(n,) float32 samples in [-1, 1) and the sampling rate in Hz."""
    try:
        if path.suffix.lower() == ".wav" and (pcm := _read_pcm_wav(path)) is not None:
            return pcm
        return _read_with_soundfile(path)
    except (OSError, EOFError, RuntimeError) as error:  # soundfile's errors are RuntimeErrors
        raise BadFile(path, str(error) or "it ends too early") from error


def _read_pcm_wav(path: pathlib.Path) -> tuple[torch.Tensor, int] | None:
    """None for a wav of a kind that the standard library does not read (float, a-law, ...)."""
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            announced = file.getnframes()
            data = bytearray(file.readframes(announced))
    except wave.Error as error:
        if "unknown format" in str(error):
            return None
        raise BadFile(path, error) from error
    if len(data) != announced * channels * width:
        raise BadFile(path, f"it ends after {len(data)} of {announced * channels * width} bytes")
    if not data:
        raise BadFile(path, "it holds no samples")
    return _decode(data, width).view(-1, channels).mean(1), rate


def _decode(data: bytearray, width: int) -> torch.Tensor:
    """Little-endian PCM of `width` bytes a sample; one byte is unsigned, as wav has it."""
    octets = torch.frombuffer(data, dtype=torch.uint8).view(-1, width).int()
    if width == 1:
        return (octets[:, 0] - 128).float() / 128
    value = octets[:, -1] - 256 * (octets[:, -1] >= 128).int()
    for k in range(width - 2, -1, -1):
        value = value * 256 + octets[:, k]
    return (value.double() / 256**width * 2).float()


def _read_with_soundfile(path: pathlib.Path) -> tuple[torch.Tensor, int]:
    try:
        import soundfile  # type: ignore[import-not-found,import-untyped]
    except ImportError:
        command = f"{sys.executable} -m pip install soundfile"
        raise BadFile(path, f"reading it needs soundfile: {command}") from None
    samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    if len(samples) == 0:
        raise BadFile(path, "it holds no samples")
    return torch.from_numpy(samples).mean(1), int(rate)
