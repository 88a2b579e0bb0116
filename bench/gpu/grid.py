# SPDX-License-Identifier: Apache-2.0
"""The stages of bench/gpu.sh that measure our LSTM and LTLSTM. Every row is checked against float64
and for equal bits before it is timed, and stands beside nn.LSTM and the modelled floor."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import nn

import ltlstm
from bench import contenders, timing
from bench.contenders import Data, step
from bench.gpu import peers, profile
from bench.gpu.device import peer_computes, seconds_of, without_tf32
from bench.gpu.rows import (
    DRY_LANES,
    DRY_ROWS,
    FLASHRNN,
    GROUPS,
    HASTE,
    LANES_OFF,
    LANES_ON,
    LT_LSTM,
    OUR_LSTM,
    OURS,
    PADDED,
    STEPS,
    is_first,
)
from bench.gpu.target import Target
from bench.groups import TORCH, TORCH_PADDED, Row
from bench.timing import Call
from ltlstm_kernels import plan
from tests.tolerance import assert_all_close, error

CHECKED_STEPS = 48  # of a row's T, where it is compared with float64
SHORT_STEPS = 64  # beside the row's T, to tell a step's time from that of a launch


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
        TORCH: lambda: step(row, lstm(nn.LSTM), d.input, d.hx),
        TORCH_PADDED: lambda: step(padded, lstm(nn.LSTM), d.padded, d.hx),
        PADDED: lambda: step(padded, lstm(ltlstm.LSTM, **named), d.padded, d.hx),
        OUR_LSTM: lambda: step(row, lstm(ltlstm.LSTM, **named), d.input, d.hx),
        LANES_ON: lambda: _ours(row, d, target, lanes=True),
        LANES_OFF: lambda: _ours(row, d, target, lanes=False),
        FLASHRNN: lambda: peers.flashrnn(row, d),
        HASTE: lambda: peers.haste(row, d),
    }


def _with_steps(row: Row, steps: int) -> Row:
    return replace(row, case=replace(row.case, T=min(row.case.T, steps)))


def _errors(row: Row, target: Target) -> dict[str, float]:
    """Largest errors of ours and nn.LSTM against float64, on the row's first steps; raises where
    ours breaks the rule of the tests."""
    short = _with_steps(row, CHECKED_STEPS)
    with without_tf32():
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


def _same(call: Call) -> None:
    """Raises AssertionError where a second run gives other bits: a race shows so."""
    one, other = call.run(), call.run()
    for i, (a, b) in enumerate(zip(one, other, strict=True)):
        assert torch.equal(a, b), f"result {i} has other bits in the second of two runs"


def shape_of(row: Row) -> plan.Shape:
    c = row.case
    return plan.Shape(
        c.T, c.N, c.H, c.out, c.L, c.dirs, row.mode == "training",
        trajectory=row.module == "LTLSTM",
    )  # fmt: skip


def _planned(row: Row, target: Target) -> dict[str, Any]:
    found = plan.make_plan(shape_of(row), row.dtype, target.plan_facts())
    return {
        "bound": found.lanes.us * row.case.T / 1e6, "plan": found.reason,
        "regimes": [found.forward.regime, found.backward.regime], "lanes": found.lanes.overlap,
    }  # fmt: skip


def _memory(call: Call) -> int:
    """Bytes that a call takes at most, beyond what was there."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call.run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _recurrence(row: Row, call: Call, target: Target) -> dict[str, Any]:
    """The kernels of one call, and of the recurrence's own what a step takes and what a launch."""
    T, short = row.case.T, max(min(SHORT_STEPS, row.case.T // 2), 1)
    data = contenders.data(_with_steps(row, short), row.dtype, target.device)
    other = _ours(_with_steps(row, short), data, target)
    long = profile.kernels_of(call.run, target.device)
    few = profile.kernels_of(other.run, target.device)
    own = profile.recurrence(long, few, (T, short), target.device)
    return {"kernels": profile.shown(long), "recurrence": own}


def measure(row: Row, target: Target, seconds: float, profiled: bool = False) -> dict[str, Any]:
    """One line; what fails in a row stands in it, under `failed`, and the rest is measured."""
    failed: dict[str, str] = {}
    calls: dict[str, Call] = {}
    line: dict[str, Any] = {
        "name": row.name, "module": row.module, "mode": row.mode,
        "dtype": str(row.dtype).removeprefix("torch."), "case": asdict(row.case), "threads": 0,
        "ours": OURS, "auto": "", "bound": None, "errors": {}, "memory": {}, "failed": failed,
        "computes": {TORCH: peer_computes(row.dtype, target.device)},
    }  # fmt: skip

    def attempt(name: str, run: Callable[[], Any]) -> None:
        try:
            run()
        except peers.Absent as absent:
            print(f"{row.name}: no {name}: {absent}", flush=True)
        except Exception as problem:  # a row with one contender less is still a row
            failed[name] = f"{type(problem).__name__}: {problem}"

    with torch.set_grad_enabled(row.mode == "training"):
        d = contenders.data(row, row.dtype, target.device)
        made = makers(row, d, target)

        def take(name: str) -> None:
            if name == OURS:
                line["errors"] = _errors(row, target)
            call = made[name]()
            if name == OURS:
                _same(call)
            call.run()
            if target.device == "cuda":
                line["memory"][name] = _memory(call)
            calls[name] = call

        for name in (OURS, *row.peers):
            attempt(name, partial(take, name))
        timings = timing.measure(
            calls, (), seconds, rest=lambda _: None, stopwatch=seconds_of(target.device)
        ) or {}  # fmt: skip
        attempt("auto", lambda: line.update(auto=contenders.chosen(row, d)))
        attempt("plan", lambda: line.update(_planned(row, target)))
        if profiled and OURS in calls:
            attempt("profile", lambda: line.update(_recurrence(row, calls[OURS], target)))
    line["seconds"] = {name: t.line for name, t in timings.items()}
    line["targets"] = targets(row, {n: t.median for n, t in timings.items()})
    if OURS in failed:
        line["error"] = failed[OURS]
    return line


def targets(row: Row, medians: dict[str, float]) -> list[dict[str, Any]]:
    found = []
    for wanted in row.targets:
        known = OURS in medians and wanted.peer in medians
        ratio = wanted.limit(medians) / medians[OURS] if known else None
        found.append({"text": wanted.text, "peer": wanted.peer, "ratio": ratio})
    return found


Rows = Iterable[tuple[str, Row]]  # with the name of the group


def _measure_all(target: Target, rows: Rows, profiled: bool = False) -> None:
    seconds = 0.05 if target.emulated else 0.2

    def run(group: str, row: Row) -> dict[str, Any]:
        return {"group": group} | measure(row, target, seconds, profiled)

    target.each("rows", {f"{row.name} {row.mode}": partial(run, group, row) for group, row in rows})


def rows_of(target: Target, wanted: Callable[[Row], bool], dry: list[Row]) -> list[tuple[str, Row]]:
    """Those of --quick first, for a stage may be cut."""
    if target.emulated:
        return [("gpu-dry", row) for row in dry]
    every = [(name, row) for name, group in GROUPS.items() for row in group.rows if wanted(row)]
    every.sort(key=lambda pair: not pair[1].quick)
    return [pair for pair in every if pair[1].quick or not target.quick]


def first_rows(target: Target) -> None:
    """The twelve rows that matter most, with the recurrence's own time."""
    _measure_all(target, rows_of(target, is_first, DRY_ROWS[:2]), profiled=True)


def lt_lstm(target: Target) -> None:
    """LTLSTM with its lanes side by side and one after the other; traces of both."""
    try:
        _measure_all(target, rows_of(target, lambda row: row in LT_LSTM, DRY_LANES))
    finally:
        target.each("trace", {f"lanes {n}": partial(_trace, n, target) for n in ("on", "off")})


def grid(target: Target) -> None:
    """Every other row that there is."""
    measured = (is_first, LT_LSTM.__contains__)
    _measure_all(
        target, rows_of(target, lambda row: not any(f(row) for f in measured), DRY_ROWS[2:])
    )


def _graphed(H: int, N: int, T: int, target: Target) -> dict[str, Any]:
    row = Row(replace(DRY_ROWS[0].case, T=T, N=N, D=H, H=H), (), dtype=torch.bfloat16)
    with torch.no_grad():
        d = contenders.data(row, row.dtype, target.device)
        made = makers(row, d, target)
        calls = {name: Call(peers.graphed(made[name](), target.device)) for name in (OURS, TORCH)}
        timings = timing.measure(
            calls, (), 0.2, rest=lambda _: None, stopwatch=seconds_of(target.device)
        )
    assert timings is not None
    return {"H": H, "N": N, "T": T, "seconds": {name: t.line for name, t in timings.items()}}


def graphs(target: Target) -> None:
    """Forward as a CUDA graph, ours and nn.LSTM's: the time without the launches."""
    sizes = ((16, 2, 3),) if target.emulated else tuple((H, 16, STEPS) for H in (512, 1024, 256))
    target.each(
        "gpu-graphs", {f"H{H}N{N}": partial(_graphed, H, N, T, target) for H, N, T in sizes}
    )


def _trace(lanes: str, target: Target) -> dict[str, Any]:
    """A trace of one LTLSTM call, and what overlaps in it."""
    H, N, T = (16, 2, 3) if target.emulated else (1024, 16, 256)
    module = ltlstm.LTLSTM(
        H, H, 4, device=target.device, dtype=torch.bfloat16, backend=target.backend,
        lanes=lanes == "on",
    )  # fmt: skip
    x = torch.randn(T, N, H, device=target.device, dtype=torch.bfloat16)
    file = target.files / f"lanes-{lanes}.json"
    with torch.no_grad():
        module(x)
        return {"file": file.name, **profile.overlap(lambda: module(x), file, target.device)}
