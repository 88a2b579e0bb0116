# SPDX-License-Identifier: Apache-2.0
"""Where the stages of bench/gpu.sh run and write: a GPU, or in a dry run its kernels emulated.

torch is imported late: the command, which only watches, starts without it.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import record

if TYPE_CHECKING:
    from ltlstm_kernels.plan import DeviceFacts


TRIED = "tried"  # the file of what `each` has begun
LEAST = 3.0  # seconds that must be left for an item of a stage to begin


class Skipped(Exception):
    """A stage that this machine has nothing for; the text says what is missing."""


class Spoiled(BaseException):
    """The CUDA context of this process is lost; no handler of one item's errors may keep it."""


@dataclass(frozen=True)
class Target:
    """out: where gpu.jsonl is written; files: of logs and traces, which are kept; scratch: of what
    is not; prepared: of programs built beforehand; until: when the stage must be over, by
    time.monotonic."""

    out: Path
    quick: bool
    emulated: bool
    files: Path
    scratch: Path
    prepared: Path
    until: float = inf

    @property
    def device(self) -> str:
        return "cpu" if self.emulated else "cuda"

    @property
    def backend(self) -> str:
        """Of our own kernels, named. Emulated they stand in the place of the CPU's."""
        return "cpu" if self.emulated else "cuda"

    @property
    def rows(self) -> Path:
        return self.out / "gpu.jsonl"

    def left(self) -> float:
        """Seconds until the stage must be over."""
        return self.until - time.monotonic()

    def facts(self) -> dict[str, Any]:
        """As every line carries them; the processor is the GPU. Asked once."""
        from bench.gpu import device

        return device.facts(self.emulated)

    def plan_facts(self) -> "DeviceFacts":
        from bench.gpu import device

        return device.plan_facts(self.emulated)

    def write(self, row: dict[str, Any]) -> None:
        record.append(self.rows, {**self.facts(), "time": record.now(), **row})
        print(json.dumps(row), flush=True)

    def need_device(self) -> None:
        import torch

        if not (self.emulated or torch.cuda.is_available()):
            raise RuntimeError("torch sees no CUDA device")

    def each(self, group: str, items: Mapping[str, Callable[[], dict[str, Any]]]) -> None:
        """A line for each item, in order; one that fails loses only itself.

        An item's line says under `error` what went wrong. In a process that takes over from one
        that was lost, what that one has begun is not begun again. Raises RuntimeError at the end
        where something failed.
        """
        self.need_device()
        tried = self.scratch / TRIED
        before = tried.read_text().splitlines() if tried.exists() else []
        failed, late = {}, []
        for name, run in items.items():
            if f"{group}: {name}" in before:
                continue
            if self.left() < LEAST:
                late.append(name)
                continue
            with tried.open("a") as file:
                file.write(f"{group}: {name}\n")
            try:
                line = run()
            except Exception as problem:  # whatever it is, the other items still run
                line = {"error": f"{type(problem).__name__}: {problem}"}
            self.write({"group": group, "name": name, **line})
            if line.get("error"):
                failed[name] = line["error"]
            if line.get("error") or line.get("failed"):
                self._check_context()
        if late:
            self.write({"group": group, "late": late})
        if failed:
            name, why = next(iter(failed.items()))
            raise RuntimeError(f"{len(failed)} of {len(items)} failed; {name}: {why}")

    def _check_context(self) -> None:
        from bench.gpu import device

        if self.device == "cuda" and (problem := device.lost()):
            raise Spoiled(f"the CUDA context is lost: {problem}")


def environment(target: Target, **more: str) -> dict[str, str]:
    """Of a program that uses our kernels wherever it names no backend."""
    backend = "emulated" if target.emulated else "cuda"
    return {**os.environ, "LTLSTM_BACKEND": backend, **more}
