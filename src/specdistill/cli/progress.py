"""Progress of a build: bars on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from specdistill.cli.output import err
from specdistill.schemas.vocabulary import Arm, ParseOutcome

if TYPE_CHECKING:
    from specdistill.builders.build import Observer
    from specdistill.builders.plan import Plan
    from specdistill.schemas.recipe import Recipe

PLAIN_SECONDS = 10.0
JUDGED_SECONDS = 1.0
"""Seconds between two looks at what was accepted: a look at one row costs as much as one at thousands."""


class Progress:
    """Counts rows as they come, and shows them.

    State: rows and totals per table, judged and passing candidates, samples not yet counted among them, when it began.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.votes = sum(judge.k for judge in recipe.judge.judges)
        self.console = err()
        self.began = self.said = time.monotonic()
        self.done = {"candidates": 0, "judgments": 0}
        self.total = {"candidates": 0, "judgments": 0}
        self.tokens = self.judged = self.passing = 0
        self.samples: list[dict[str, Any]] = []
        self.counted = self.began
        self.steps: dict[str, TaskID] = {}
        columns = [
            SpinnerColumn(),
            TextColumn("{task.description:<11}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[extra]}"),
        ]
        self.bars = Bars(*columns, console=self.console, disable=not self.console.is_terminal)
        self.tasks = {name: self.bars.add_task(name, total=None, visible=False, extra="") for name in self.done}

    def __enter__(self) -> Progress:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()
        if not self.console.is_terminal and any(self.done.values()):
            self.console.print(self.line())

    def observer(self) -> Observer:
        """The build's observer."""
        from specdistill.builders.build import Observer

        return Observer(note=self.note, planned=self.planned, rows=self.rows, step=self.step)

    def step(self, name: str, done: int, total: int) -> None:
        """A step over the prompts went on; `total` is 0 where it is not known. A step's bar goes when it is done."""
        if name not in self.steps:
            self.steps[name] = self.bars.add_task(name, total=total or None, visible=True, extra="")
        finished = bool(total) and done >= total
        self.bars.update(self.steps[name], completed=done, total=total or None, visible=not finished)
        if not self.console.is_terminal and time.monotonic() - self.said > PLAIN_SECONDS:
            self.said = time.monotonic()
            self.console.print(f"{name} {done:,}" + (f" of {total:,}" if total else ""), markup=False)

    def note(self, text: str) -> None:
        """A sentence for the user."""
        self.console.print(text, markup=False, soft_wrap=True)

    def planned(self, plan: Plan) -> None:
        """What is still to do. Judgments of candidates that do not exist yet are an upper bound."""
        self.total["candidates"] = self.done["candidates"] + plan.candidates_wanted
        judgments = plan.judgments_wanted + plan.candidates_wanted * self.votes
        self.total["judgments"] = self.done["judgments"] + judgments
        for name, task in self.tasks.items():
            self.bars.update(task, total=self.total[name], visible=self.total[name] > 0)
        if sum(self.total.values()):
            rewrites = " and their rewrites" if self.recipe.constitution or self.recipe.repair else ""
            self.note(
                f"To do: {plan.candidates_wanted} candidates{rewrites}, up to {judgments} judgments. "
                "The model loads first; Ctrl-C stops in good order and the same command resumes."
            )

    def rows(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """New rows came."""
        self.done[table] += len(rows)
        self.tokens += sum(row["completion_tokens"] or 0 for row in rows)
        if table == "judgments":
            self.samples += rows
            if time.monotonic() - self.counted > JUDGED_SECONDS:
                self.judge()
        else:
            self.expect(rows)
        self.total[table] = max(self.total[table], self.done[table])
        self.bars.update(
            self.tasks[table], completed=self.done[table], total=self.total[table], extra=self.extra(table)
        )
        if not self.console.is_terminal and time.monotonic() - self.said > PLAIN_SECONDS:
            self.said = time.monotonic()
            self.console.print(self.line())

    def expect(self, candidates: Sequence[dict[str, Any]]) -> None:
        """What new candidates leave to do: none is judged that cannot be read, and answers without the spec are
        rewritten. Which answers leak, and are mended, is not known before."""
        read = [row for row in candidates if row["parse"] == ParseOutcome.OK]
        constitution = self.recipe.constitution
        without_spec = sum(row["arm"] == Arm.CONTRAST for row in read)
        rewrites = without_spec * constitution.samples if constitution else 0
        self.total["candidates"] += rewrites
        self.total["judgments"] += (rewrites - (len(candidates) - len(read))) * self.votes

    def judge(self) -> None:
        """Count the candidates that reach the threshold among those judged since the last look."""
        import polars as pl

        from specdistill.builders.judging import aggregate_judgments
        from specdistill.schemas.rows import JUDGMENTS

        rows = [{name: row[name] for name in JUDGMENTS.names} for row in self.samples]
        self.samples, self.counted = [], time.monotonic()
        frame = pl.DataFrame(rows, schema=JUDGMENTS.schema)
        judge = self.recipe.judge
        scores = aggregate_judgments(
            frame, aggregate=judge.aggregate, weights=judge.weights, votes_needed=judge.votes_needed
        )["score"]
        self.judged += len(scores)
        self.passing += int((scores >= judge.threshold).sum())

    def extra(self, table: str) -> str:
        """Rate, ETA, tokens or acceptance, for one bar."""
        seconds = max(time.monotonic() - self.began, 1e-6)
        rate = self.done[table] / seconds
        left = max(self.total[table] - self.done[table], 0) / rate if rate else 0.0
        words = f"{rate:.1f} rows/s, {self.tokens / seconds:.0f} tokens/s, about {left:.0f} s left"
        if table == "judgments" and self.judged:
            words += f", {self.passing / self.judged:.0%} accepted"
        return words

    def line(self) -> str:
        """Both tables in one plain line."""
        self.judge()
        return "; ".join(
            f"{name} {self.done[name]}/{self.total[name]} ({self.extra(name)})"
            for name in self.done
            if self.total[name]
        )
