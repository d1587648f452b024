"""Which clauses the rows of a build apply, and which they cite although they cannot: pure functions over frames."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import polars as pl

from specdistill.errors import SchemaError
from specdistill.schemas.citations import cited_series
from specdistill.schemas.vocabulary import Arm, Outcome

OUTCOMES = (Outcome.COMPLY, Outcome.REFUSE, Outcome.SAFE_COMPLETE, Outcome.UNSPECIFIED)
"""Columns of the coverage table, by the expected outcome of the prompt; `unspecified` where none is stated."""


def coverage(clauses: pl.DataFrame, accepted: pl.DataFrame) -> pl.DataFrame:
    """How many accepted reasonings cite each clause, by outcome.

    Args:
        clauses: the clause table (`schemas.rows.CLAUSES`).
        accepted: rows of `sft`: `category`, `clauses` (anchors that the reasoning cites), `outcome_hint`.

    Returns:
        One row a clause, in order: anchor, category, outcome, title; the number of rows that cite it, as `rows` in
        all and by expected outcome as `comply`, `refuse`, `safe_complete`, `unspecified`; `category_rows`, the rows
        of its own category (null for style clauses); `share`, the part of those that cite it (null without any).

    Raises:
        SchemaError: a column is missing.
    """
    _need(clauses, "clauses", ["anchor", "category", "outcome", "title"])
    _need(accepted, "sft", ["category", "clauses"])
    if "outcome_hint" not in accepted.columns:
        accepted = accepted.with_columns(outcome_hint=pl.lit(None, dtype=pl.String))
    cited = (
        accepted.select(
            "category",
            pl.col("outcome_hint").fill_null(Outcome.UNSPECIFIED.value),
            pl.col("clauses").list.unique(),
        )
        .explode("clauses")
        .drop_nulls("clauses")
        .rename({"clauses": "anchor", "category": "row_category"})
    )
    counts = cited.group_by("anchor").agg(
        pl.len().alias("rows"),
        *((pl.col("outcome_hint") == outcome.value).sum().alias(outcome.value) for outcome in OUTCOMES),
    )
    own = (
        cited.join(clauses.select("anchor", "category"), on="anchor")
        .filter(pl.col("row_category") == pl.col("category"))
        .group_by("anchor")
        .agg(pl.len().alias("own_rows"))
    )
    totals = accepted.group_by("category").agg(pl.len().alias("category_rows"))
    numbers = ["rows", *(outcome.value for outcome in OUTCOMES)]
    return (
        clauses.select("anchor", "category", "outcome", "title")
        .join(counts, on="anchor", how="left", maintain_order="left")
        .join(own, on="anchor", how="left", maintain_order="left")
        .join(totals, on="category", how="left", maintain_order="left")
        .with_columns(pl.col([*numbers, "own_rows"]).fill_null(0).cast(pl.Int64))
        .with_columns(
            category_rows=pl.when(pl.col("category").is_not_null())
            .then(pl.col("category_rows").fill_null(0).cast(pl.Int64))
            .otherwise(None)
        )
        .with_columns(
            share=pl.when(pl.col("category_rows") > 0)
            .then(pl.col("own_rows") / pl.col("category_rows"))
            .otherwise(None)
        )
        .select("anchor", "category", "outcome", "title", *numbers, "category_rows", "share")
    )


def uncovered(covered: pl.DataFrame) -> pl.DataFrame:
    """The clauses of categories that no accepted row cites, in order; style clauses are not looked for."""
    return covered.filter((pl.col("rows") == 0) & pl.col("category").is_not_null())


def stray_citations(
    candidates: pl.DataFrame, anchors: Collection[str], shown: Mapping[str, Collection[str]]
) -> pl.DataFrame:
    """Citations of clauses that do not exist, or that the model was not shown.

    Args:
        candidates: rows of `candidates` (`category`, `reasoning`, `arm`); those sampled without the spec are left out.
        anchors: every anchor of the spec.
        shown: category id to the anchors visible in the text shown for it (`Rendered.anchors`).

    Returns:
        anchor, problem (`invented` or `not_shown`), category (of the row), rows; most frequent first.

    Raises:
        SchemaError: a column is missing.
    """
    _need(candidates, "candidates", ["category", "reasoning"])
    if "arm" in candidates.columns:
        candidates = candidates.filter(pl.col("arm") == Arm.SPEC.value)
    cited = cited_series(candidates["reasoning"], anchors)
    frame = candidates.select("category").with_columns(known=cited["known"], invented=cited["invented"])
    visible = pl.DataFrame(
        [(category, anchor) for category, names in shown.items() for anchor in sorted(names)],
        schema={"category": pl.String, "anchor": pl.String},
        orient="row",
    )
    invented = _long(frame, "invented").with_columns(problem=pl.lit("invented"))
    unseen = _long(frame, "known").join(visible, on=["category", "anchor"], how="anti")
    return (
        pl.concat([invented, unseen.with_columns(problem=pl.lit("not_shown"))])
        .group_by("anchor", "problem", "category")
        .agg(pl.len().cast(pl.Int64).alias("rows"))
        .sort(["rows", "problem", "category", "anchor"], descending=[True, False, False, False])
    )


def _long(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    return frame.select("category", pl.col(column).list.unique().alias("anchor")).explode("anchor").drop_nulls("anchor")


def _need(frame: pl.DataFrame, name: str, columns: list[str]) -> None:
    if missing := [column for column in columns if column not in frame.columns]:
        raise SchemaError(
            f"Rows of '{name}' have no column {', '.join(missing)}.",
            f"They have: {', '.join(frame.columns) or 'none'}.",
        )
