# SPDX-License-Identifier: Apache-2.0
"""Senone labels: closures go to their stops, stress goes, every frame reads the right state."""

import pytest
import torch

from ltlstm.recipes.speech import features, labels
from ltlstm.recipes.speech.recording import SILENCE, Segment, halved

RATE = 1000  # Hz: a sample a millisecond


def sounding_but_for(*silences: tuple[int, int], length: int = 400) -> torch.Tensor:
    samples = torch.full((length,), 7, dtype=torch.int16)
    for start, end in silences:
        samples[start:end] = 0
    return samples


def test_the_silence_before_a_stop_becomes_its_first_state():
    events = [(0, "'a"), (140, "t"), (200, "I"), (300, "_:")]
    segments = labels.segments_of_events(events, sounding_but_for((100, 140)), RATE)
    assert segments == [
        Segment("a", 0.0, 0.05, 0.1),
        Segment("t", 0.1, 0.14, 0.2),
        Segment("I", 0.2, 0.25, 0.3),
        Segment(SILENCE, 0.3, 0.35, 0.4),
    ]


def test_a_pause_keeps_what_exceeds_a_closure():
    events = [(0, "_:"), (200, "tS"), (300, "a")]
    segments = labels.segments_of_events(events, sounding_but_for((0, 200)), RATE)
    assert segments[0] == halved(SILENCE, 0.0, 0.15)
    assert segments[1] == Segment("tS", 0.15, 0.2, 0.3)


@pytest.mark.parametrize("phone", ["s", "D", "T", "a"])
def test_only_stops_and_affricates_have_a_closure(phone):
    events = [(0, "i"), (140, phone)]
    segments = labels.segments_of_events(events, sounding_but_for((100, 140)), RATE)
    assert segments[1].start == 0.14


def test_a_voiced_closure_leaves_two_equal_states():
    segments = labels.segments_of_events([(0, "a"), (200, "b")], sounding_but_for(), RATE)
    assert segments[1] == halved("b", 0.2, 0.4)


def test_a_closure_reaches_no_further_back_than_the_phone_before():
    events = [(0, "a"), (120, "s"), (140, "t")]
    segments = labels.segments_of_events(events, sounding_but_for((50, 140)), RATE)
    assert [s.start for s in segments] == [0.0, 0.12, 0.12]
    assert segments[1].end == 0.12  # nothing of it sounds


def test_no_events_no_segments():
    assert labels.segments_of_events([], sounding_but_for(), RATE) == []


@pytest.mark.parametrize(
    ("mnemonic", "phone"),
    [("'a", "a"), (",aU", "aU"), ("@2", "@2"), ("_", SILENCE), ("_:", SILENCE), ("", SILENCE)],
)
def test_espeak_names(mnemonic, phone):
    assert labels.plain_espeak(mnemonic) == phone


@pytest.mark.parametrize(
    ("name", "phone"),
    [
        ("AH0", "AH"),
        ("AH1_B", "AH"),
        ("T_E", "T"),
        ("SIL", SILENCE),
        ("SIL_S", SILENCE),
        ("h#", SILENCE),
        ("<eps>", SILENCE),
        ("", SILENCE),
        ("ix", "ix"),
        ("q", "q"),
    ],
)
def test_aligned_names(name, phone):
    assert labels.plain_aligned(name) == phone


def test_frames_read_the_state_at_their_time_and_silence_where_there_is_no_phone():
    segments = [Segment("a", 0.1, 0.13, 0.2), Segment("b", 0.2, 0.25, 0.3)]
    times = [0.05, 0.1, 0.129, 0.13, 0.199, 0.2, 0.26, 0.3, 0.9]
    expected = ["", "a0", "a0", "a1", "a1", "b0", "b1", "", ""]
    found = labels.frame_labels(segments, times)
    assert [phone + str(state) if phone else "" for phone, state in found] == expected


def test_a_label_is_read_in_the_middle_of_its_stacked_frame():
    # Three windows of 25 ms, 10 ms apart: the first covers 0 to 45 ms, the next comes 30 ms later.
    assert features.frame_times(3) == pytest.approx([0.0225, 0.0525, 0.0825])


def test_spoken_phones_leave_silence_out():
    spans = [halved("", 0, 1), halved("a", 1, 2), halved("a", 2, 3), halved("", 3, 4)]
    assert labels.phone_sequence(spans) == ["a", "a"]
