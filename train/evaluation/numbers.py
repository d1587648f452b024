"""From measures to numbers: means with intervals, for all, by category and by expected outcome. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from specdistill.schemas.evaluation import MEASURES, NUMBERS
from specdistill.train.evaluation.intervals import LEVEL, RESAMPLES, clustered, mean_interval
from specdistill.train.evaluation.metrics import METRICS

PLACE = ["metric", "suite", "variant", "with_spec", "by"]
"""What a number is about, beside its group."""
GROUPS = {"all": None, "category": "category", "outcome": "outcome_hint"}
"""Kind of group to the column it groups by."""
POOLED = "ood"
"""Variant under which the measures of all transforms together are shown."""


def numbers_of(
    measures: pl.DataFrame, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> pl.DataFrame:
    """Every number of a set of measures.

    Args:
        measures: rows of the measures table.

    Returns:
        Rows of the numbers table, metrics in the order of tables.
    """
    rows: list[dict[str, Any]] = []
    for place, kind, group, part in grouped(measures):
        data = clustered(part["value"].to_list(), part["prompt_id"].to_list())
        found = mean_interval(data, resamples=resamples, level=level, seed=seed)
        rows.append(
            dict(zip(PLACE, place, strict=True))
            | {"grouped_by": kind, "group": group, "value": found.value, "low": found.low, "high": found.high}
            | {"interval": found.method, "prompts": found.clusters, "rows": found.rows}
        )
    return in_order(NUMBERS.frame(rows))


def grouped(measures: pl.DataFrame) -> Iterator[tuple[tuple[Any, ...], str, str, pl.DataFrame]]:
    """(place, kind of group, group, its measures), in a fixed order; measures of all transforms also as `ood`."""
    both = pl.concat([measures, pooled(measures)]) if measures.height else MEASURES.empty()
    for kind, column in GROUPS.items():
        by = [*PLACE, *([column] if column else [])]
        rows = both.filter(pl.col(column).is_not_null()) if column else both
        parts = rows.sort(*by, "measure_id").partition_by(by, as_dict=True, maintain_order=True)
        for key, part in parts.items():
            yield key[: len(PLACE)], kind, str(key[len(PLACE)]) if column else "*", part


def pooled(measures: pl.DataFrame) -> pl.DataFrame:
    """Measures of single answers to transformed prompts, as one variant."""
    return measures.filter(~pl.col("variant").is_in(["plain", "*"])).with_columns(pl.lit(POOLED).alias("variant"))


def in_order(numbers: pl.DataFrame) -> pl.DataFrame:
    """Numbers with metrics in the order of tables, `all` before groups, `plain` before other variants."""
    return (
        numbers.with_columns(
            pl.col("metric").replace_strict(rank(list(METRICS)), default=len(METRICS)).alias("__metric"),
            pl.col("grouped_by").replace_strict(rank(list(GROUPS)), default=9).alias("__group"),
            pl.col("variant").replace_strict({"plain": 0, POOLED: 1, "*": 2}, default=3).alias("__variant"),
        )
        .sort("suite", "with_spec", "__group", "__variant", "variant", "__metric", "group", "by")
        .drop("__metric", "__group", "__variant")
    )


def rank(names: Sequence[str]) -> dict[str, int]:
    """Place of each name."""
    return {name: place for place, name in enumerate(names)}


def trace(numbers: pl.DataFrame, measures: pl.DataFrame) -> pl.DataFrame:
    """Every number beside the mean of the measures it stands for, made anew: `value` and `again` must be equal.

    Returns:
        The numbers' key columns, value, again, rows, rows_again.
    """
    rows = []
    for place, kind, group, part in grouped(measures):
        found = dict(zip(PLACE, place, strict=True)) | {"grouped_by": kind, "group": group}
        rows.append(found | {"again": part["value"].mean(), "rows_again": part.height})
    schema = {name: NUMBERS.schema[name] for name in (*PLACE, "grouped_by", "group")}
    again = pl.DataFrame(rows, schema={**schema, "again": pl.Float64, "rows_again": pl.Int32})
    keys = [*PLACE, "grouped_by", "group"]
    return numbers.join(again, on=keys, how="full", coalesce=True).select(*keys, "value", "again", "rows", "rows_again")
