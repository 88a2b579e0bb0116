# SPDX-License-Identifier: Apache-2.0
"""Single files: every kind of PCM wav and of alignment is read, a bad one says why."""

import sys

import pytest
import torch

from ltlstm.recipes.speech import alignments, audio
from ltlstm.recipes.speech.recording import SILENCE, BadFile, halved
from recipe_data import RATE, tone, write_wav


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_pcm_wav_of_any_width_needs_no_package(tmp_path, width, channels):
    samples = tone(440.0, 0.01)
    write_wav(tmp_path / "a.wav", samples, width=width, channels=channels)
    found, rate = audio.read_audio(tmp_path / "a.wav")
    assert rate == RATE
    # Half a quantum, and float32's own rounding for the widest.
    assert (found - samples).abs().max() <= 1 / 256**width + 1e-7


def test_a_cut_wav_is_bad(tmp_path):
    path = tmp_path / "a.wav"
    write_wav(path, tone(440.0, 0.1))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadFile, match=r"a\.wav: it ends after 3100 of 3200 bytes"):
        audio.read_audio(path)


@pytest.mark.parametrize("content", [b"", b"no sound at all", b"RIFF\x00\x00\x00\x00WAVE"])
def test_what_is_no_wav_is_bad(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(BadFile, match=r"a\.wav: \w+"):
        audio.read_audio(path)


def test_a_wav_without_samples_is_bad(tmp_path):
    write_wav(tmp_path / "a.wav", torch.empty(0))
    with pytest.raises(BadFile, match="it holds no samples"):
        audio.read_audio(tmp_path / "a.wav")


def test_flac_without_soundfile_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    (tmp_path / "a.flac").write_bytes(b"fLaC")
    with pytest.raises(BadFile, match="reading it needs soundfile: .* -m pip install soundfile"):
        audio.read_audio(tmp_path / "a.flac")


def test_flac(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    samples = torch.stack([tone(440.0, 0.1), torch.zeros(1600)], 1)
    soundfile.write(str(tmp_path / "a.flac"), samples.numpy(), RATE)
    found, rate = audio.read_audio(tmp_path / "a.flac")
    assert rate == RATE
    assert (found - samples.mean(1)).abs().max() < 1e-4
    (tmp_path / "b.flac").write_bytes((tmp_path / "a.flac").read_bytes()[:50])
    with pytest.raises(BadFile, match=r"b\.flac: \w+"):
        audio.read_audio(tmp_path / "b.flac")


def test_ctm_by_utterance(tmp_path):
    path = tmp_path / "a.ctm"
    path.write_text(";; comment\nu1 1 0.50 0.10 AH1_B 0.9\nu1 1 0.00 0.50 SIL\n\nu2 A 0 1 T\n")
    utterances, errors = alignments.read_ctm(path)
    assert errors == {}
    assert utterances["u1"] == [halved(SILENCE, 0.0, 0.5), halved("AH", 0.5, 0.6)]
    assert utterances["u2"] == [halved("T", 0.0, 1.0)]


def test_a_bad_ctm_line_spoils_its_utterance_only(tmp_path):
    path = tmp_path / "a.ctm"
    path.write_text("u1 1 0 1 T\nu2 1 0 1 T\nu2 1 one 1 T\nu3 1 0 1 T\nu3 1 0.5 1 T\n")
    utterances, errors = alignments.read_ctm(path)
    assert list(utterances) == ["u1"]
    assert "line 3 must be <utterance> <channel> <start> <duration> <phone>" in str(errors["u2"])
    assert "two phones overlap at 0.500 s" in str(errors["u3"])


def test_phn_counts_samples(tmp_path):
    path = tmp_path / "a.phn"
    path.write_text("0 8000 h#\n8000 16000 ix\n")
    found = alignments.read_alignment(path, 16000)
    assert found == [halved(SILENCE, 0.0, 0.5), halved("ix", 0.5, 1.0)]
    path.write_text("0 8000\n")
    with pytest.raises(BadFile, match="line 1 must be <first sample> <end sample> <phone>"):
        alignments.read_alignment(path, 16000)


LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = "say ""12"" times"
    item [2]:
        class = "IntervalTier"
        name = "speaker - phones"
        xmin = 0
        xmax = 1.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 1e0
            text = "EY1"
        intervals [3]:
            xmin = 1
            xmax = 1.5
            text = "spn"
"""
SHORT = (
    'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n1.5\n<exists>\n1\n"IntervalTier"\n'
    '"phones"\n0\n1.5\n3\n0\n0.5\n""\n0.5\n1\n"EY1"\n1\n1.5\n"spn"\n'
)


@pytest.mark.parametrize("text", [LONG, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_textgrid(tmp_path, text, encoding):
    path = tmp_path / "a.TextGrid"
    path.write_text(text, encoding=encoding)
    found = alignments.read_alignment(path, 16000)
    assert found == [halved(SILENCE, 0, 0.5), halved("EY", 0.5, 1), halved(SILENCE, 1, 1.5)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SHORT.replace("phones", "words"), "no interval tier named 'phones'"),
        (SHORT[: SHORT.index("EY1")], "its tier 'phones' is not complete"),
        (SHORT.replace("EY1", "sil"), "it has no phone"),
        (SHORT.replace("0.5\n1\n", "0.5\n0.2\n"), "'EY' lasts from 0.5 to 0.2 s"),
        ("\x00\x01", "no interval tier"),
    ],
)
def test_a_bad_textgrid_says_why(tmp_path, text, reason):
    path = tmp_path / "a.TextGrid"
    path.write_text(text)
    with pytest.raises(BadFile, match=reason):
        alignments.read_alignment(path, 16000)
