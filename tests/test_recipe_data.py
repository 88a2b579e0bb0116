# SPDX-License-Identifier: Apache-2.0
"""Real corpora: folders and Kaldi's are read and split, a bad file is named, counted, skipped."""

import pytest
import torch

from ltlstm.recipes.speech import corpus, folder
from ltlstm.recipes.speech.recording import SILENCE, BadFile, DataError
from recipe_data import PHONE, RATE, ctm_lines, make_folder, no_bar, tone, utterance, write_wav

TOP = 7600  # Hz


def made(root, workers=2):
    jobs, how = folder.find_jobs(root, seed=0)
    return corpus.make(jobs, "name", TOP, workers, no_bar), how


def test_a_folder_becomes_a_corpus_split_by_speaker(tmp_path):
    found, how = made(make_folder(tmp_path))
    assert how == "by speaker (none is in two sets)" and found.skipped == []
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
    assert how == "as its folders say"
    assert [len(found.splits[split].names) for split in corpus.SPLITS] == [1, 1, 1]


def test_dev_is_taken_from_train_where_only_train_and_test_are_named(tmp_path):
    make_folder(tmp_path / "train", speakers=3, utterances=1)
    make_folder(tmp_path / "test", speakers=1, utterances=1)
    found, how = made(tmp_path)
    assert how == "train and test as its folders say, dev by speaker"
    assert [len(found.splits[split].names) for split in corpus.SPLITS] == [2, 1, 1]


def test_one_speaker_is_split_by_utterance_and_that_is_said(tmp_path):
    found, how = made(make_folder(tmp_path, speakers=1))
    assert how == "by utterance (too few speakers)"
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
    assert how == "by speaker (none is in two sets)" and found.skipped == []
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


def test_a_corpus_is_kept_under_its_settings_and_made_again_when_damaged(tmp_path):
    root = make_folder(tmp_path / "speech", speakers=3, utterances=1)
    jobs = folder.find_jobs(root, seed=0)[0]
    lines: list[str] = []

    def load(settings):
        cache = tmp_path / "cache"
        return corpus.load_or_make(jobs, settings, cache, 7600, 1, lines.append, no_bar)

    first, again, other = load({"a": 1}), load({"a": 1}), load({"a": 2})
    (kept, _), said = sorted((tmp_path / "cache").iterdir()), [line.split()[1] for line in lines]
    assert said == ["kept", "read", "kept"]
    assert first.fingerprint == again.fingerprint != other.fingerprint
    for split in corpus.SPLITS:
        assert torch.equal(first.splits[split].features, again.splits[split].features)
        assert torch.equal(first.splits[split].labels, again.splits[split].labels)
        assert first.splits[split].spoken == again.splits[split].spoken

    lines.clear()
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(b"junk")
    load({"a": 1})
    assert "cannot be read" in lines[0] and "kept" in lines[1] and kept.exists()
