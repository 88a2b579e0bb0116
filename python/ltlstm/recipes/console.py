# SPDX-License-Identifier: Apache-2.0
"""Lines and progress bars: rich's bar on a terminal, if rich is there; plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

LINES_A_BAR = 10  # where the output is no terminal, in a log say

Update = Callable[[int, str], None]  # how much is done, and a note
Bar = Callable[[str, int], AbstractContextManager[Update]]  # of a title and how much is to do


class Console:
    def __init__(self) -> None:
        self._rich: Any = None
        if sys.stdout.isatty():
            with contextlib.suppress(ImportError):
                import rich.console  # type: ignore[import-not-found]

                self._rich = rich.console.Console(highlight=False)

    def say(self, line: str = "") -> None:
        if self._rich is not None:
            self._rich.print(line, markup=False, soft_wrap=True)
        else:
            print(line, flush=True)

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Iterator[Update]:
        if self._rich is None:
            yield self._plain_bar(title, total)
            return
        from rich.progress import (  # type: ignore[import-not-found]
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}", style="bold"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self._rich) as progress:
            task = progress.add_task(title, total=total, note="")
            yield lambda done, note: progress.update(task, completed=done, note=note)

    def _plain_bar(self, title: str, total: int) -> Update:
        began, first, printed = time.monotonic(), -1, -1

        def update(done: int, note: str) -> None:
            nonlocal first, printed
            tenth = done * LINES_A_BAR // max(total, 1)
            if first < 0:  # a resumed run does not begin at 0
                first, printed = done, tenth
            if tenth > printed:
                printed = tenth
                spent = time.monotonic() - began
                left = spent * (total - done) / max(done - first, 1)
                print(f"{title}  {done}/{total}  {left:.0f} s left  {note}".rstrip(), flush=True)

        return update
