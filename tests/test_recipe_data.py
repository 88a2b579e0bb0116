# SPDX-License-Identifier: Apache-2.0
"""Real corpora: every kind of wav and alignment is read, a bad file is named, counted, skipped."""

import pytest
import torch

from ltlstm.recipes.speech import alignments, audio, corpus, folder
from ltlstm.recipes.speech.recording import SILENCE, BadFile, DataError, halved
from recipe_data import PHONE, RATE, ctm_lines, make_folder, tone, utterance, write_wav

TOP = 7600  # Hz


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
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    (tmp_path / "a.flac").write_bytes(b"fLaC")
    with pytest.raises(BadFile, match="reading it needs soundfile: .* -m pip install soundfile"):
        audio.read_audio(tmp_path / "a.flac")


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


def made(root, workers=2):
    jobs, how = folder.find_jobs(root, seed=0)
    return corpus.make(jobs, "name", TOP, workers), how


def test_a_folder_becomes_a_corpus_split_by_speaker(tmp_path):
    found, how = made(make_folder(tmp_path))
    assert how == "by speaker" and found.skipped == []
    assert found.phones == [SILENCE, "AA", "IY", "S", "T"] and found.senones == 9
    speakers = {
        split: {name.split("/")[0] for name in content.names}
        for split, content in found.splits.items()
    }
    assert sorted(len(names) for names in speakers.values()) == [1, 1, 4]
    assert len(set.union(*speakers.values())) == 6
    train = found.splits["train"]
    assert len(train.features) == len(train.labels) == sum(train.lengths)
    assert train.features.float().mean(0).abs().max() < 0.1
    # Each utterance: 10 segments of 90 ms, of which the first and last are silence; the label
    # comes 60 ms late and the last 15 ms have no whole window.
    labels = train.labels[: train.lengths[0]].tolist()
    assert labels[:2] == [corpus.IGNORED] * 2
    assert labels[2:5] == [0, 0, 0] and labels[-2:] == [0, 0] and len(labels) == 29 + corpus.DELAY
    _, spans = utterance(100 * int(train.names[0].split("/")[0][-1]))
    first = found.phones.index(spans[1][2])
    assert labels[5:8] == [2 * first - 1, 2 * first, 2 * first]
    assert train.spoken[0] == [found.phones.index(phone) for _, _, phone in spans[1:-1]]


def test_a_corpus_does_not_depend_on_the_workers(tmp_path):
    make_folder(tmp_path, utterances=2)
    one, three = made(tmp_path, workers=1)[0], made(tmp_path, workers=3)[0]
    for split in corpus.SPLITS:
        assert torch.equal(one.splits[split].features, three.splits[split].features)
        assert one.splits[split].names == three.splits[split].names


def test_folders_named_train_dev_test_split(tmp_path):
    for split in ("TRAIN", "dev", "Test"):
        make_folder(tmp_path / split, speakers=1, utterances=1)
    found, how = made(tmp_path)
    assert "folders" in how
    assert [len(found.splits[split].names) for split in corpus.SPLITS] == [1, 1, 1]


def test_dev_is_taken_from_train_where_only_train_and_test_are_named(tmp_path):
    make_folder(tmp_path / "train", speakers=3, utterances=1)
    make_folder(tmp_path / "test", speakers=1, utterances=1)
    found, how = made(tmp_path)
    assert "dev by speaker" in how
    assert [len(found.splits[split].names) for split in corpus.SPLITS] == [2, 1, 1]


def test_one_speaker_is_split_by_utterance_and_that_is_said(tmp_path):
    found, how = made(make_folder(tmp_path, speakers=1))
    assert "so few speakers: split by utterance" in how
    assert [len(found.splits[split].names) for split in corpus.SPLITS] == [2, 1, 1]


def test_bad_files_are_named_counted_and_skipped(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "speaker0" / "u0.wav").write_bytes(b"junk")
    (tmp_path / "speaker1" / "u1.ctm").write_text("u1 1 zero 1 AA\n")
    (tmp_path / "speaker2" / "u2.ctm").unlink()
    (tmp_path / "speaker3" / "u3.ctm").write_text("u3 1 0.0 99.0 AA\n")
    write_wav(tmp_path / "speaker4" / "u0.wav", tone(440.0, 1.0, 8000), rate=8000)
    write_wav(tmp_path / "speaker5" / "u1.wav", tone(440.0, 0.02))
    (tmp_path / "speaker5" / "u1.ctm").write_text("u1 1 0.0 0.02 AA\n")
    found, _ = made(tmp_path)
    reasons = [
        ("speaker0/u0.wav", "it ends too early"),
        ("speaker1/u1.ctm", "line 1 must be"),
        ("speaker2/u2.wav", "no alignment beside it"),
        ("speaker3/u3.ctm", "its alignment ends at 99.00 s, the audio at 0.90 s"),
        ("speaker4/u0", "sampled at 8000 Hz, too low .*--top 4000 would take it"),
        ("speaker5/u1", "320 samples are less than a frame"),
    ]
    assert len(found.skipped) == len(reasons)
    for line, (name, reason) in zip(found.skipped, reasons, strict=True):
        assert name in line
        with pytest.raises(BadFile, match=reason):
            raise BadFile("line", line)
    assert sum(len(content.names) for content in found.splits.values()) == 24 - 6


