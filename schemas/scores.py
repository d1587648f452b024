"""One judge sample as one number: selection aggregates it, the report measures its noise."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from specdistill.schemas.vocabulary import JudgmentStatus


def sample_score(weights: Mapping[str, float]) -> pl.Expr:
    """Score of each judge sample, 0 to 1: weighted mean of the criteria it scored; null for an abstention."""
    weighted = {name: weight for name, weight in weights.items() if weight > 0}
    total = pl.sum_horizontal(pl.col(name).is_not_null() * weight for name, weight in weighted.items())
    score = pl.sum_horizontal(pl.col(name) * weight for name, weight in weighted.items()) / total
    return pl.when((pl.col("status") == JudgmentStatus.SCORED) & (total > 0)).then(score)
