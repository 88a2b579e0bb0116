# SPDX-License-Identifier: Apache-2.0
"""Synthesis: disjoint voices and sentences, repeatable; without espeak-ng one clear line."""

import pytest
import torch

from ltlstm.recipes.speech import sentences, synthesis
from ltlstm.recipes.speech.recording import SILENCE, DataError

COUNTS = {"train": 2, "dev": 1, "test": 1}


@pytest.fixture
def espeak():
    variants = tuple(f"v{k}" for k in range(104))
    return synthesis.Espeak("/nowhere/libespeak-ng.so", "", "0", variants)


def test_sentences_differ_repeat_and_hold_no_symbol():
    made = sentences.make_sentences(3000, seed=1)
    assert len(set(made)) == 3000
    assert made == sentences.make_sentences(3000, seed=1)
    assert made != sentences.make_sentences(3000, seed=2)
    assert all(text[0].isupper() and text[-1] in ".?" and "_" not in text for text in made)
    assert not any(sentences.SYMBOL.search(text) for text in made)


def test_80_8_and_16_voices_with_nothing_in_common(espeak):
    jobs = synthesis.voice_jobs(espeak, COUNTS, seed=0)
    count = {split: sum(job.split == split for job in jobs) for split in COUNTS}
    assert count == {"train": 80, "dev": 8, "test": 16}
    assert len({job.variant for job in jobs}) == 104
    spoken = [text for job in jobs for text in job.sentences]
    assert len(spoken) == len(set(spoken)) == 80 * 2 + 8 + 16
    assert len({job.seed for job in jobs}) == 104
    assert jobs == synthesis.voice_jobs(espeak, COUNTS, seed=0)


def test_too_few_voices_is_one_line():
    few = synthesis.Espeak("", "", "1.2", ("a", "b"))
    with pytest.raises(DataError, match="^espeak-ng 1.2 has 2 voice variants, more than 24 are"):
        synthesis.voice_jobs(few, COUNTS, seed=0)


def test_without_espeak_there_is_one_line(monkeypatch):
    monkeypatch.setattr(synthesis.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(synthesis.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(DataError, match="no speech synthesiser: neither espeakng-loader nor a"):
        synthesis.find_espeak()


def test_a_library_that_does_not_load_is_named(monkeypatch):
    monkeypatch.setattr(synthesis.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(synthesis.ctypes.util, "find_library", lambda name: "libnothing.so.9")
    with pytest.raises(DataError, match="libnothing.so.9 cannot be used: .*--data") as caught:
        synthesis.find_espeak()
    assert "\n" not in str(caught.value)


@pytest.fixture
def real_espeak():
    pytest.importorskip("espeakng_loader")
    return synthesis.find_espeak()


def test_a_voice_repeats_exactly_and_its_phones_are_where_it_sounds(real_espeak):
    text = ("The captain took ten black kettles.", "Peter chose a church.")
    job = synthesis.VoiceJob(real_espeak, real_espeak.variants[0], "train", text, seed=3)
    first, second = job.recordings(), job.recordings()
    assert len(first) == 2
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.samples, b.samples) and a.segments == b.segments
    for recording in first:
        seconds = len(recording.samples) / recording.rate
        spans = recording.segments
        assert all(x.start <= x.middle <= x.end for x in spans)
        assert all(x.end == y.start for x, y in zip(spans, spans[1:], strict=False))
        assert spans[-1].end == pytest.approx(seconds)
        assert {"", "t", "k", "tS"} & {x.phone for x in spans}
    stops = [x for x in first[0].segments if x.phone in ("t", "k")]
    closures = [x.middle - x.start for x in stops]
    assert max(closures) <= 0.0501 and sum(0.02 < c for c in closures) >= len(stops) // 2


def test_the_library_stays_out_of_this_process(real_espeak):
    job = synthesis.VoiceJob(real_espeak, real_espeak.variants[0], "train", ("Hello.",), seed=0)
    assert any(x.phone != SILENCE for x in job.recordings()[0].segments)
    with open("/proc/self/maps") as maps:
        assert "espeak" not in maps.read()


def test_an_unknown_voice_is_an_error(real_espeak):
    job = synthesis.VoiceJob(real_espeak, "no-such-variant", "train", ("Hello.",), seed=0)
    with pytest.raises(DataError, match="no voice variant 'no-such-variant'"):
        job.recordings()
