# SPDX-License-Identifier: Apache-2.0
"""Stages in a process that the command watches: one for as many of them as it survives.

The command (Runner) names a stage on the process's stdin, and reads how it went from a pipe. What
hangs, crashes or loses its CUDA context ends with all processes that it has started, and the next
stage, or what is left of this one, has a new process. A command that dies takes its process along.
"""

import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import nullcontext, suppress
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, NoReturn

from bench import record
from bench.gpu.stages import STAGES
from bench.gpu.target import TRIED, Skipped, Spoiled, Target

Reply = dict[str, Any]
START = "start"  # what a process says before its first stage


class Process:
    """One that has been started; `command` is what it serves by."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._reader, writer = os.pipe()
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [*command, "--worker", str(writer)], cwd=record.ROOT, stdin=subprocess.PIPE,
                stdout=file, stderr=subprocess.STDOUT, pass_fds=[writer], start_new_session=True,
            )  # fmt: skip
        os.close(writer)
        self._read = b""

    def ask(self, stage: str, until: float) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # then there is no answer
            self._process.stdin.write(f"{stage} {until}\n".encode())
            self._process.stdin.flush()

    def answer(self, until: float) -> Reply:
        """The next one. Raises TimeoutError when it is late, EOFError where none can come."""
        while b"\n" not in self._read:
            left = None if until == inf else max(until - time.monotonic(), 0.0)
            if not select.select([self._reader], [], [], left)[0]:
                raise TimeoutError
            found = os.read(self._reader, 65536)
            if not found:
                raise EOFError
            self._read += found
        line, _, self._read = self._read.partition(b"\n")
        return json.loads(line)

    def end(self) -> int:
        """Its exit status; whatever it has started ends too."""
        with suppress(subprocess.TimeoutExpired):  # one that is on its way out has a status to tell
            self._process.wait(0.2)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        os.close(self._reader)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        return self._process.wait()


class Runner:
    """Runs stages one after another; `end`: by time.monotonic, of all together."""

    def __init__(self, target: Target, command: list[str], end: float) -> None:
        self._target, self._command, self._end = target, command, end
        self._process: Process | None = None
        self._facts: dict[str, Any] = {"emulated": target.emulated}
        self._broken: str | None = None  # why no process starts

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def run(self, name: str, seconds: float) -> bool:
        """Whether it passed; keeps a line on how it went."""
        start = time.monotonic()
        limit = min(seconds, self._end - start)
        if limit <= 1:
            reply: Reply = {"error": "no time left for it"}
        else:
            reply = self._run(name, start + limit, limit)
        took = round(time.monotonic() - start, 1)
        line = {"stage": name, "seconds": took, "error": None, **reply}
        line["ok"] = line["error"] is None
        record.append(self._target.rows, {**self._facts, "time": record.now(), **line})
        return line["ok"]

    def _run(self, name: str, until: float, limit: float) -> Reply:
        lost: list[str] = []
        tried = self._tried()
        while True:
            try:
                process = self._ready(until)
                process.ask(name, until)
                reply = process.answer(until)
            except TimeoutError:
                self._drop()
                reply = {"error": f"took more than {limit:.0f} s"}
            except EOFError:
                lost.append(self._lost(name))
                # What is left of a stage is done in another process, if this one got on with it.
                if self._broken is None and self._tried() > tried:
                    tried = self._tried()
                    continue
                return {"error": "; ".join(lost)}
            if reply.pop("spoiled", False):
                self._drop()
            if lost:
                reply["error"] = "; ".join([*lost, *filter(None, [reply.get("error")])])
            return reply

    def _ready(self, until: float) -> Process:
        if self._broken is not None:
            raise EOFError
        if self._process is None:
            self._process = Process(self._command, self._target.files / f"{START}.log")
            try:
                self._facts = self._process.answer(until)
            except EOFError:
                self._broken = self._lost(START)
                raise
        return self._process

    def _tried(self) -> int:
        tried = self._target.scratch / TRIED
        return tried.stat().st_size if tried.exists() else 0

    def _lost(self, name: str) -> str:
        if self._broken is not None:
            return self._broken
        status = self._drop()
        log = self._target.files / f"{name}.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        said = [line for line in text.splitlines() if line.strip()]
        return f"exit status {status}: {said[-1] if said else 'no output'}"

    def _drop(self) -> int | None:
        process, self._process = self._process, None
        return None if process is None else process.end()


def serve(target: Target, pipe: int) -> NoReturn:
    """The process: does what it is told until stdin ends, and then ends its whole group."""
    commands: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            commands.put(line)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=listen, daemon=True).start()
    with os.fdopen(pipe, "w", buffering=1) as answers:
        answers.write(json.dumps(target.facts()) + "\n")
        while True:
            name, until = commands.get().split()
            reply = _attempt(name, replace(target, until=float(until)))
            answers.write(json.dumps(reply) + "\n")


def _attempt(name: str, target: Target) -> Reply:
    from bench.gpu import device  # here, and so torch: the command starts without

    stage = STAGES[name]
    with (target.files / f"{name}.log").open("a") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for descriptor in (1, 2):  # of this process and of those it starts
            os.dup2(log.fileno(), descriptor)
    try:
        with device.emulated_kernels() if target.emulated and stage.ours else nullcontext():
            stage(target)
    except Skipped as missing:
        return {"skipped": str(missing)}
    except Spoiled as lost:
        print(lost, flush=True)
        os._exit(1)  # the interpreter's own end asks the lost context to clean up
    except Exception as error:  # whatever it is, the other stages still run
        traceback.print_exc()
        sys.stderr.flush()
        return {"error": f"{type(error).__name__}: {error}", "spoiled": device.lost() is not None}
    return {}
