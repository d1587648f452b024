"""Adaptive k: no more judge samples for a candidate that can no longer be accepted.

Only certain rejections are cut short: an accepted candidate always has all k samples, so its score means what it means
without this. What a cut-off candidate would have scored is not known, so a share of all candidates, drawn by their id
before anything is known of them, is never cut short; what is said of the judge's noise is measured on those alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from specdistill.builders.judging import Verdict
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.scores import PLACES, is_always_whole, sample_score


class Rule(BaseModel):
    """When a candidate's judging may stop.

    Attributes:
        first: samples before the first look; then as many again as there are.
        whole: share of the candidates that always get all samples.
        k, aggregate, threshold, votes_needed, weights: of the judge.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: int
    whole: float
    k: int
    aggregate: str
    threshold: float
    votes_needed: int
    weights: dict[str, float]

    def next(self, candidate_id: str, wanted: Sequence[int], verdicts: Mapping[int, Verdict | None]) -> list[int]:
        """The samples to ask for now; none when all are there or no more are needed.

        Args:
            wanted: indexes of the samples that lack.
            verdicts: what those that were asked said; None for a failed call.
        """
        left = [index for index in wanted if index not in verdicts]
        if len(wanted) < self.k or is_always_whole(candidate_id, self.whole):  # others were asked in an earlier session
            return left
        scores = [score for one in verdicts.values() if one and (score := score_of(one, self.weights)) is not None]
        if verdicts and hopeless(scores, len(left), self.aggregate, self.threshold, self.votes_needed):
            return []
        return left[: len(verdicts) or self.first]


def rule_of(recipe: Recipe) -> Rule | None:
    """The recipe's rule; None where every candidate gets all its samples."""
    judge = recipe.judge
    if judge.adaptive is None:
        return None
    return Rule(
        first=judge.adaptive.first,
        whole=judge.adaptive.whole,
        k=judge.k,
        aggregate=judge.aggregate,
        threshold=judge.threshold,
        votes_needed=judge.votes_needed,
        weights=judge.weights,
    )


def hopeless(scores: Sequence[float], left: int, aggregate: str, threshold: float, votes_needed: int) -> bool:
    """Whether no samples that are left can make the candidate accepted.

    Every aggregate grows with each of its samples, so the best that can come are ones; any number of the samples that
    are left may abstain.
    """
    return not any(
        len(scores) + more >= max(votes_needed, 1) and aggregated([*scores, *[1.0] * more], aggregate) >= threshold
        for more in range(left + 1)
    )


def aggregated(scores: Sequence[float], aggregate: str) -> float:
    """`schemas.scores.aggregation` of one or more numbers."""
    match aggregate:
        case "min":
            return min(scores)
        case "mean":
            return round(fmean(scores), PLACES)
        case "median":
            return round(median(scores), PLACES)
        case "max":
            return max(scores)
    ranked = sorted(scores)
    place = (len(ranked) - 1) * int(aggregate.removeprefix("q")) / 100
    low = int(place)
    high = min(low + 1, len(ranked) - 1)
    return round(ranked[low] + (ranked[high] - ranked[low]) * (place - low), PLACES)


def score_of(verdict: Verdict, weights: Mapping[str, float]) -> float | None:
    """`schemas.scores.sample_score` of one verdict."""
    known = {name: weights.get(name, 0.0) for name in verdict.scores if weights.get(name, 0.0) > 0}
    if not known:
        return None
    total = sum(known.values())
    return round(sum(verdict.scores[name] * weight for name, weight in known.items()) / total, PLACES)


def settled(judgments: pl.LazyFrame, rule: Rule) -> pl.DataFrame:
    """candidate_id of the candidates that lack samples and need none.

    Args:
        judgments: current judgments.
    """
    samples = (
        judgments.filter(pl.col("error").is_null())
        .group_by("candidate_id")
        .agg(sample_score(rule.weights).drop_nulls().alias("scores"), pl.len().alias("asked"))
        .filter(pl.col("asked") < rule.k)
        .collect()
    )

    def enough(row: Mapping[str, Any]) -> bool:
        left = rule.k - row["asked"]
        return not is_always_whole(row["candidate_id"], rule.whole) and hopeless(
            row["scores"], left, rule.aggregate, rule.threshold, rule.votes_needed
        )

    found = [row["candidate_id"] for row in samples.iter_rows(named=True) if enough(row)]
    return pl.DataFrame({"candidate_id": found}, schema={"candidate_id": pl.String})
