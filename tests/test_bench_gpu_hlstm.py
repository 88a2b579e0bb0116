# SPDX-License-Identifier: Apache-2.0
"""The GPU benchmark of the H-LSTM, in its dry mode."""

import json
from pathlib import Path

import pytest

from bench import gpu_hlstm


def test_a_dry_run_measures_every_contender(tmp_path: Path, capsys) -> None:
    gpu_hlstm.main([str(tmp_path), "--dry"])
    lines = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert [line["mode"] for line in lines] == ["forward", "training"]
    for line in lines:
        everyone = {"triton", "triton, rows not shared", "triton, dense", "eager", "nn.LSTM"}
        if line["mode"] == "forward":
            everyone.add("cell loop, graphed")
        assert line["failed"] == {} and set(line["seconds"]) == everyone
        assert 0 < line["errors"]["triton"] and 0 < line["errors"]["eager"]
    assert capsys.readouterr().out.count("us/step") == 2


def test_the_cell_loop_computes_the_row() -> None:
    row = gpu_hlstm.Row(3, 2, 32, 0.5, "forward")
    made = gpu_hlstm.contenders(row, "cpu")
    assert made[gpu_hlstm.GRAPH]().run().equal(made[gpu_hlstm.EAGER]().run()[0])


def test_a_failure_of_ours_fails_the_stage_after_the_last_row(tmp_path: Path, monkeypatch) -> None:
    def wrong(*_):
        raise AssertionError("error 1 against truth")

    monkeypatch.setattr(gpu_hlstm, "errors", wrong)
    with pytest.raises(RuntimeError, match="failed in 2 rows; T3N2H32 50% live forward: Assertion"):
        gpu_hlstm.main([str(tmp_path), "--dry"])
    lines = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert all("eager" in line["seconds"] and "triton" not in line["seconds"] for line in lines)


def test_blocks_are_live_as_often_as_asked() -> None:
    weight = gpu_hlstm.module(gpu_hlstm.Row(1, 1, 256, 0.1, "forward"), 0.1, "cpu").weight_hh_l0
    blocks = weight.detach().unflatten(1, (-1, 16)).unflatten(0, (-1, 16)).abs().sum((1, 3))
    assert 0.05 < (blocks > 0).double().mean() < 0.15
