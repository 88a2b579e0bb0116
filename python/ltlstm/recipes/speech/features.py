# SPDX-License-Identifier: Apache-2.0
"""Log-mel features: 80 bands every 10 ms, three frames stacked and every third kept (30 ms).

Frames start at exact multiples of 10 ms, rounded to a sample, so any sampling rate from twice the
top frequency on gives comparable features without resampling.
"""

from __future__ import annotations

import functools
import math

import torch

WINDOW = 0.025  # s
HOP = 0.010  # s
STACK = 3  # frames in one input of the network; also how many it advances
FRAME_PERIOD = STACK * HOP  # s from one input, and one label, to the next
FRAME_CENTRE = ((STACK - 1) * HOP + WINDOW) / 2  # s from an input's first sample to its middle
BANDS = 80
BOTTOM = 40.0  # Hz
FLOOR = 1e-8  # of the power in a band, samples being in [-1, 1): no logarithm of zero


def log_mel(samples: torch.Tensor, rate: int, top: float) -> torch.Tensor:
    """(n,) samples at `rate` Hz -> (frames, 80), the bands reaching from 40 Hz to `top` Hz."""
    width = round(WINDOW * rate)
    count = math.floor((len(samples) - width) / (HOP * rate)) + 1
    if count < 1:
        return samples.new_empty(0, BANDS)
    starts = (torch.arange(count, dtype=torch.float64) * (HOP * rate)).floor().long()
    frames = samples[starts[:, None] + torch.arange(width)] * _window(width)
    size = 1 << (width - 1).bit_length()
    power = torch.fft.rfft(frames, size).abs().square() / width
    return (power @ mel_filters(rate, size, top)).clamp(min=FLOOR).log()


def stacked(frames: torch.Tensor) -> torch.Tensor:
    """(frames, 80) -> (frames // 3, 240)."""
    count = len(frames) // STACK
    return frames[: count * STACK].reshape(count, STACK * frames.shape[1])


def frame_times(count: int) -> list[float]:
    """The time (s) in the middle of each of `count` stacked frames: where its label is read."""
    return [k * FRAME_PERIOD + FRAME_CENTRE for k in range(count)]


@functools.lru_cache
def mel_filters(rate: int, size: int, top: float) -> torch.Tensor:
    """(size // 2 + 1, 80): triangles, equally wide on the mel scale."""
    hz = torch.arange(size // 2 + 1, dtype=torch.float64) * rate / size
    edges = torch.linspace(_mel(BOTTOM), _mel(top), BANDS + 2, dtype=torch.float64)
    mel = 1127.0 * torch.log1p(hz / 700.0)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (mel[:, None] - left) / (centre - left)
    falling = (right - mel[:, None]) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0).float()


def _mel(hz: float) -> float:
    return 1127.0 * math.log1p(hz / 700.0)


@functools.lru_cache
def _window(width: int) -> torch.Tensor:
    return torch.hann_window(width, periodic=False)


def add_noise(samples: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Noise at an SNR drawn from 0 to 20 dB, its colour from white to pink.

    Synthetic speech is never heard without: its exact silences would give the labels away.
    """
    draws = torch.rand(2, generator=generator, dtype=torch.float64)
    snr_db, tilt = 20.0 * float(draws[0]), float(draws[1])
    size = 1 << max(1, len(samples) - 1).bit_length()
    spectrum = torch.fft.rfft(torch.randn(size, generator=generator))
    falloff = torch.arange(size // 2 + 1).clamp(min=1).float().pow(-tilt / 2)
    noise = torch.fft.irfft(spectrum * falloff, size)[: len(samples)]
    loud = samples[samples != 0]
    if len(loud) == 0:
        return samples
    ratio = loud.square().mean() / noise.square().mean() / 10 ** (snr_db / 10)
    return samples + noise * ratio.sqrt()