def test_an_empty_corpus_is_one_line(tmp_path):
    with pytest.raises(DataError, match="^empty corpus: nothing for train, dev, test; 0 usable"):
        made(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"1 bad ones skipped \(the first: .*a\.wav"):
        made(tmp_path)
    with pytest.raises(DataError, match="nowhere is not a folder"):
        folder.find_jobs(tmp_path / "nowhere", seed=0)


def test_a_phone_that_training_lacks_is_not_scored_but_counts_as_spoken(tmp_path):
    for split in ("train", "dev", "test"):
        make_folder(tmp_path / split, speakers=1, utterances=1)
    path = tmp_path / "test" / "speaker0" / "u0.ctm"
    path.write_text("u0 1 0.0 0.45 AA\nu0 1 0.45 0.45 ZH\n")
    found, _ = made(tmp_path)
    test = found.splits["test"]
    assert "ZH" not in found.phones
    assert test.spoken == [[1, len(found.phones)]]
    assert test.labels[-1] == corpus.IGNORED and test.labels[2] == 1


def kaldi(root, segments=True):
    """Six recordings, each after a second of silence, which the segments cut off."""
    root.mkdir(exist_ok=True)
    scp, cuts, ctm, speakers = "", "", "", ""
    for s in range(6):
        samples, spans = utterance(s)
        write_wav(root / "audio" / f"r{s}.wav", torch.cat([torch.zeros(RATE), samples]))
        name = f"u{s}" if segments else f"r{s}"
        length = len(spans) * PHONE
        scp += f"r{s} audio/r{s}.wav\n"
        cuts += f"u{s} r{s} 1.0 {1.0 + length:.2f}\n"
        offset = 0.0 if segments else 1.0
        ctm += ctm_lines(name, [(a + offset, b + offset, p) for a, b, p in spans])
        speakers += f"{name} s{s}\n"
    (root / "wav.scp").write_text(scp)
    (root / "phones.ctm").write_text(ctm)
    (root / "utt2spk").write_text(speakers)
    if segments:
        (root / "segments").write_text(cuts)
    return root


@pytest.mark.parametrize("segments", [True, False])
def test_a_kaldi_folder(tmp_path, segments):
    found, how = made(kaldi(tmp_path, segments))
    assert how == "by speaker" and found.skipped == []
    assert found.phones == [SILENCE, "AA", "IY", "S", "T"]
    assert [len(found.splits[split].names) for split in corpus.SPLITS] == [4, 1, 1]
    assert found.splits["train"].lengths[0] == (29 if segments else 29 + 33) + corpus.DELAY


def test_kaldi_phone_numbers_are_looked_up(tmp_path):
    kaldi(tmp_path)
    numbers = {"SIL": 1, "AA": 2, "IY": 3, "S": 4, "T": 5}
    (tmp_path / "phones.txt").write_text("".join(f"{p}_B {n}\n" for p, n in numbers.items()))
    lines = [line.split() for line in (tmp_path / "phones.ctm").read_text().splitlines()]
    text = "".join(f"{u} {c} {s} {d} {numbers[p]}\n" for u, c, s, d, p in lines)
    (tmp_path / "phones.ctm").write_text(text)
    assert made(tmp_path)[0].phones == [SILENCE, "AA", "IY", "S", "T"]


def test_bad_kaldi_lines_are_named_counted_and_skipped(tmp_path):
    kaldi(tmp_path)
    with (tmp_path / "wav.scp").open("a") as file:
        file.write("r7 sph2pipe -f wav r7.sph |\n")
    with (tmp_path / "segments").open("a") as file:
        file.write("u7 r7 0 1\nu8 r0 zero 1\nu9 r9 0 1\nv0 r0 0 99\nv1 r0 0 1\nv2 r0 1\n")
    with (tmp_path / "phones.ctm").open("a") as file:
        file.write("v0 1 0 1 AA\n")
    found, _ = made(tmp_path)
    reasons = ["is a command", "must be seconds, got zero 1", "no line for r9 in wav.scp"]
    reasons += ["v0 is 0.00 to 99.00 s of it", "no line in phones.ctm", "its line in segments"]
    assert len(found.skipped) == len(reasons)
    assert all(reason in line for line, reason in zip(found.skipped, reasons, strict=True))


def test_kaldi_without_one_ctm_is_one_line(tmp_path):
    kaldi(tmp_path)
    (tmp_path / "phones.ctm").unlink()
    with pytest.raises(DataError, match="must hold one phone CTM"):
        folder.find_jobs(tmp_path, seed=0)
