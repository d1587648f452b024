"""Numbers about the judge: scores, spread over its samples, flips, abstentions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from specdistill.cards.statistics import BINS, histogram, mean_of, quartiles, read, wilson
from specdistill.schemas.scores import sample_score
from specdistill.schemas.vocabulary import CRITERIA, Arm, JudgmentStatus

Whole = Mapping[str, pl.LazyFrame]
"""Config to the rows of all its splits, not yet read: each number reads only the columns it needs."""


def scores(whole: Whole, threshold: float) -> dict[str, Any]:
    """Distribution of the aggregated score over judged candidates, per arm, and of each criterion."""
    if "reward" not in whole:
        return {"threshold": threshold, "edges": [], "arms": {}, "criteria": {}}
    judged = read(whole["reward"].select("arm", "score", *CRITERIA))
    arms = {}
    for arm in Arm:
        values = judged.filter(pl.col("arm") == arm)["score"]
        arms[arm.value] = {"candidates": len(values), "counts": histogram(values), **quartiles(values)}
    return {
        "threshold": threshold,
        "edges": [round(number / BINS, 4) for number in range(BINS + 1)],
        "arms": arms,
        "criteria": {name: quartiles(judged[name].drop_nulls()) for name in CRITERIA},
    }


def judge(whole: Whole, threshold: float, weights: Mapping[str, float]) -> dict[str, Any]:
    """How noisy the judge is, over the k samples of each candidate.

    Spread is the mean standard deviation of a candidate's samples. A candidate flips when some of its samples reach
    the threshold and others do not; `disagreement` is the chance that two samples of one candidate differ in that.
    Both need two scored samples or more.

    Returns:
        samples, scored, abstained, failed, abstention (share), abstain_reasons, spread (score and criteria),
        spread_counts (histogram of the score's standard deviation, 0 to 0.5), flips, by_category.
    """
    if "judgments" not in whole:
        return {"samples": 0}
    raw = whole["judgments"].select(
        "candidate_id", "category", "status", "abstain_reason", *CRITERIA, sample_score(weights).alias("sample_score")
    )
    status = dict(read(raw.group_by("status").len()).iter_rows())
    scored, abstained = (int(status.get(name, 0)) for name in (JudgmentStatus.SCORED, JudgmentStatus.ABSTAINED))
    noise = read(candidate_noise(raw, threshold))
    why = read(raw.drop_nulls("abstain_reason").group_by("abstain_reason").len("rows"))
    return {
        "samples": sum(status.values()),
        "candidates": int(read(raw.select(pl.col("candidate_id").n_unique())).item()),
        "scored": scored,
        "abstained": abstained,
        "failed": int(status.get(JudgmentStatus.FAILED, 0)),
        "abstention": wilson(abstained, scored + abstained),
        "abstain_reasons": why.sort(["rows", "abstain_reason"], descending=[True, False]).to_dicts(),
        "spread": {name: mean_of(noise[f"{name}_std"]) for name in ("sample_score", *CRITERIA)},
        "spread_counts": histogram(noise["sample_score_std"], top=0.5),
        **flip_rate(noise),
        "by_category": [
            {"category": category, **flip_rate(rows)}
            for (category,), rows in sorted(noise.partition_by("category", as_dict=True).items())
        ],
    }


def candidate_noise(raw: pl.LazyFrame, threshold: float) -> pl.LazyFrame:
    """Candidates with two scored samples or more: category, standard deviations, flips, disagreement."""
    good = pl.col("sample_score") >= threshold
    grouped = (
        raw.drop_nulls("sample_score")
        .group_by("candidate_id", "category")
        .agg(
            pl.len().alias("n"),
            good.sum().alias("good"),
            *(pl.col(name).std().alias(f"{name}_std") for name in ("sample_score", *CRITERIA)),
        )
    )
    n, passing = pl.col("n"), pl.col("good")
    return grouped.filter(n >= 2).with_columns(
        ((passing > 0) & (passing < n)).alias("flips"),
        (2 * passing.cast(pl.Float64) * (n - passing.cast(pl.Int64)) / (n * (n - 1))).alias("disagreement"),
    )


def flip_rate(noise: pl.DataFrame) -> dict[str, Any]:
    """Candidates that could flip, how many did (share with interval), and the disagreement of two samples."""
    flipped = int(noise["flips"].sum())
    return {
        "repeated": noise.height,
        "flipped": flipped,
        "flips": wilson(flipped, noise.height),
        "disagreement": mean_of(noise["disagreement"]),
    }
