# SPDX-License-Identifier: Apache-2.0
"""What csrc/floor_model.cpp only models: the way of a step's data from block to block, the rate of
the tensor cores, and what runs beside what."""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from bench.gpu import programs
from bench.gpu.target import Target

SOURCE = programs.HERE / "hops.cu"
CONCURRENT = programs.HERE / "concurrent.cu"
STEPS = 2000
TILES = 16  # products of a warp in a step, as in the source
WARPS_A_PART = 2  # of an SM's four parts, where all SMs multiply

Line = dict[str, Any]


def _measured(source: Path, group: str, target: Target) -> tuple[list[Line], str | None]:
    """A line for each measurement, written as it comes; and what went wrong."""
    target.need_device()
    facts = target.plan_facts()
    size = (4, 5) if target.emulated else (facts.sms, STEPS)
    found: list[Line] = []

    def take(text: str) -> None:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:  # the last words of one that crashed
            line = {"name": text[:400], "ok": False}
        if line.get("ns"):
            line["median_ns"] = median(line["ns"])
        found.append(line)
        target.write({"group": group, **line})

    program = programs.built(source, target)
    arguments = (*size, facts.capability)
    wrong = programs.measurements(program, arguments, target.left() - programs.MARGIN, take)
    bad = [line["name"] for line in found if not line["ok"]]
    return found, wrong or (f"wrong data: {bad[0]}" if bad else None)


def hops(target: Target) -> None:
    """Every way of a step's data, then the constants that follow."""
    found, wrong = _measured(SOURCE, "hops", target)
    mhz = target.facts().get("clock_mhz", 1000.0)
    known = dict(constants([line for line in found if line["ok"]], mhz / 1e3))
    target.write({"group": "hops", "name": "constants", **known})
    if wrong:
        raise RuntimeError(wrong)


def concurrent(target: Target) -> None:
    """Pairs of launches in two streams: whether they run at once, and what each then takes."""
    _, wrong = _measured(CONCURRENT, "concurrent", target)
    if wrong:
        raise RuntimeError(wrong)


def _of(lines: list[Line], name: str, **given: int) -> list[Line]:
    """Those of a name, by bytes."""
    found = [m for m in lines if m["name"] == name and all(m[k] == v for k, v in given.items())]
    return sorted(found, key=lambda m: m["bytes"])


def _bytes_a_ns(few: Line, many: Line) -> float:
    """From what more of them cost; those of a block itself come from nowhere."""
    arrived = (many["bytes"] - few["bytes"]) * (1 - 1 / many["members"])
    return arrived / max(many["median_ns"] - few["median_ns"], 1e-3)


def _hop(lines: list[Line], name: str, clock: float) -> Iterator[tuple[str, float]]:
    """Its latency, and its rate if there are several sizes."""
    if lines:
        yield f"{name}_hop", lines[0]["median_ns"] / 1e3
    if len(lines) > 1:
        yield f"{name}_bytes", _bytes_a_ns(lines[0], lines[-1]) / clock


def constants(lines: list[Line], clock: float) -> Iterator[tuple[str, float]]:
    """The fields of Machine in csrc/floor_model.h that the lines tell; `clock`: cycles a ns."""
    yield from _hop(_of(lines, "block"), "block", clock)
    blocks = max((m["blocks"] for m in _of(lines, "through L2")), default=0)
    yield from _hop(_of(lines, "through L2", blocks=blocks), "l2", clock)
    size = max((m["members"] for m in _of(lines, "cluster")), default=0)
    stores = _of(lines, "cluster", members=size, blocks=size, message=16)
    yield from _hop(stores, "cluster", clock)
    for line in _of(lines, "product"):
        yield "tile_cycles", line["median_ns"] * clock / (TILES * WARPS_A_PART)
    for line in _of(lines, "product, one after another"):
        yield "tile_latency", line["median_ns"] * clock / TILES
