"""How noisy a judge is, from its k samples of each candidate: spread, flips, abstentions, and the k that would settle
a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import takewhile
from math import comb, sqrt
from statistics import NormalDist
from typing import Any

import polars as pl

from specdistill.cards.statistics import mean_of
from specdistill.schemas.intervals import clustered_share, pooled_sd, wilson, z_value
from specdistill.schemas.vocabulary import CRITERIA, JudgmentStatus

UNSTABLE = 0.05
"""A verdict is stable when a second panel of k samples would turn it with at most this probability, on average."""
TRIED = (*range(1, 16), 20, 25, 30, 40, 50, 75, 100)
"""The k that are looked at."""
CURVE = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 100)
"""The k of the curve in the report."""
GRID, ROUNDS = 40, 150
HALF_STEP = 0.125
"""Half a step of the judge's scale of 1 to 5, on 0 to 1."""
SCORES = ("sample_score", *CRITERIA)


def candidate_noise(raw: pl.LazyFrame, threshold: float) -> pl.LazyFrame:
    """One row a candidate and judge.

    Args:
        raw: judge samples: candidate_id, judge_digest, category, status, sample_score, criteria.

    Returns:
        candidate_id, judge_digest, category, n (scored samples), asked (scored and abstained), good (samples that reach
        the threshold), mean, `NAME_var` of the score and each criterion (null for one sample), `NAME_differs` of each
        criterion, flips, disagreement (the chance that two of its samples differ about the threshold).
    """
    n, good = pl.col("n").cast(pl.Int64), pl.col("good").cast(pl.Int64)
    return (
        raw.group_by("candidate_id", "judge_digest", "category")
        .agg(
            pl.col("sample_score").count().alias("n"),
            (pl.col("status") != JudgmentStatus.FAILED).sum().alias("asked"),
            (pl.col("sample_score") >= threshold).sum().alias("good"),
            pl.col("sample_score").mean().alias("mean"),
            *(pl.col(name).var().alias(f"{name}_var") for name in SCORES),
            *((pl.col(name).min() != pl.col(name).max()).alias(f"{name}_differs") for name in CRITERIA),
        )
        .with_columns(
            ((good > 0) & (good < n) & (n >= 2)).alias("flips"),
            pl.when(n >= 2).then(2 * good * (n - good) / (n * (n - 1))).alias("disagreement"),
        )
    )


def noise_of(rows: pl.DataFrame, threshold: float, aggregate: str) -> dict[str, Any]:
    """What `report` and the card say of one judge, over all candidates or those of one category.

    Args:
        rows: from `candidate_noise`.

    Returns:
        candidates, repeated (with two scored samples or more), flipped, flips (share), disagreement, abstention
        (share, clustered by candidate), sd (of one sample's score, with interval), reliability (share of a sample's
        variance that is between candidates), k_needed (see `enough`), stability (k to the chance that a second
        panel of k decides otherwise).
    """
    repeated = rows.filter(pl.col("n") >= 2)
    flipped = int(repeated["flips"].sum())
    stability = unstable(repeated, threshold, aggregate)
    return {
        "candidates": rows.height,
        "repeated": repeated.height,
        "flipped": flipped,
        "flips": wilson(flipped, repeated.height),
        "disagreement": mean_of(repeated["disagreement"]),
        "abstention": clustered_share(rows["asked"] - rows["n"].cast(pl.Int64), rows["asked"]),
        "sd": pooled_sd(repeated["sample_score_var"]),
        "reliability": reliability(repeated),
        "k_needed": enough(stability),
        "stability": [{"k": k, "changed": stability[k]} for k in CURVE] if stability else [],
    }


def enough(stability: Mapping[int, float]) -> int | None:
    """The k from which on hardly a candidate is decided otherwise; None for more than 100, or where nothing is known.

    From which on, since under the aggregate `min` more samples may make a decision less stable before they settle it.
    """
    if not stability:
        return None
    settled = list(takewhile(lambda k: stability[k] <= UNSTABLE, reversed(TRIED)))
    return settled[-1] if settled else None


