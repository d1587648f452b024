"""How far people agree with each other: Krippendorff's alpha and pairwise Cohen's kappa, with bootstrap intervals.

The coefficients are computed by libraries (`krippendorff`, scikit-learn). Intervals: percentile bootstrap over records,
95 %. A coefficient that is undefined (one annotator, or one value throughout) is None, never a number.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

RESAMPLES = 1_000
SEED = 20_240_607
Number = float | None
LEVELS = {"verdict": "nominal", "keep": "nominal", "better": "nominal"}
"""Level of measurement; ratings are ordinal."""


def value_counts(votes: pl.DataFrame, column: str) -> tuple[np.ndarray, list[Any]]:
    """How often each value was given to each record.

    Args:
        votes: target_id, annotator and the column; null is no answer.

    Returns:
        (records × values) counts of records with two answers or more, and the values in ascending order.
    """
    given = votes.drop_nulls(column).filter(pl.len().over("target_id") >= 2).sort("target_id")
    values = given[column].unique().sort().to_list()
    place = {value: at for at, value in enumerate(values)}
    targets = {target: at for at, target in enumerate(given["target_id"].unique(maintain_order=True).to_list())}
    counts = np.zeros((len(targets), len(values)))
    for target, value in given.select("target_id", column).iter_rows():
        counts[targets[target], place[value]] += 1
    return counts, values


def alpha_of(counts: np.ndarray, values: list[Any], level: str) -> Number:
    """Krippendorff's alpha; None where fewer than two values were given."""
    import krippendorff

    if len(counts) == 0 or (counts.sum(axis=0) > 0).sum() < 2:
        return None
    domain = values if level != "nominal" else list(range(len(values)))
    found = krippendorff.alpha(value_counts=counts, value_domain=domain, level_of_measurement=level)  # type: ignore[arg-type]
    return float(found) if np.isfinite(found) else None


def kappa_of(first: list[Any], second: list[Any]) -> Number:
    """Cohen's kappa of two people over the same records; None where it is undefined."""
    from sklearn.metrics import cohen_kappa_score

    if not first or len(set(first) | set(second)) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = cohen_kappa_score(first, second)
    return float(found) if np.isfinite(found) else None


def interval(count: int, statistic: Callable[[np.ndarray], Number]) -> tuple[Number, Number]:
    """Percentile bootstrap over `count` records: 2.5 % and 97.5 %; None where too few resamples are defined."""
    if count < 2:
        return None, None
    random = np.random.default_rng(SEED)
    drawn = [statistic(random.integers(0, count, count)) for _ in range(RESAMPLES)]
    defined = [value for value in drawn if value is not None]
    if len(defined) < RESAMPLES / 2:
        return None, None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def alpha(votes: pl.DataFrame, column: str) -> dict[str, Any]:
    """Alpha of one question: value, interval, records and answers it stands on."""
    level = LEVELS.get(column, "ordinal")
    counts, values = value_counts(votes, column)
    value = alpha_of(counts, values, level)
    low, high = (
        (None, None) if value is None else interval(len(counts), lambda drawn: alpha_of(counts[drawn], values, level))
    )
    return {
        "question": column,
        "level": level,
        "alpha": value,
        "low": low,
        "high": high,
        "records": len(counts),
        "answers": int(counts.sum()),
    }


def kappas(votes: pl.DataFrame, column: str) -> list[dict[str, Any]]:
    """Kappa of every two people who answered the same records."""
    wide = {
        name: dict(part.drop_nulls(column).select("target_id", column).iter_rows())
        for (name,), part in votes.sort("target_id").group_by(["annotator"], maintain_order=True)
    }
    rows = []
    for first, second in combinations(sorted(wide), 2):
        shared = sorted(set(wide[first]) & set(wide[second]))
        if not shared:
            continue
        left, right = ([wide[name][target] for target in shared] for name in (first, second))
        value = kappa_of(left, right)

        def drawn_kappa(drawn: np.ndarray, left: list[Any] = left, right: list[Any] = right) -> Number:
            return kappa_of([left[at] for at in drawn], [right[at] for at in drawn])

        low, high = (None, None) if value is None else interval(len(shared), drawn_kappa)
        equal = sum(one == other for one, other in zip(left, right, strict=True))
        rows.append(
            {
                "first": first,
                "second": second,
                "question": column,
                "records": len(shared),
                "equal": equal,
                "kappa": value,
                "low": low,
                "high": high,
            }
        )
    return rows
