# SPDX-License-Identifier: Apache-2.0
"""The latency profile: fast sizes, the command and its files."""

import argparse
import json
import sys

import pytest

import ltlstm
from ltlstm.sparsity import profile
from ltlstm.sparsity.profile import Point, fast_sizes


def points(**minimum: float) -> list[Point]:
    return [Point(int(size[1:]), 2 * value, value) for size, value in minimum.items()]


def test_a_size_is_fast_where_no_larger_one_takes_less():
    found = points(h8=1.0, h16=3.0, h24=2.0, h32=2.5, h40=2.45)
    assert fast_sizes(found) == [8, 24, 40]
    assert fast_sizes(found[::-1]) == [8, 24, 40]
    assert fast_sizes(found, tolerance=0.3) == [8, 40]  # 40 is within 30 % of 24
    assert fast_sizes(found[:1]) == [8]


def test_every_size_is_timed():
    found = profile.profile(lambda size: ltlstm.LSTM(3, size), [4, 9], T=3, N=2, rounds=2)
    assert [point.size for point in found] == [4, 9]
    assert all(0 < point.minimum <= point.median for point in found)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"sizes": []}, "sizes must be positive integers, got"),
        ({"sizes": [4, 0]}, "sizes must be positive integers, got .4, 0."),
        ({"sizes": [4], "rounds": 0}, "rounds must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, text):
    with pytest.raises(ValueError, match=f"profile: {text}"):
        profile.profile(lambda size: ltlstm.LSTM(size, size), **arguments)


def test_sizes_are_a_range_or_a_list():
    assert profile.sizes_from("8:24:8") == [8, 16, 24]
    assert profile.sizes_from("5,3") == [5, 3]
    for text in ("8:4:2", "a", "0,4", "1:2", "4:8:0"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"got {text}"):
            profile.sizes_from(text)


@pytest.mark.parametrize("module", profile.MODULES)
def test_the_command_names_the_fast_sizes_and_keeps_them(module, tmp_path, capsys):
    arguments = ["--module", module, "--sizes", "4,8,12", "--steps", "2", "--rounds", "2"]
    assert profile.main([*arguments, "--device", "cpu", "--out", str(tmp_path)]) == 0
    output = capsys.readouterr().out.splitlines()
    kept = json.loads((tmp_path / "profile.json").read_text())
    assert 12 in kept["fast_sizes"]
    assert [point["size"] for point in kept["points"]] == [4, 8, 12]
    assert output[-2] == f"fast sizes: {', '.join(map(str, kept['fast_sizes']))}"
    assert output[4].endswith("fast")


def test_the_command_plots(tmp_path):
    pytest.importorskip("matplotlib")
    arguments = ["--sizes", "4,8", "--steps", "2", "--rounds", "1", "--out", str(tmp_path)]
    assert profile.main(arguments) == 0
    assert (tmp_path / "profile.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_there_is_no_plot(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    arguments = ["--sizes", "4", "--steps", "2", "--rounds", "1", "--out", str(tmp_path)]
    assert profile.main(arguments) == 0
    assert "no plot: matplotlib is not installed (" in capsys.readouterr().out


def test_an_output_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    arguments = ["--sizes", "4", "--steps", "2", "--rounds", "1", "--out", str(tmp_path / "file")]
    assert profile.main(arguments) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("profile: ") and errors.count("\n") == 1
