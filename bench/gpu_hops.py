# SPDX-License-Identifier: Apache-2.0
"""The stage of bench/gpu.sh that measures what csrc/floor_model.cpp only models: the way of a
step's data from block to block, and the rate of the tensor cores."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from bench import gpu_programs, record
from bench.gpu_target import Target

SOURCE = record.ROOT / "bench" / "gpu_hops.cu"
STEPS = 2000
TILES = 16  # products of a warp in a step, as in the source
WARPS_A_PART = 2  # of an SM's four parts, where all SMs multiply

Line = dict[str, Any]


def hops(target: Target) -> None:
    """A line for each measurement, then the constants that follow."""
    dry = target.emulated
    facts = target.plan_facts()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if dry:
            program = gpu_programs.for_emulator(SOURCE, folder)
        else:
            program = gpu_programs.for_gpu(SOURCE, folder, target)
        size = (4, 5) if dry else (facts.sms, STEPS)
        said = gpu_programs.output(program, *size, facts.capability)
    lines = [json.loads(line) for line in said.splitlines()]
    for line in lines:
        target.write({"group": "hops", **line, "median_ns": median(line["ns"])})
    mhz = target.facts().get("clock_mhz", 1000.0)
    target.write({"group": "hops", "name": "constants", **dict(constants(lines, mhz / 1e3))})


def _of(lines: list[Line], name: str, **given: int) -> list[Line]:
    """Those of a name, by bytes."""
    found = [m for m in lines if m["name"] == name and all(m[k] == v for k, v in given.items())]
    return sorted(found, key=lambda m: m["bytes"])


def _bytes_a_ns(few: Line, many: Line) -> float:
    """From what more of them cost; those of a block itself come from nowhere."""
    arrived = (many["bytes"] - few["bytes"]) * (1 - 1 / many["members"])
    return arrived / max(median(many["ns"]) - median(few["ns"]), 1e-3)


def constants(lines: list[Line], clock: float) -> Iterator[tuple[str, float]]:
    """The fields of Machine in csrc/floor_model.h; `clock`: cycles a nanosecond, at most."""
    (block,) = _of(lines, "block")
    yield "block_hop", median(block["ns"]) / 1e3
    blocks = max(m["blocks"] for m in _of(lines, "through L2"))
    few, *_, many = _of(lines, "through L2", blocks=blocks)
    yield "l2_hop", median(few["ns"]) / 1e3
    yield "l2_bytes", _bytes_a_ns(few, many) / clock
    size = max((m["members"] for m in _of(lines, "cluster")), default=0)
    if size:
        few, *_, many = _of(lines, "cluster", members=size, blocks=size)
        yield "cluster_hop", median(few["ns"]) / 1e3
        yield "cluster_bytes", _bytes_a_ns(few, many) / clock
    (rate,), (latency,) = _of(lines, "product"), _of(lines, "product, one after another")
    yield "tile_cycles", median(rate["ns"]) * clock / (TILES * WARPS_A_PART)
    yield "tile_latency", median(latency["ns"]) * clock / TILES
