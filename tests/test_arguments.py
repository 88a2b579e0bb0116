# SPDX-License-Identifier: Apache-2.0
"""Commands say of a bad value what it must be, in one line that names no function of ours."""

import pytest

from ltlstm.recipes import options
from ltlstm.sparsity import profile

COUNT = "must be an integer, at least 1, got"
SHARE = "must be a number from 0 to 1, got"
SPAN = "must be two shares in order, first:last, got"
BAD = [
    (options, "--steps", "x", COUNT),
    (options, "--steps", "1.5", COUNT),
    (options, "--seeds", "0", COUNT),
    (options, "--density", "half", SHARE),
    (options, "--distill", "1.5", SHARE),
    (options, "--density", "nan", SHARE),
    (options, "--grow", "a", SPAN),
    (options, "--grow", "0.1", SPAN),
    (options, "--prune", "0.5:0.1", SPAN),
    (options, "--prune", "0.5:2", SPAN),
    (options, "--prune", "0.1:0.2:0.3", SPAN),
    (profile, "--rounds", "x", COUNT),
    (profile, "--batch", "-1", COUNT),
    (profile, "--device", "abacus", "must be a device of this machine, got"),
    (profile, "--device", "cuda:99", "must be a device of this machine, got"),
    (profile, "--tolerance", "x", SHARE),
]


@pytest.mark.parametrize(("command", "name", "value", "text"), BAD)
def test_a_bad_value_is_one_line(command, name, value, text, capsys):
    with pytest.raises(SystemExit) as stop:
        command.parse([f"{name}={value}"])
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"error: argument {name}: {text} {value}" in error


def test_good_values_are_read():
    found = options.parse(["--steps", "3", "--density", "0.25", "--grow", "0:1"])
    assert (found.steps, found.density, found.grow) == (3, 0.25, (0.0, 1.0))
    assert profile.parse(["--device", "cpu", "--tolerance", "0"]).device == "cpu"
