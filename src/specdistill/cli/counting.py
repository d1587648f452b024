"""Progress of something that is counted: a bar with pace and time left on a terminal, else a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from specdistill.cli.progress import PLAIN_SECONDS


class Counting:
    """Told (name, done, total), shows it. Usable as a context.

    State: where each named count began (what was done before is no part of the rate), and when a line was last said.

    Args:
        unit: what is counted, in the plural.
        clock: seconds.
    """

    def __init__(self, console: Console, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.unit, self.clock = console, unit, clock
        self.began: dict[str, tuple[float, int]] = {}
        self.said = clock()
        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[pace]}"),
        ]
        self.bars = Progress(*columns, console=console, disable=not console.is_terminal)
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Counting:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def __call__(self, name: str, done: int, total: int) -> None:
        """So many of `total` are done; the first call says how many were before."""
        if name not in self.began:
            self.began[name] = (self.clock(), done)
            self.tasks[name] = self.bars.add_task(name, total=total, pace="")
        pace = self.pace(name, done, total)
        self.bars.update(self.tasks[name], completed=done, total=total, pace=pace)
        if not self.console.is_terminal and self.clock() - self.said >= PLAIN_SECONDS:
            self.said = self.clock()
            self.console.print(f"{name} {done:,} of {total:,} {pace}".rstrip(), markup=False, soft_wrap=True)

    def pace(self, name: str, done: int, total: int) -> str:
        """`190 records/s, about 12 s left`; empty before anything was done."""
        since, first = self.began[name]
        seconds = self.clock() - since
        if done <= first or seconds <= 0:
            return ""
        rate = (done - first) / seconds
        shown = f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"
        return f"{shown} {self.unit}/s, about {(total - done) / rate:.0f} s left"
