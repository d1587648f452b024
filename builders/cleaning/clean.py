"""Cleaning a pool of prompts: limits, language, private data, duplicates of three kinds. Everything removed is kept.

A pool is a frame of `POOL_SCHEMA` in the order of the sources; the earlier of two doubles stays. Twins, and rows whose
sources state different outcomes, are never doubles of each other however similar: the small difference that turns an
outcome is what a model must learn. They stay, and stay together when the set is split.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from specdistill.builders.cleaning import meaning, near
from specdistill.builders.cleaning.language import languages
from specdistill.builders.cleaning.private import private_flags
from specdistill.builders.cleaning.texts import normal, user_text, whole_text
from specdistill.builders.steps import Step, nobody
from specdistill.schemas.pool import REMOVED
from specdistill.schemas.recipe_prompts import Clean
from specdistill.schemas.vocabulary import RemovalReason

Links = list[tuple[str, str]]
"""Pairs of prompt_ids that must stay on one side of a split."""
ROUNDS = 10
"""Most times that near-duplicates are looked for among what is left; large crowds take several."""


@dataclass(frozen=True)
class Cleaned:
    """A cleaned pool.

    Attributes:
        kept: rows that stay, with `language` and `flags`.
        removed: rows of the `removed` table.
        links: similar rows that both stay.
    """

    kept: pl.DataFrame
    removed: pl.DataFrame
    links: Links


class Sieve:
    """A pool on its way through the steps.

    State: which rows are still there, and what was removed and why.
    """

    def __init__(self, pool: pl.DataFrame, step: Step = nobody) -> None:
        self.pool, self.step = pool.with_row_index("row"), step
        self.alive = np.ones(pool.height, dtype=bool)
        self.found: dict[int, dict[str, Any]] = {}

    @property
    def rows(self) -> np.ndarray:
        """Numbers of the rows that are still there."""
        return np.flatnonzero(self.alive)

    def watched(self, name: str) -> near.Progress:
        """Progress of one step."""
        return lambda done, total: self.step(name, done, total)

    def remove(self, row: int, reason: RemovalReason, detail: str | None = None, **more: Any) -> None:
        """Take a row out; its first reason stands."""
        if self.alive[row]:
            self.alive[row] = False
            self.found[row] = {"reason": reason.value, "detail": detail, **more}

    def kept(self) -> pl.DataFrame:
        """The rows that are still there."""
        return self.pool.filter(pl.Series(self.alive)).drop("row")

    def removed(self) -> pl.DataFrame:
        """The `removed` table, in the order of the sources; doubles with the text of what they double."""
        if not self.found:
            return REMOVED.empty()
        rows = sorted(self.found)
        facts = pl.DataFrame([self.found[row] for row in rows], schema=FACTS, orient="row")
        said = self.pool.select("prompt_id", "prompt", "category", "source")[rows]
        frame = pl.concat([said, facts], how="horizontal")
        numbers = frame["matched"].to_list()
        texts = self.pool.select("row", pl.col("prompt_id").alias("matched_id"), whole_text().alias("matched_text"))
        doubled = texts.filter(pl.col("row").is_in([number for number in numbers if number is not None]))
        joined = frame.join(doubled, left_on="matched", right_on="row", how="left", maintain_order="left")
        joined = joined.with_columns(
            pl.coalesce("matched_text", "eval_text").alias("matched_text"),
            pl.col("eval_set").alias("matched_set"),
            pl.col("eval_row").alias("matched_row"),
        )
        return REMOVED.validate(joined.select(REMOVED.names))


FACTS = {
    "reason": pl.String,
    "detail": pl.String,
    "similarity": pl.Float64,
    "matched": pl.UInt32,
    "eval_set": pl.String,
    "eval_row": pl.Int64,
    "eval_text": pl.String,
}


def clean(pool: pl.DataFrame, rules: Clean, step: Step = nobody) -> Cleaned:
    """All steps.

    Args:
        pool: rows of `POOL_SCHEMA`.
    """
    sieve = Sieve(pool, step)
    texts = sieve.pool.select(normal(whole_text()).alias("text"), user_text().alias("user"))
    lengths(sieve, rules)
    sieve.pool = sieve.pool.with_columns(languages(texts["user"], sieve.watched("language")))
    language(sieve, rules)
    if rules.private != "ignore":
        flags = private_flags(texts["user"], sieve.watched("private data"))
        sieve.pool = sieve.pool.with_columns(flags)
        private(sieve, rules)
    twins = twin_rows(pool)
    equal(sieve, texts["text"])
    links = nearly(sieve, texts["text"], rules, twins)
    texts = texts.drop("text")  # each text is held twice at most
    links += alike(sieve, texts["user"], rules, twins)
    ids = pool["prompt_id"]
    return Cleaned(sieve.kept(), sieve.removed(), [(ids[left], ids[right]) for left, right in links])


def lengths(sieve: Sieve, rules: Clean) -> None:
    """Remove what is too short or too long, in characters of the whole conversation."""
    sizes = sieve.pool.select(whole_text().str.strip_chars().str.len_chars().alias("size"))["size"].to_numpy()
    for row in np.flatnonzero((sizes < rules.min_chars) | (sizes > rules.max_chars)).tolist():
        short = sizes[row] < rules.min_chars
        sieve.remove(row, RemovalReason.TOO_SHORT if short else RemovalReason.TOO_LONG, f"{sizes[row]} characters")


def language(sieve: Sieve, rules: Clean) -> None:
    """Remove what is clearly in a language that is not wanted."""
    if rules.languages:
        for row, code in enumerate(sieve.pool["language"].to_list()):
            if code is not None and code not in rules.languages:
                sieve.remove(row, RemovalReason.LANGUAGE, code)


def private(sieve: Sieve, rules: Clean) -> None:
    """Remove rows with secrets or personal data, where the recipe says so."""
    if rules.private == "remove":
        for row, flags in enumerate(sieve.pool["flags"].to_list()):
            if flags:
                sieve.remove(row, RemovalReason.PRIVATE, ", ".join(flags))


def equal(sieve: Sieve, texts: pl.Series) -> None:
    """Remove rows of equal normal form. The first stays, but one with a category before one without."""
    rows = sieve.rows
    frame = pl.DataFrame(
        {"row": rows, "text": texts.gather(rows), "unlabelled": sieve.pool["category"].gather(rows).is_null()}
    )
    frame = frame.sort("unlabelled", "row").with_columns(pl.col("row").first().over("text").alias("first"))
    for row, first in frame.filter(pl.col("row") != pl.col("first")).select("row", "first").sort("row").iter_rows():
        sieve.remove(row, RemovalReason.DUPLICATE, matched=first, similarity=1.0)


def twin_rows(pool: pl.DataFrame) -> set[tuple[int, int]]:
    """Pairs of rows that a source calls twins, both ways round."""
    rows = pool.select(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("row"),
        pl.col("source").str.replace(r":\d+$", "").alias("origin"),
        "source_id",
        "twin_source",
    )
    asking = rows.drop_nulls("twin_source").select("row", "origin", pl.col("twin_source").alias("source_id"))
    named = rows.drop_nulls("source_id").unique(["origin", "source_id"], keep="first", maintain_order=True)
    found = asking.join(named.select("origin", "source_id", pl.col("row").alias("other")), on=["origin", "source_id"])
    pairs = found.filter(pl.col("row") != pl.col("other")).select("row", "other").rows()
    return {(row, other) for row, other in pairs} | {(other, row) for row, other in pairs}


def weed(
    sieve: Sieve, pairs: pl.DataFrame, reason: RemovalReason, twins: set[tuple[int, int]], least: float | None
) -> tuple[int, list[tuple[int, int]]]:
    """Remove each row that is similar to an earlier one that stays.

    Args:
        pairs: left, right, similarity.
        least: least similarity of a double; None removes nothing.

    Returns:
        How many were removed, and the pairs that stay.
    """
    outcomes = sieve.pool["outcome_hint"].to_list()
    stayed, removed = [], 0
    for left, right, similarity in pairs.sort("right", "left").iter_rows():
        if not (sieve.alive[left] and sieve.alive[right]):
            continue
        opposed = None not in (outcomes[left], outcomes[right]) and outcomes[left] != outcomes[right]
        if least is None or similarity < least or opposed or (left, right) in twins:
            stayed.append((left, right))
            continue
        sieve.remove(right, reason, matched=left, similarity=similarity)
        removed += 1
    return removed, [(left, right) for left, right in stayed if sieve.alive[left] and sieve.alive[right]]


def nearly(sieve: Sieve, texts: pl.Series, rules: Clean, twins: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Remove near-duplicates. Where none are to be removed they are still found, to be kept together.

    Returns:
        Pairs of rows that stay though they are similar.
    """
    threshold = rules.near or GROUPED
    rows = sieve.rows
    found = near.signatures(texts.gather(rows), sieve.watched("near-duplicates"))
    place = np.full(len(texts), -1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    stayed: list[tuple[int, int]] = []
    for _ in range(ROUNDS):
        left = sieve.rows
        pairs = left_pairs(near.candidate_pairs(found, place[left], threshold), rows)
        similar = near.verified(texts, pairs, threshold)
        removed, stayed = weed(sieve, similar, RemovalReason.NEAR_DUPLICATE, twins, rules.near)
        if not removed:
            break
    return stayed


GROUPED = 0.8
"""Jaccard similarity from which rows that both stay are kept on one side of a split."""


def left_pairs(pairs: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Pairs of places as pairs of row numbers."""
    return rows[pairs] if len(pairs) else pairs


def alike(sieve: Sieve, texts: pl.Series, rules: Clean, twins: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Remove what means the same as an earlier row.

    Returns:
        Pairs of rows that stay though they are similar.
    """
    if rules.meaning is None:
        return []
    rows = sieve.rows
    left = texts.gather(rows)
    placed = meaning.place(left, meaning.axes_of(left), sieve.watched("embeddings"))
    del left
    pairs = meaning.close_pairs(placed, rules.meaning, sieve.watched("same meaning"))
    pairs = pairs.with_columns(
        pl.Series("left", rows[pairs["left"].to_numpy()], dtype=pl.Int64),
        pl.Series("right", rows[pairs["right"].to_numpy()], dtype=pl.Int64),
    )
    return weed(sieve, pairs, RemovalReason.SAME_MEANING, twins, rules.meaning)[1]


def removal_counts(removed: pl.DataFrame) -> dict[str, int]:
    """Reason to rows, in the order of the steps; reasons without a row are left out."""
    counted: Mapping[str, int] = dict(removed.group_by("reason").len().iter_rows())
    return {reason.value: counted[reason] for reason in RemovalReason if reason in counted}


def all_removed(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Removals of several steps as one table."""
    return pl.concat([REMOVED.empty(), *frames])
