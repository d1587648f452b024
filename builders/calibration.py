"""What human labels say about the judge: agreement, bias, ROC, the accepted set's precision, and the threshold that
reaches a wanted precision. Pure functions of scores and labels.

People seldom label a plain random sample: an audit prefers the borderline. Precision is therefore post-stratified by
score: within a narrow range of scores the labelled rows stand for all rows, and each range counts by its share of the
set the number is about. Its interval holds for all thresholds of the table at once (Bonferroni), so it also holds for
the one that was chosen by looking at the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt
from typing import Any

import polars as pl

from specdistill.builders.parts import parquet_bytes
from specdistill.errors import SelectionError
from specdistill.schemas.files import write_whole
from specdistill.schemas.intervals import LEVEL, kappa, mean_interval, wilson, z_value
from specdistill.schemas.labels import LABELS
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.vocabulary import Arm

GRID = 12
"""Thresholds that are looked at: quantiles of the scores, all of them where there are no more."""
STRATUM = 8
"""Labels that a range of scores needs at least."""
STRATA = 10
ROC_POINTS = 60
JUDGED = ("below_threshold", "over_quota", "rejected_by_audit")
"""Reasons of candidates that passed the filters and have a score."""


def calibrate(population: pl.DataFrame, labels: pl.DataFrame, threshold: float) -> dict[str, Any]:
    """Everything that labels say.

    Args:
        population: id, score, score_mean, accepted: judged candidates that passed the filters, whatever their score.
        labels: rows of the labels table.
        threshold: of the recipe.

    Returns:
        labels (used), unknown (labels of rows that are not in the population), good (share labelled good), agreement
        (share where judge and people decide the same, kappa, and the four counts), bias (`accept`: how much larger a
        share the judge accepts; `score`: mean of judge minus people where people gave scores), roc, thresholds,
        accepted (rows, labels, precision with interval at the recipe's threshold). Empty when no label fits.
    """
    labelled = labelled_of(population, labels)
    if labelled.is_empty():
        return {}
    judge = labelled["score"] >= threshold
    cells = [int((judge.eq(a) & labelled["label"].eq(b)).sum()) for a in (True, False) for b in (True, False)]
    grid = thresholds_of(population["score"], threshold)
    accepted = population.filter("accepted")
    return {
        "labels": labelled.height,
        "unknown": labels.height - labelled.height,
        "good": wilson(int(labelled["label"].sum()), labelled.height),
        "agreement": {
            "same": wilson(cells[0] + cells[3], labelled.height),
            **kappa(*cells),
            "counts": dict(zip(("both_accept", "judge_only", "people_only", "both_reject"), cells, strict=True)),
        },
        "bias": {
            "accept": mean_interval(judge.cast(pl.Float64) - labelled["label"].cast(pl.Float64)),
            "score": mean_interval(labelled["score_mean"] - labelled["human"]),
        },
        "roc": roc(labelled),
        "thresholds": threshold_table(population, labelled, grid),
        "accepted": {"rows": accepted.height, "threshold": threshold}
        | precision(accepted["score"], labelled.filter(pl.col("score") >= threshold), simultaneous(len(grid))),
    }


def labelled_of(population: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """The labelled part of the population: id, score, score_mean, label, human (score)."""
    people = labels.select("id", "label", pl.col("score").alias("human"))
    return population.select("id", "score", "score_mean").join(people, on="id", how="inner").sort("id")


def thresholds_of(scores: pl.Series, threshold: float) -> list[float]:
    """Thresholds to look at, ascending; chosen without looking at any label."""
    distinct = scores.unique().sort()
    if len(distinct) > GRID:
        cuts = [scores.quantile(at / GRID, "higher") for at in range(GRID)]
        distinct = pl.Series([cut for cut in cuts if cut is not None]).unique().sort()
    return sorted({*distinct.to_list(), threshold})


def simultaneous(count: int) -> float:
    """Level of each of `count` intervals that makes all of them hold together with `LEVEL`."""
    return 1 - (1 - LEVEL) / max(1, count)


def threshold_table(population: pl.DataFrame, labelled: pl.DataFrame, grid: list[float]) -> list[dict[str, Any]]:
    """For each threshold: rows it accepts, their precision with interval, and recall (share of good rows accepted)."""
    level = simultaneous(len(grid))
    everything = precision(population["score"], labelled, level)
    good = everything["precision"] * population.height
    rows = []
    for threshold in grid:
        scores = population.filter(pl.col("score") >= threshold)["score"]
        found = precision(scores, labelled.filter(pl.col("score") >= threshold), level)
        recall = None if not good or found["precision"] is None else min(1.0, found["precision"] * len(scores) / good)
        rows.append({"threshold": threshold, "rows": len(scores), **found, "recall": recall})
    return rows


def precision(scores: pl.Series, labelled: pl.DataFrame, level: float) -> dict[str, Any]:
    """Share of good rows in a set, from labels of rows in the same range of scores.

    Args:
        scores: of every row of the set.
        labelled: score, label; rows above the same threshold, in the set or not.
        level: confidence.

    Returns:
        labels, precision, low, high; Wilson's interval with the effective number of labels of the stratified
        estimate. None where there are no rows or no labels.
    """
    count = labelled.height
    if not count or not len(scores):
        return {"labels": count, "precision": None, "low": None, "high": None}
    strata = _strata(labelled["score"])
    people = labelled.select(stratum(pl.col("score"), strata), "label")
    hits = people.group_by("stratum").agg(pl.len().alias("n"), pl.col("label").sum().alias("hits"))
    sizes = pl.DataFrame({"score": scores}).select(stratum(pl.col("score"), strata)).group_by("stratum").len("rows")
    joined = sizes.join(hits, on="stratum", how="inner").sort("stratum")
    estimate = variance = smooth = 0.0
    total = float(joined["rows"].sum())
    if not total:
        return {"labels": count, "precision": None, "low": None, "high": None}
    for rows, n, good in joined.select("rows", "n", "hits").iter_rows():
        weight, shrunk = rows / total, (good + 0.5) / (n + 1)
        estimate += weight * good / n
        smooth += weight * shrunk
        variance += weight**2 * shrunk * (1 - shrunk) / n
    effective = smooth * (1 - smooth) / variance
    found = wilson(estimate * effective, effective, level)
    return {"labels": count, "precision": found["share"], "low": found["low"], "high": found["high"]}


def _strata(scores: pl.Series) -> list[float]:
    """Lower edges of ranges of scores that each hold at least `STRATUM` labels, ascending, without the first."""
    bins = min(STRATA, len(scores) // STRATUM)
    cuts = {scores.quantile(at / bins, "higher") for at in range(1, bins)} if bins > 1 else set()
    edges: list[float] = []
    below = 0
    for cut in sorted(cut for cut in cuts if cut is not None):
        under = int((scores < cut).sum())
        if under - below >= STRATUM and len(scores) - under >= STRATUM:
            edges.append(cut)
            below = under
    return edges


def stratum(score: pl.Expr, edges: list[float]) -> pl.Expr:
    """Number of the range a score lies in."""
    return pl.sum_horizontal(pl.lit(0), *((score >= edge).cast(pl.Int32) for edge in edges)).alias("stratum")


def roc(labelled: pl.DataFrame) -> dict[str, Any]:
    """The score as a classifier of the labelled rows: points (threshold, false and true positive rate) and the area
    under them with the interval of Hanley and McNeil (1982). Without both kinds of labels there is none."""
    good, bad = (int(labelled["label"].eq(side).sum()) for side in (True, False))
    if not good or not bad:
        return {"auc": None, "low": None, "high": None, "points": []}
    by_score = (
        labelled.group_by("score")
        .agg(pl.col("label").sum().cast(pl.Int64).alias("good"), (~pl.col("label")).sum().cast(pl.Int64).alias("bad"))
        .sort("score", descending=True)
    )
    area = hits = 0.0
    points, true, false = [], 0, 0
    for score, yes, no in by_score.iter_rows():
        area += no * (true + yes / 2)
        true, false = true + yes, false + no
        points.append({"threshold": score, "false": false / bad, "true": true / good})
    hits = area / (good * bad)
    first, second = hits / (2 - hits), 2 * hits * hits / (1 + hits)
    spread = hits * (1 - hits) + (good - 1) * (first - hits**2) + (bad - 1) * (second - hits**2)
    half = z_value() * sqrt(max(0.0, spread) / (good * bad))
    step = max(1, len(points) // ROC_POINTS)
    kept = points[::step] if points[-1] in points[::step] else [*points[::step], points[-1]]
    return {"auc": hits, "low": max(0.0, hits - half), "high": min(1.0, hits + half), "points": kept}


def threshold_for(population: pl.DataFrame, labels: pl.DataFrame, target: float, threshold: float) -> float:
    """The lowest threshold at which the accepted rows are good with the wanted precision, by the lower end of the
    interval: so it holds with 95 % confidence, not on average.

    Args:
        threshold: the recipe's, which is among those looked at.

    Raises:
        SelectionError: no label fits a candidate, or no threshold reaches the target by these labels.
    """
    labelled = labelled_of(population, labels)
    if labelled.is_empty():
        raise SelectionError(
            "No label is of a judged candidate of this run.", "The ids are candidate ids: `id` of the reward set."
        )
    rows = threshold_table(population, labelled, thresholds_of(population["score"], threshold))
    for row in rows:
        if row["low"] is not None and row["low"] >= target:
            return float(row["threshold"])
    best = max((row for row in rows if row["low"] is not None), key=lambda row: row["low"], default=None)
    shown = f"at {best['threshold']:.3g}: {best['low']:.0%} to {best['high']:.0%}" if best else "nothing"
    raise SelectionError(
        f"By these {labelled.height} labels no threshold has a precision of {target:.0%} for sure; best is {shown}.",
        "Label more rows with high scores, mend the judge, or ask for less.",
    )


def population_of(decided: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Judged candidates sampled with the spec that pass every filter but the threshold and the quota.

    Args:
        decided: `Decisions`, or all candidates in a list.

    Returns:
        id, score, score_mean, accepted.
    """
    seen = pl.col("reason").is_null() | (pl.col("reason").is_in(JUDGED) & (pl.col("arm") != Arm.CONTRAST))
    columns = [
        pl.col("candidate_id").alias("id"),
        "score",
        "score_mean",
        pl.col("reason").is_null().alias("accepted"),
    ]
    return pl.concat([frame.filter(seen).drop_nulls("score").select(columns) for frame in decided]).sort("id")


def stored_labels(layout: RunLayout) -> pl.DataFrame:
    """The human labels of a run; none where nobody gave any.

    Raises:
        SchemaError: the file is no table of labels.
    """
    if not layout.labels.exists():
        return LABELS.empty()
    return LABELS.validate(pl.read_parquet(layout.labels)).select(LABELS.names)


def keep_labels(layout: RunLayout, labels: pl.DataFrame) -> pl.DataFrame:
    """Add labels to those of a run; for a candidate that has one already the new one counts.

    Returns:
        All labels of the run.
    """
    merged = pl.concat([labels, stored_labels(layout)]).unique("id", keep="first").sort("id")
    write_whole(layout.labels, parquet_bytes(merged))
    return merged
