# SPDX-License-Identifier: Apache-2.0
"""The stages of bench/gpu.sh that measure. Every row is checked against float64 before it is timed,
and stands beside nn.LSTM and the modelled floor."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

import ltlstm
from bench import contenders, gpu_peers, timing
from bench.contenders import Data, step
from bench.gpu_rows import (
    DRY_ROWS,
    FLASHRNN,
    GROUPS,
    HASTE,
    LANES_OFF,
    LANES_ON,
    OUR_LSTM,
    OURS,
    PADDED,
)
from bench.gpu_target import Target, seconds_of
from bench.groups import AUTO, TORCH, TORCH_PADDED, Row
from bench.timing import Call
from ltlstm_kernels import plan
from tests.tolerance import assert_all_close, error

CHECKED_STEPS = 48  # of a row's T, where it is compared with float64


def _ours(row: Row, d: Data, target: Target, **options: Any) -> Call:
    kind = getattr(ltlstm, row.module)
    made = contenders.module(kind, row, d, backend=target.backend, **options)
    return step(row, made, d.input, d.hx)


def makers(row: Row, d: Data, target: Target) -> dict[str, Callable[[], Call]]:
    """Ours and every peer that the row may ask for."""
    padded = replace(row, case=replace(row.case, packed=False))

    def lstm(kind: type[nn.Module], **options: Any) -> nn.Module:
        return contenders.module(kind, row, d, **options)

    named = {"backend": target.backend}
    return {
        OURS: lambda: _ours(row, d, target),
        AUTO: lambda: step(row, lstm(getattr(ltlstm, row.module)), d.input, d.hx),
        TORCH: lambda: step(row, lstm(nn.LSTM), d.input, d.hx),
        TORCH_PADDED: lambda: step(padded, lstm(nn.LSTM), d.padded, d.hx),
        PADDED: lambda: step(padded, lstm(ltlstm.LSTM, **named), d.padded, d.hx),
        OUR_LSTM: lambda: step(row, lstm(ltlstm.LSTM, **named), d.input, d.hx),
        LANES_ON: lambda: _ours(row, d, target, lanes=True),
        LANES_OFF: lambda: _ours(row, d, target, lanes=False),
        FLASHRNN: lambda: gpu_peers.flashrnn(row, d),
        HASTE: lambda: gpu_peers.haste(row, d),
    }


def _errors(row: Row, target: Target) -> dict[str, float]:
    """Largest errors of ours and nn.LSTM against float64, on the row's first steps; raises where
    ours breaks the rule of the tests."""
    short = replace(row, case=replace(row.case, T=min(row.case.T, CHECKED_STEPS)))
    with torch.set_grad_enabled(row.mode == "training"):
        truth = contenders.plain(short, torch.float64, target.device)
        expected = contenders.plain(short, row.dtype, target.device)
        found = _ours(short, contenders.data(short, row.dtype, target.device), target).run()
    named = [{f"result {i}": t for i, t in enumerate(r)} for r in (found, truth, expected)]
    assert_all_close(*named)
    pairs = {OURS: found, "torch": expected}
    return {
        name: max(error(r, t) for r, t in zip(results, truth, strict=True))
        for name, results in pairs.items()
    }


def shape_of(row: Row) -> plan.Shape:
    c = row.case
    return plan.Shape(
        c.T, c.N, c.H, c.out, c.L, c.dirs, row.mode == "training",
        trajectory=row.module == "LTLSTM",
    )  # fmt: skip


def _memory(call: Call) -> int:
    """Bytes that a call takes at most, beyond what was there."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call.run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def measure(row: Row, target: Target, seconds: float) -> dict[str, Any]:
    """One line; what fails in a row stands in it, under `failed`, and the rest is measured."""
    failed: dict[str, str] = {}
    calls: dict[str, Call] = {}
    errors: dict[str, float] = {}
    memory: dict[str, int] = {}
    auto: str | None = None
    with torch.set_grad_enabled(row.mode == "training"):
        d = contenders.data(row, row.dtype, target.device)
        made = makers(row, d, target)
        for name in (OURS, AUTO, *row.peers):
            try:
                if name == OURS:
                    errors = _errors(row, target)
                call = made[name]()
                call.run()
                if target.device == "cuda":
                    memory[name] = _memory(call)
                if name == AUTO:
                    auto = contenders.chosen(row, d)
                calls[name] = call
            except gpu_peers.Absent as absent:
                print(f"{row.name}: no {name}: {absent}", flush=True)
            except Exception as problem:  # a row with one contender less is still a row
                failed[name] = f"{type(problem).__name__}: {problem}"
        timings = timing.measure(
            calls, (), seconds, rest=lambda _: None, stopwatch=seconds_of(target.device)
        ) or {}  # fmt: skip
    planned = plan.make_plan(shape_of(row), row.dtype, target.plan_facts())
    return {
        "name": row.name, "module": row.module, "mode": row.mode,
        "dtype": str(row.dtype).removeprefix("torch."), "case": asdict(row.case), "threads": 0,
        "ours": OURS, "auto": auto, "bound": planned.lanes.us * row.case.T / 1e6,
        "regimes": [planned.forward.regime, planned.backward.regime],
        "lanes": planned.lanes.overlap, "errors": errors, "memory": memory,
        "seconds": {name: seconds_line(t) for name, t in timings.items()},
        "failed": failed, "targets": targets(row, {n: t.median for n, t in timings.items()}),
    }  # fmt: skip


