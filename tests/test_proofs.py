# SPDX-License-Identifier: Apache-2.0
"""`make test` and `make prove` between them run every test, and what is set apart is there."""

import re
from pathlib import Path

import pytest

import proofs
from child import instruction_sets

HERE = Path(__file__).resolve().parent


@pytest.mark.parametrize("stem", proofs.PROVE)
def test_what_is_set_apart_is_there(stem):
    source = (HERE / f"{stem}.py").read_text()
    for name in proofs.PROVE[stem]:
        assert re.search(rf"^def {name}\(", source, re.M), name


def test_nothing_is_left_out():
    makefile = (HERE.parent / "Makefile").read_text()
    assert '$(PYTEST) -m "not prove"\n' in makefile and "$(PYTEST) -m prove\n" in makefile
    commands = (HERE.parent / ".ci" / "run").read_text().splitlines()
    assert {"make test", "make prove"} <= set(commands)


def test_narrower_processors_are_told_apart():
    sets = list(instruction_sets())
    found = proofs.environments()
    assert f"LTLSTM_CPU_ISA={sets[-1]}" not in found
    assert ("LTLSTM_CPU_ISA=generic" in found) == (len(sets) > 1)
