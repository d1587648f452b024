"""Intervals for shares, means and spreads, without a statistics package. Closed forms, so the same data gives the
same numbers everywhere."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist
from typing import Any, cast

import polars as pl

LEVEL = 0.95
"""Confidence of every interval unless said otherwise."""
NOTHING: dict[str, Any] = {"low": None, "high": None}


def z_value(level: float = LEVEL) -> float:
    """Half-width of a two-sided interval in standard errors: 1.96 for 0.95."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(hits: float, total: float, level: float = LEVEL) -> dict[str, Any]:
    """A share with its interval (Wilson, 1927).

    Args:
        hits, total: counts; fractions where they are effective counts.

    Returns:
        share, low, high; all None for no cases.
    """
    if not total:
        return {"share": None, **NOTHING}
    z = z_value(level)
    share = hits / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return {"share": share, "low": max(0.0, middle - half), "high": min(1.0, middle + half)}


def clustered_share(hits: pl.Series, totals: pl.Series, level: float = LEVEL) -> dict[str, Any]:
    """A share of things that come in groups (samples of one candidate), which are not independent of each other.

    The variance of the ratio is taken between groups (linearisation; Cochran, "Sampling Techniques", 1977, 6.4) and
    gives an effective number of cases for Wilson's interval, as in Korn and Graubard (1998). Never narrower than for
    independent cases.

    Args:
        hits, totals: per group.

    Returns:
        share, low, high; all None for no cases.
    """
    total, groups = float(totals.sum()), len(totals)
    if not total:
        return wilson(0, 0)
    share = float(hits.sum()) / total
    effective = total
    if groups > 1 and 0 < share < 1:
        spread = float(((hits - share * totals) ** 2).sum())
        variance = spread * groups / (groups - 1) / total**2
        if variance > 0:
            effective = min(total, share * (1 - share) / variance)
    return wilson(share * effective, effective, level)


def mean_interval(values: pl.Series, level: float = LEVEL) -> dict[str, Any]:
    """A mean with its interval by the central limit theorem; nulls are left out, one value has no interval.

    Returns:
        mean, low, high.
    """
    values = values.drop_nulls()
    if not len(values):
        return {"mean": None, **NOTHING}
    mean = cast(float, values.mean())
    if len(values) < 2:
        return {"mean": mean, **NOTHING}
    half = z_value(level) * cast(float, values.std()) / sqrt(len(values))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def pooled_sd(variances: pl.Series, level: float = LEVEL) -> dict[str, Any]:
    """The standard deviation within groups, from one sample variance a group.

    The mean of unbiased variances is unbiased whatever the groups' means; its interval is between groups, so it needs
    no normal distribution of the values.

    Returns:
        sd, low, high (all in the values' unit).
    """
    found = mean_interval(variances, level)
    if found["mean"] is None:
        return {"sd": None, **NOTHING}
    low, high = found["low"], found["high"]
    return {
        "sd": sqrt(found["mean"]),
        "low": None if low is None else sqrt(max(0.0, low)),
        "high": None if high is None else sqrt(high),
    }


def kappa(both_yes: int, first_only: int, second_only: int, both_no: int, level: float = LEVEL) -> dict[str, Any]:
    """Agreement of two raters on yes/no beyond chance: Cohen's kappa (1960), variance of Fleiss, Cohen and Everitt
    (1969).

    Returns:
        kappa, low, high; None where it is undefined (no cases, or chance alone would agree always).
    """
    total = both_yes + first_only + second_only + both_no
    if not total:
        return {"kappa": None, **NOTHING}
    cells = [[both_yes / total, first_only / total], [second_only / total, both_no / total]]
    rows = [sum(row) for row in cells]
    columns = [cells[0][side] + cells[1][side] for side in (0, 1)]
    agreed = cells[0][0] + cells[1][1]
    chance = sum(row * column for row, column in zip(rows, columns, strict=True))
    if chance >= 1:
        return {"kappa": None, **NOTHING}
    value = (agreed - chance) / (1 - chance)
    same = sum(cells[at][at] * (1 - (rows[at] + columns[at]) * (1 - value)) ** 2 for at in (0, 1))
    other = (1 - value) ** 2 * sum(
        cells[row][column] * (columns[row] + rows[column]) ** 2 for row in (0, 1) for column in (0, 1) if row != column
    )
    variance = (same + other - (value - chance * (1 - value)) ** 2) / (total * (1 - chance) ** 2)
    half = z_value(level) * sqrt(max(0.0, variance))
    return {"kappa": value, "low": max(-1.0, value - half), "high": min(1.0, value + half)}
