"""One judge sample as one number: selection aggregates it, the report measures its noise."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from specdistill.schemas.vocabulary import JudgmentStatus

PLACES = 9


def sample_score(weights: Mapping[str, float]) -> pl.Expr:
    """Score of each judge sample, 0 to 1: weighted mean of the criteria it scored; null for an abstention.

    Rounded to nine places: a score of 0.8 must reach a threshold of 0.8, however its sum came about.
    """
    weighted = {name: weight for name, weight in weights.items() if weight > 0}
    total = pl.sum_horizontal(pl.col(name).is_not_null() * weight for name, weight in weighted.items())
    score = pl.sum_horizontal(pl.col(name) * weight for name, weight in weighted.items()) / total
    return pl.when((pl.col("status") == JudgmentStatus.SCORED) & (total > 0)).then(score.round(PLACES))


def is_always_whole(candidate_id: str, share: float) -> bool:
    """Whether a candidate is of the share that always gets all judge samples, drawn by its id alone."""
    try:
        return int(candidate_id[:8], 16) < share * 2**32
    except ValueError:  # an id that is no digest
        return True


def always_whole(share: float) -> pl.Expr:
    """`is_always_whole` of the column `candidate_id`."""
    drawn = pl.col("candidate_id").str.slice(0, 8).str.to_integer(base=16, strict=False)
    return (drawn < share * 2**32).fill_null(True)


def aggregation(aggregate: str, column: str) -> pl.Expr:
    """How the samples of one candidate become one number; nulls are left out, no sample gives null.

    Args:
        aggregate: `min` (the paper's), `mean`, `median`, `max`, or a percentile such as `q25`.
    """
    values = pl.col(column).drop_nulls()
    match aggregate:
        case "min":
            return values.min()
        case "mean":
            return values.mean().round(PLACES)
        case "median":
            return values.median().round(PLACES)
        case "max":
            return values.max()
        case _:
            return values.quantile(int(aggregate.removeprefix("q")) / 100, interpolation="linear").round(PLACES)
