# SPDX-License-Identifier: Apache-2.0
"""The stage of bench/gpu.sh for the H-LSTM, in a dry run."""

from dataclasses import replace

import pytest

from bench.gpu import hlstm
from bench.gpu.target import Target
from dry_target import lines


def test_a_dry_run_measures_every_contender(target: Target) -> None:
    hlstm.hlstm(target)
    found = lines(target)
    assert [line["mode"] for line in found] == ["forward", "training"]
    for line in found:
        everyone = {"triton", "triton, rows not shared", "triton, dense", "eager", "nn.LSTM"}
        if line["mode"] == "forward":
            everyone.add("cell loop, graphed")
        assert line["failed"] == {} and set(line["seconds"]) == everyone
        assert 0 < line["errors"]["triton"] and 0 < line["errors"]["eager"]


def test_the_cell_loop_computes_the_row() -> None:
    row = hlstm.Row(3, 2, 32, 0.5, "forward")
    made = hlstm.contenders(row, "cpu")
    assert made[hlstm.GRAPH]().run().equal(made[hlstm.EAGER]().run()[0])


def test_a_failure_of_ours_fails_the_stage_after_the_last_row(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_):
        raise AssertionError("error 1 against truth")

    monkeypatch.setattr(hlstm, "errors", wrong)
    with pytest.raises(RuntimeError, match="2 of 2 failed; T3N2H32 50% live forward .*: Assertion"):
        hlstm.hlstm(target)
    assert all("eager" in line["seconds"] and "triton" not in line["seconds"]
               for line in lines(target))  # fmt: skip


def test_what_was_measured_before_comes_first(target: Target) -> None:
    on_gpu = replace(target, emulated=False, quick=False)
    rows, quick = list(hlstm.rows(on_gpu)), list(hlstm.rows(replace(on_gpu, quick=True)))
    assert rows[: len(quick)] == quick and len(set(rows)) == len(rows)
    assert {(row.H, row.N) for row in rows} >= {(H, N) for H in (256, 512, 1024) for N in (1, 512)}


def test_blocks_are_live_as_often_as_asked() -> None:
    weight = hlstm.module(hlstm.Row(1, 1, 256, 0.1, "forward"), 0.1, "cpu").weight_hh_l0
    blocks = weight.detach().unflatten(1, (-1, 16)).unflatten(0, (-1, 16)).abs().sum((1, 3))
    assert 0.05 < (blocks > 0).double().mean() < 0.15
