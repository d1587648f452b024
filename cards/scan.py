"""Secrets and personal data in rows, looked for before they leave the machine.

What is looked for and by what: `schemas/private.py`. Personal data is looked for in texts that have digits or an @ at
all. What is found is shown masked, with the rows it is in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from specdistill.errors import PublishError
from specdistill.schemas.private import MAYBE_PERSONAL, personal_in, secrets_in
from specdistill.schemas.seen import Seen

Sets = Mapping[str, Mapping[str, pl.DataFrame | pl.LazyFrame]]
BATCH = 500
SHOWN = 10


@dataclass(frozen=True)
class Find:
    """Something found.

    Attributes:
        kind: `secret` or `personal`.
        rule: what it is taken for.
        shown: the words, masked.
    """

    kind: str
    rule: str
    config: str
    split: str
    row: str
    column: str
    shown: str

    def __str__(self) -> str:
        return f"{self.config}/{self.split} row {self.row}, {self.column}: {self.rule} ({self.shown})"


def scan(sets: Sets) -> list[Find]:
    """Look through every text of every row; each text once, however many rows and configs hold it.

    Raises:
        MissingExtra: the scanners are not installed.
    """
    seen, found = Seen(), list[Find]()
    for config, split, part in batches(sets):
        for row, column, text, numbers in texts(part, seen):
            found += [Find("secret", rule, config, split, row, column, shown) for rule, shown in secrets_in(text)]
            if numbers:
                finds = personal_in(text)
                found += [Find("personal", rule, config, split, row, column, shown) for rule, shown in finds]
    return found


def batches(sets: Sets) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """(config, split, rows), `BATCH` rows at a time."""
    for config, splits in sets.items():
        for split, frame in splits.items():
            for part in frame.lazy().collect_batches(chunk_size=BATCH, maintain_order=True):
                if part.height:
                    yield config, split, part


def texts(part: pl.DataFrame, seen: Seen) -> Iterator[tuple[str, str, str, bool]]:
    """(row id, column, text, whether it may hold personal data) of every new text that somebody wrote."""
    for name, dtype in part.schema.items():
        if dtype == pl.String and name in FREE_TEXT:
            column = part.select("id", pl.col(name).alias("text"))
        elif isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct):
            turns = part.select("id", pl.col(name)).explode(name).select("id", pl.col(name).struct.unnest())
            fields = [field for field in ("content", "reasoning_content") if field in turns.columns]
            column = pl.concat([turns.select("id", pl.col(field).alias("text")) for field in fields])
        else:
            continue
        column = column.drop_nulls("text").filter(pl.col("text").str.len_bytes() > 0)
        column = column.filter(seen.new(column["text"]))
        likely = column["text"].str.contains(MAYBE_PERSONAL)
        for (row, text), numbers in zip(column.iter_rows(), likely, strict=True):
            yield row, name, text, numbers


FREE_TEXT = frozenset({"reasoning", "answer", "raw", "detail", "justification", "error", "source"})
"""String columns with words in them; the others are ids and closed sets."""


def counts(found: list[Find]) -> dict[str, int]:
    """Finds per kind and rule, for the manifest."""
    tally: dict[str, int] = {"secret": 0, "personal": 0}
    for find in found:
        tally[find.kind] += 1
    return tally


def refuse_finds(found: list[Find]) -> None:
    """Stop before what was found leaves the machine.

    Raises:
        PublishError: something was found; names the first ten.
    """
    if found:
        lines = "\n".join(f"  {find}" for find in found[:SHOWN])
        more = f"\n  and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise PublishError(
            f"{len(found)} texts look like secrets or personal data:\n{lines}{more}\n",
            "Remove the rows at their source and build again, or publish with --accept-findings after looking at them.",
        )
