"""Intervals: a bootstrap over prompts, because samples and variants of one prompt are not independent.

Percentile intervals are a little too short for few clusters; they are widened as in Hesterberg, "What Teachers
Should Know About the Bootstrap" (2015, section 4.4): the percentiles are taken at the normal probability of
`sqrt(n / (n - 1))` times Student's t. A bootstrap of values that are all equal has no width at all: then the exact
binomial bound over prompts stands in (Clopper and Pearson 1934), and a difference with such a side combines the two
intervals (Donner and Zou 2012). Two models that differ alike on every prompt have no spread either, however both
scatter: then the share of prompts on which they might differ otherwise has the exact bound of "none of n" (Hanley and
Lippman-Hand 1983), and each such prompt may move the difference to an end of its range, -1 or 1.
`benchmarks/interval_coverage.py` shows what these cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

RESAMPLES = 1_000
LEVEL = 0.95
_CELLS = 4_000_000
"""Indexes drawn at once, to bound memory."""


@dataclass(frozen=True)
class Interval:
    """A value with its interval.

    Attributes:
        low, high: ends; None where none can be had.
        method: `bootstrap`, `exact` or `none`.
        clusters: prompts behind it.
        rows: values behind it.
    """

    value: float
    low: float | None
    high: float | None
    method: str
    clusters: int
    rows: int


@dataclass(frozen=True)
class Clustered:
    """Values summed by cluster.

    Attributes:
        keys: cluster names, sorted.
        sums: sum of the values of each, shape (clusters,).
        counts: how many, shape (clusters,).
        share: whether every value is 0 or 1.
    """

    keys: tuple[str, ...]
    sums: np.ndarray
    counts: np.ndarray
    share: bool

    @property
    def mean(self) -> float:
        """Mean over all values (not over clusters)."""
        return float(self.sums.sum() / self.counts.sum())

    @property
    def constant(self) -> bool:
        """Whether all clusters have the same mean, so that resampling shows no spread."""
        means = self.sums / self.counts
        return bool(np.all(means == means[0]))

    def only(self, keys: Sequence[str]) -> Clustered:
        """The clusters of these names, in this order."""
        at = {key: place for place, key in enumerate(self.keys)}
        chosen = np.array([at[key] for key in keys], dtype=np.int64)
        return Clustered(tuple(keys), self.sums[chosen], self.counts[chosen], self.share)


def clustered(values: Sequence[float], clusters: Sequence[str]) -> Clustered:
    """Sum values by cluster.

    Args:
        values: finite numbers, one a row.
        clusters: the cluster of each row.

    Raises:
        ValueError: nothing to sum, unequal lengths, or a value that is not finite.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.size == 0 or numbers.size != len(clusters) or not np.isfinite(numbers).all():
        raise ValueError("values must be finite, at least one, and one for each cluster name")
    keys, place = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.bincount(place, weights=numbers, minlength=len(keys))
    counts = np.bincount(place, minlength=len(keys)).astype(np.float64)
    return Clustered(tuple(map(str, keys)), sums, counts, bool(np.isin(numbers, (0.0, 1.0)).all()))


def mean_interval(data: Clustered, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> Interval:
    """The mean with its interval.

    Args:
        resamples: bootstrap resamples of clusters.
        level: share of such intervals that are to hold the truth.
        seed: of the resampling.
    """
    n, rows = len(data.keys), int(data.counts.sum())
    if data.constant:
        if not (data.share and data.mean in (0.0, 1.0)):
            return Interval(data.mean, None, None, "none", n, rows)
        reach = none_of(n, level)
        low, high = (0.0, reach) if data.mean == 0 else (1 - reach, 1.0)
        return Interval(data.mean, low, high, "exact", n, rows)
    drawn = _resampled(data, resamples, seed)
    low, high = _ends(drawn, n, level)
    return Interval(data.mean, low, high, "bootstrap", n, rows)


def none_of(n: int, level: float) -> float:
    """The exact bound of a share that was seen in none of `n` prompts (Clopper and Pearson 1934)."""
    return float(1 - ((1 - level) / 2) ** (1 / n))


def difference_interval(
    one: Clustered,
    other: Clustered,
    *,
    paired: bool,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """The mean of `one` less that of `other`, with its interval.

    Args:
        paired: both have the same clusters in the same order, which are then resampled together.

    Raises:
        ValueError: paired, but the clusters differ.
    """
    if paired and one.keys != other.keys:
        raise ValueError("paired differences need the same clusters on both sides")
    value, n = one.mean - other.mean, len(one.keys) if paired else min(len(one.keys), len(other.keys))
    rows = int(one.counts.sum() + other.counts.sum())
    if one.constant or other.constant:
        settings = {"resamples": resamples, "level": level, "seed": seed}
        mine, its = mean_interval(one, **settings), mean_interval(other, **settings)  # type: ignore[arg-type]
        if None in (mine.low, mine.high, its.low, its.high):
            return Interval(value, None, None, "none", n, rows)
        low = value - sqrt((mine.value - mine.low) ** 2 + (its.high - its.value) ** 2)  # type: ignore[operator]
        high = value + sqrt((mine.high - mine.value) ** 2 + (its.value - its.low) ** 2)  # type: ignore[operator]
        return Interval(value, low, high, "exact", n, rows)
    if paired and differ_alike(one, other):
        if not (one.share and other.share):
            return Interval(value, None, None, "none", n, rows)
        reach = none_of(n, level)
        return Interval(value, value - reach * (1 + value), value + reach * (1 - value), "exact", n, rows)
    # Equal clusters and an equal seed draw equal prompts: that is the pairing.
    drawn = _resampled(one, resamples, seed) - _resampled(other, resamples, seed if paired else seed + 1)
    low, high = _ends(drawn, n, level)
    return Interval(value, low, high, "bootstrap", n, rows)


def differ_alike(one: Clustered, other: Clustered) -> bool:
    """Whether both have equal clusters and one difference in all of them, so that resampling shows no spread."""
    gaps = one.sums - other.sums
    return bool(np.all(one.counts == other.counts) and np.ptp(gaps / one.counts) == 0)


def paired_or_not(one: Clustered, other: Clustered) -> tuple[Clustered, Clustered, bool]:
    """The two sides cut to the prompts they share, paired; as they are, unpaired, where they share none."""
    shared = sorted(set(one.keys) & set(other.keys))
    if not shared:
        return one, other, False
    return one.only(shared), other.only(shared), True


def _resampled(data: Clustered, resamples: int, seed: int) -> np.ndarray:
    """Means of resamples of whole clusters, shape (resamples,)."""
    generator, n = np.random.default_rng(seed), len(data.keys)
    at_once = max(1, _CELLS // n)
    means = []
    for start in range(0, resamples, at_once):
        at = generator.integers(0, n, size=(min(at_once, resamples - start), n))
        means.append(data.sums[at].sum(1) / data.counts[at].sum(1))
    return np.concatenate(means)


def _ends(drawn: np.ndarray, n: int, level: float) -> tuple[float, float]:
    """Both ends from bootstrap values, widened for few clusters."""
    from scipy.stats import norm, t

    tail = (1 - level) / 2
    tail = float(norm.cdf(sqrt(n / (n - 1)) * t.ppf(tail, n - 1))) if n > 1 else tail
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
