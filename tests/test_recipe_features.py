# SPDX-License-Identifier: Apache-2.0
"""Features: shapes, the mel band of a pure tone at any sampling rate, noise at the ratio drawn."""

import math

import pytest
import torch

from ltlstm.recipes.speech import features
from recipe_data import tone

TOP = 7600.0  # Hz


def mel(hz: float) -> float:
    return 1127.0 * math.log1p(hz / 700.0)


def band_of(hz: float) -> int:
    """The band whose centre is nearest on the mel scale."""
    low, high = mel(features.BOTTOM), mel(TOP)
    return round((mel(hz) - low) / (high - low) * (features.BANDS + 1)) - 1


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
@pytest.mark.parametrize("hz", [500.0, 1000.0, 3000.0, 6000.0])
def test_a_tone_peaks_in_its_band(hz, rate):
    frames = features.log_mel(tone(hz, 0.5, rate).float(), rate, TOP)
    assert set(frames.argmax(1).tolist()) <= {band_of(hz) - 1, band_of(hz), band_of(hz) + 1}
    assert abs(frames.mean(0).argmax().item() - band_of(hz)) <= 1


@pytest.mark.parametrize("rate", [16000, 22050])
def test_a_frame_each_10_ms_and_windows_of_25_ms(rate):
    for seconds, frames in [(0.5, 48), (0.025, 1), (0.0249, 0), (0.0, 0)]:
        found = features.log_mel(torch.zeros(round(seconds * rate)), rate, TOP)
        assert found.shape == (frames, 80)


def test_frames_do_not_drift_where_10_ms_is_no_whole_number_of_samples():
    rate, position = 22050, 60.0  # s; 220.5 samples a frame
    samples = torch.zeros(round(61 * rate))
    samples[round(position * rate)] = 1.0
    heard = (features.log_mel(samples, rate, TOP).amax(1) > math.log(1e-6)).nonzero().flatten()
    # The click lies within [0.01 k, 0.01 k + 0.025]; the window's ends weigh nothing.
    assert heard.tolist() == [5998, 5999]


def test_silence_is_finite():
    assert features.log_mel(torch.zeros(800), 16000, TOP).isfinite().all()


def test_three_frames_make_one_and_a_rest_is_dropped():
    frames = torch.arange(8 * 80).view(8, 80)
    found = features.stacked(frames)
    assert found.shape == (2, 240)
    assert torch.equal(found[1], frames[3:6].flatten())


def test_noise_has_the_ratio_drawn_and_repeats():
    speech = tone(440.0, 2.0).float()
    for seed in range(8):
        noisy = features.add_noise(speech, torch.Generator().manual_seed(seed))
        again = features.add_noise(speech, torch.Generator().manual_seed(seed))
        assert torch.equal(noisy, again)
        noise = noisy - speech
        drawn = torch.rand(2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        ratio = 10 * torch.log10(speech.square().mean() / noise.square().mean())
        assert ratio.item() == pytest.approx(20 * drawn[0].item(), abs=0.05)


def test_every_band_hears_something():
    for rate in (16000, 22050, 44100):
        size = 1 << (round(features.WINDOW * rate) - 1).bit_length()
        assert (features.mel_filters(rate, size, TOP).sum(0) > 0).all()