def seconds_line(t: timing.Timing) -> dict[str, Any]:
    samples = [float(f"{s:.4g}") for s in t.samples]
    return {"median": t.median, "minimum": t.minimum, "samples": samples}


def targets(row: Row, medians: dict[str, float]) -> list[dict[str, Any]]:
    found = []
    for wanted in row.targets:
        known = OURS in medians and wanted.peer in medians
        ratio = wanted.limit(medians) / medians[OURS] if known else None
        found.append({"text": wanted.text, "peer": wanted.peer, "ratio": ratio})
    return found


def rows(target: Target) -> Iterator[tuple[str, Row]]:
    if target.emulated:
        yield from (("gpu-dry", row) for row in DRY_ROWS)
        return
    for name, group in GROUPS.items():
        yield from ((name, row) for row in group.rows if row.quick or not target.quick)


def grid(target: Target) -> None:
    """Every row that there is; raises at the end where one of ours failed."""
    failed = []
    for group, row in rows(target):
        line = {"group": group, **measure(row, target, 0.05 if target.emulated else 0.25)}
        target.write(line)
        if OURS in line["failed"]:
            failed.append(f"{row.name} {row.mode}: {line['failed'][OURS]}")
    if failed:
        raise RuntimeError(f"ours failed in {len(failed)} rows; {failed[0]}")


def ceilings(target: Target) -> None:
    """What the device reaches at a copy and at a product, and the kernels that nn.LSTM runs on."""
    size = 256 if target.emulated else 8192
    stopwatch = seconds_of(target.device)
    a, b = torch.randn(2, size, size, device=target.device).bfloat16()
    calls = {"copy": Call(lambda: b.copy_(a)), "product": Call(lambda: a @ b)}
    timings = timing.measure(calls, (), 0.2, rest=lambda _: None, stopwatch=stopwatch)
    assert timings is not None
    rates = {
        "copy_bytes": 4 * size**2 / timings["copy"].median,
        "product_operations": 2 * size**3 / timings["product"].median,
    }
    target.write({"group": "ceilings", **rates})
    for H in (16,) if target.emulated else (128, 512, 1024):
        lstm = nn.LSTM(H, H, device=target.device, dtype=torch.bfloat16)
        x = torch.randn(8, 16, H, device=target.device, dtype=torch.bfloat16)
        names = gpu_peers.kernels_of(lambda lstm=lstm, x=x: lstm(x), target.device)
        target.write({"group": "kernels", "peer": TORCH, "H": H, "N": 16, "kernels": names})


def graphs(target: Target) -> None:
    """Forward as a CUDA graph, ours and nn.LSTM's: the time without the launches."""
    for H, N in ((256, 16), (512, 16), (1024, 16)):
        row = Row(replace(DRY_ROWS[0].case, T=512, N=N, D=H, H=H), (), dtype=torch.bfloat16)
        with torch.no_grad():
            d = contenders.data(row, row.dtype, target.device)
            made = makers(row, d, target)
            calls = {name: Call(gpu_peers.graphed(made[name]())) for name in (OURS, TORCH)}
            timings = timing.measure(
                calls, (), 0.3, rest=lambda _: None, stopwatch=seconds_of(target.device)
            )
        assert timings is not None
        seconds = {name: seconds_line(t) for name, t in timings.items()}
        target.write({"group": "gpu-graphs", "H": H, "N": N, "T": 512, "seconds": seconds})


def trace(target: Target) -> None:
    """A trace of one LTLSTM call with its lanes side by side and one without, and what overlaps."""
    H, T = (16, 3) if target.emulated else (1024, 256)
    dtype = torch.bfloat16
    for lanes in (True, False):
        module = ltlstm.LTLSTM(
            H, H, 4, device=target.device, dtype=dtype, backend=target.backend, lanes=lanes
        )
        x = torch.randn(T, 16 if T > 3 else 2, H, device=target.device, dtype=dtype)
        file = target.out / f"lanes-{'on' if lanes else 'off'}.json"
        with torch.no_grad():
            module(x)
            found = gpu_peers.overlap(lambda module=module, x=x: module(x), file, target.device)
        target.write({"group": "trace", "lanes": lanes, "file": file.name, **found})