def criteria_noise(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Per criterion: sd of one sample with interval, share of candidates whose samples differ, and the samples whose
    mean would be known to half a step of the judge's scale."""
    found = []
    for name in CRITERIA:
        scored = rows.drop_nulls(f"{name}_var")
        sd = pooled_sd(scored[f"{name}_var"])
        needed = None if sd["sd"] is None else max(1, round((z_value() * sd["sd"] / HALF_STEP) ** 2 + 0.5))
        differs = int(scored[f"{name}_differs"].sum())
        found.append(
            {"criterion": name, "sd": sd, "differs": wilson(differs, scored.height), "k_to_half_a_step": needed}
        )
    return found


def between_variance(rows: pl.DataFrame) -> tuple[float, float]:
    """Variance of candidates' true scores and of one sample around it (one-way analysis of variance, unequal n)."""
    n = rows["n"].cast(pl.Float64)
    total, groups = float(n.sum()), rows.height
    within = float((rows["sample_score_var"] * (n - 1)).sum()) / max(1.0, total - groups)
    grand = float((rows["mean"] * n).sum()) / total
    between = float((n * (rows["mean"] - grand) ** 2).sum()) / max(1, groups - 1)
    typical = (total - float((n * n).sum()) / total) / max(1, groups - 1)
    return max(0.0, (between - within) / typical) if typical else 0.0, within


def reliability(rows: pl.DataFrame) -> float | None:
    """Intraclass correlation ICC(1,1) (Shrout and Fleiss, 1979): 1 for a judge without noise, 0 for one that rolls
    dice. None where there is nothing to compare."""
    if rows.height < 2:
        return None
    between, within = between_variance(rows)
    return between / (between + within) if between + within > 0 else None


def unstable(rows: pl.DataFrame, threshold: float, aggregate: str) -> dict[int, float]:
    """The chance that a second panel of k samples would decide otherwise, averaged over candidates, for each k tried.

    Mean aggregation: a candidate's true score is its mean, drawn towards the mean of all by the judge's reliability,
    and k samples scatter around it normally. Any other: a candidate's samples pass the threshold with a chance of its
    own, spread over candidates as `passing_chances` finds.
    """
    if rows.height < 2:
        return {}
    if aggregate == "mean":
        return _unstable_means(rows, threshold)
    counts = rows.group_by("n", "good").len("rows").sort("n", "good").iter_rows()
    chances = passing_chances(tuple((int(n), int(good), int(number)) for n, good, number in counts))
    return {k: sum(weight * 2 * (q := passes(p, k, aggregate)) * (1 - q) for p, weight in chances) for k in TRIED}


@lru_cache(maxsize=64)
def passing_chances(counts: tuple[tuple[int, int, int], ...]) -> tuple[tuple[float, float], ...]:
    """How the chance that one sample passes is spread over candidates: nonparametric maximum likelihood of a mixture
    of binomials on a grid (Laird, 1978), by expectation and maximisation.

    Args:
        counts: (samples, of them passing, candidates with these counts).

    Returns:
        (chance, share of candidates), shares sum to 1.
    """
    grid = [at / GRID for at in range(GRID + 1)]
    weights = [1 / len(grid)] * len(grid)
    likelihood = [[p**good * (1 - p) ** (n - good) for p in grid] for n, good, _ in counts]
    total = sum(number for _, _, number in counts)
    for _ in range(ROUNDS):
        grown = [0.0] * len(grid)
        for (_, _, number), row in zip(counts, likelihood, strict=True):
            joint = [weight * chance for weight, chance in zip(weights, row, strict=True)]
            scale = number / (total * sum(joint))
            grown = [before + scale * more for before, more in zip(grown, joint, strict=True)]
        weights = grown
    return tuple(zip(grid, weights, strict=True))


@lru_cache(maxsize=8192)
def passes(p: float, k: int, aggregate: str) -> float:
    """The chance that k samples pass together when each passes with chance p."""
    if aggregate == "min":
        return p**k
    if aggregate == "max":
        return 1 - (1 - p) ** k
    share = 0.5 if aggregate == "median" else int(aggregate.removeprefix("q")) / 100
    allowed = int(share * (k - 1))  # with so many samples below the threshold the quantile is still above it
    return sum(comb(k, x) * (1 - p) ** x * p ** (k - x) for x in range(allowed + 1))


def _unstable_means(rows: pl.DataFrame, threshold: float) -> dict[int, float]:
    between, within = between_variance(rows)
    grand = float(rows["mean"].mean())  # type: ignore[arg-type]
    if within <= 0:
        return dict.fromkeys(TRIED, 0.0)
    binned = rows.select(pl.col("mean").round(2), "n").group_by("mean", "n").len("rows").sort("mean", "n").iter_rows()
    groups = []
    for mean, n, number in binned:
        kept = between / (between + within / n)
        groups.append((grand + kept * (mean - grand), sqrt(kept * within / n), number))
    return {k: _turn_of_means(groups, threshold, sqrt(within / k)) for k in TRIED}


def _turn_of_means(groups: Iterable[tuple[float, float, int]], threshold: float, error: float) -> float:
    normal, total, weight = NormalDist(), 0.0, 0
    for middle, doubt, number in groups:
        for step, share in ((-1.7320508, 1 / 6), (0.0, 2 / 3), (1.7320508, 1 / 6)):  # Gauss-Hermite, three points
            q = normal.cdf((middle + step * doubt - threshold) / error)
            total += number * share * 2 * q * (1 - q)
        weight += number
    return total / weight
