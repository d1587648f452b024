"""A run as its judge sees it, before people: who may be shown, and the texts of those who are."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from specdistill.builders.audit.choose import pair_population, row_population
from specdistill.builders.selection import decide_run, pairs_of
from specdistill.builders.stored import Stored
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe


@dataclass(frozen=True)
class Judged:
    """Everybody who may be shown, without texts.

    Attributes:
        rows, pair_rows: from `choose`.
        pairs: from `selection.pairs_of`.
    """

    stored: Stored
    rows: pl.DataFrame
    pairs: pl.DataFrame
    pair_rows: pl.DataFrame

    def still_there(self, records: pl.DataFrame) -> pl.DataFrame:
        """The records (rows of `schemas.audit.RECORDS`) whose row or pair may still be shown: settings may have changed
        since they were chosen."""
        known = pl.concat([self.rows["target_id"], self.pair_rows["target_id"]])
        return records.filter(pl.col("target_id").is_in(known.implode()))


@dataclass(frozen=True)
class Material:
    """What records are made of.

    Attributes:
        rows: rows of `Judged.rows` that are shown.
        pairs: pairs that are shown.
        texts: candidate_id, reasoning, answer of both.
        prompts: prompt_id, prompt of both.
        clauses: the clause table.
        judge: name of the judge model.
    """

    rows: pl.DataFrame
    pairs: pl.DataFrame
    texts: pl.DataFrame
    prompts: pl.DataFrame
    clauses: pl.DataFrame
    judge: str


def judged(layout: RunLayout, recipe: Recipe) -> Judged:
    """Read a run and decide it without people, range by range.

    Raises:
        RunError: a part cannot be read.
    """
    stored = Stored(layout, recipe)
    with decide_run(stored) as decided:
        rows = pl.concat(
            row_population(decided.of(shard), stored.judgments(shard).collect(), stored.prompts, stored.clauses, recipe)
            for shard in stored.shards
        ).sort("target_id")
        pairs = pairs_of(decided, recipe)
    return Judged(stored, rows, pairs, pair_population(pairs, stored.prompts))


def material_of(run: Judged, records: pl.DataFrame) -> Material:
    """What the records of a run are made of.

    Args:
        records: from `Judged.still_there`.
    """
    targets = records["target_id"].to_list()
    rows = run.rows.filter(pl.col("target_id").is_in(targets))
    pairs = run.pairs.filter(pl.col("id").is_in(targets))
    candidates = [*rows["target_id"], *pairs["chosen_id"], *pairs["rejected_id"]]
    prompts = [*rows["prompt_id"], *pairs["prompt_id"]]
    texts, asked = [], []
    for shard in run.stored.shards:
        shown = run.stored.candidates(shard).filter(pl.col("candidate_id").is_in(candidates))
        texts.append(shown.select("candidate_id", "reasoning", "answer").collect())
        found = run.stored.prompt_rows(shard).filter(pl.col("prompt_id").is_in(prompts))
        asked.append(found.select("prompt_id", "prompt"))
    judge = run.stored.recipe.judge.model
    return Material(rows, pairs, pl.concat(texts), pl.concat(asked), run.stored.clauses, judge)
