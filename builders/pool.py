"""All that happens to prompts before a build: read, cleaned, decontaminated, labelled, tabled, some held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.builders.cleaning.clean import all_removed, clean, removal_counts
from specdistill.builders.cleaning.decontaminate import decontaminate
from specdistill.builders.cleaning.evalsets import read_eval_sets
from specdistill.builders.commits import Commits
from specdistill.builders.prompts import read_pool, tabled
from specdistill.builders.steps import Step, nobody
from specdistill.errors import PromptError
from specdistill.schemas.pool import REMOVED
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.rows import PROMPTS
from specdistill.schemas.vocabulary import RemovalReason


@dataclass(frozen=True)
class Labelled:
    """What a classifier made of a pool.

    Attributes:
        pool: all rows, `category` and `label_share` filled in where the classifier is sure; null where it is not.
        summary: counts and agreement with given labels.
        unsure: rows for people: prompt, suggested, votes.
    """

    pool: pl.DataFrame
    summary: dict[str, Any]
    unsure: list[dict[str, Any]]


Labeller = Callable[[pl.DataFrame], Labelled]


@dataclass(frozen=True)
class Prompts:
    """What the sources gave.

    Attributes:
        table: rows of the prompts table.
        removed: rows of the `removed` table.
        evaluation: rows of the prompts table that are held out.
        summary: what became of the sources' rows, JSON-able.
        unsure: rows for people to label.
        key: of what they were made from, see `kept_prompts`; empty for prompts that are not to be kept.
        stored: whether they were read from the run.
    """

    table: pl.DataFrame
    removed: pl.DataFrame
    evaluation: pl.DataFrame
    summary: dict[str, Any]
    unsure: list[dict[str, Any]] = field(default_factory=list)
    key: str = ""
    stored: bool = False


def make_prompts(
    recipe: Recipe,
    categories: list[str],
    base: Path,
    seeds: list[Path],
    *,
    step: Step = nobody,
    label: Labeller | None = None,
    commits: Commits | None = None,
) -> Prompts:
    """From the recipe's sources to the prompts of a build.

    Args:
        label: gives unlabelled rows a category; without it they are left out.
        commits: what hub datasets were found at already.

    Raises:
        PromptError: a source or evaluation set cannot be read or has faulty rows, or there is nothing to pick from.
    """
    commits = commits or Commits()
    evals = read_eval_sets(recipe.decontaminate, base, commits)
    pool = read_pool(recipe, categories, base, seeds, step, commits)
    cleaned = clean(pool, recipe.clean, step)
    pool = pool.drop("prompt")  # what is left of it says what twins mean
    sieve = decontaminate(cleaned.kept, evals, recipe.overlap, step)
    kept, removed = sieve.kept(), [cleaned.removed, sieve.removed()]
    labelled = label(kept) if label else Labelled(kept, {}, [])
    nameless = labelled.pool.filter(pl.col("category").is_null())
    removed.append(as_removed(nameless, RemovalReason.UNLABELLED))
    kept = labelled.pool.filter(pl.col("category").is_not_null())
    step("grouping", 0, kept.height)
    table = tabled(pool, kept, all_removed(removed), cleaned.links)
    table, picks, beside = held_out(table, recipe)
    removed.append(as_removed(beside, RemovalReason.BESIDE_EVALUATION))
    gone = all_removed(removed)
    summary = {
        "rows": pool.height,
        "kept": table.height,
        "held_out": picks.height,
        "removed": removal_counts(gone),
        "flagged": flag_counts(table),
        "languages": language_counts(table),
        "groups": group_counts(table),
        "decontaminated": set_counts(recipe, evals, gone),
        "labels": labelled.summary,
    }
    return Prompts(table, gone, picks, summary, labelled.unsure)


def held_out(table: pl.DataFrame, recipe: Recipe) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(training rows, evaluation picks, rows too close to a pick): top N a category by the source's score.

    Raises:
        PromptError: no prompt has a score.
    """
    if recipe.evaluation is None:
        return table, table.clear(), table.clear()
    scored = table.drop_nulls("source_score")
    if scored.is_empty():
        raise PromptError(
            "The recipe holds out evaluation prompts by score, but no prompt has one.",
            "Map the source's column: `columns: {score: NAME}`.",
        )
    best = scored.sort(["category", "source_score", "prompt_id"], descending=[False, True, False])
    picks = best.group_by("category", maintain_order=True).head(recipe.evaluation.per_category).select(PROMPTS.names)
    rest = table.join(picks.select("prompt_id"), on="prompt_id", how="anti", maintain_order="left")
    close = pl.col("group_id").is_in(picks["group_id"].unique().to_list())
    return rest.filter(~close), picks, rest.filter(close)


def as_removed(rows: pl.DataFrame, reason: RemovalReason) -> pl.DataFrame:
    """Rows of the `removed` table for one reason."""
    known = rows.with_columns(pl.lit(reason.value).alias("reason"))
    missing = [column for column in REMOVED.columns if column.name not in known.columns]
    return known.with_columns(pl.lit(None, column.dtype).alias(column.name) for column in missing).select(REMOVED.names)


def flag_counts(table: pl.DataFrame) -> dict[str, int]:
    """Kind of secret or personal data to prompts."""
    counted = table.select(pl.col("flags").explode()).drop_nulls().group_by("flags").len().sort("flags")
    return dict(counted.iter_rows())


def language_counts(table: pl.DataFrame) -> dict[str, int]:
    """Language to prompts, most first; `unclear` where it is not known."""
    named = table.select(pl.col("language").fill_null("unclear")).group_by("language").len()
    return dict(named.sort(["len", "language"], descending=[True, False]).iter_rows())


def group_counts(table: pl.DataFrame) -> dict[str, int]:
    """How many groups are never split, and prompts of the largest."""
    sizes = table.group_by("group_id").len()["len"]
    return {"groups": len(sizes), "largest": int(sizes.max() or 0)}  # type: ignore[arg-type]


def set_counts(recipe: Recipe, evals: pl.DataFrame, removed: pl.DataFrame) -> list[dict[str, Any]]:
    """Per evaluation set: name, prompts in it, and how many of ours overlapped most with it."""
    sizes = dict(evals.group_by("set").len().iter_rows())
    hits = dict(removed.drop_nulls("matched_set").group_by("matched_set").len().iter_rows())
    names = list(dict.fromkeys(asked.name for asked in recipe.decontaminate))
    return [{"name": name, "prompts": sizes.get(name, 0), "removed": hits.get(name, 0)} for name in names]
