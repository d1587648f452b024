"""Results against a baseline: the same prompts, the difference, its interval, and what may be said. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from specdistill.errors import UsageError
from specdistill.schemas.evaluation import DIFFERENCES
from specdistill.train.evaluation.intervals import (
    LEVEL,
    RESAMPLES,
    Clustered,
    clustered,
    difference_interval,
    mean_interval,
    paired_or_not,
)
from specdistill.train.evaluation.metrics import METRICS
from specdistill.train.evaluation.numbers import PLACE, grouped, in_order
from specdistill.train.evaluation.results import Result

MOST_PARTS = ("plain", "ood", "*")
"""Variants for which categories and outcomes are compared too; single transforms are compared as a whole."""


def baseline_of(results: Sequence[Result], asked: str | None) -> Result:
    """The result others are compared with: by name, else the one called `base`, else the first.

    Raises:
        UsageError: two results of one name, or none of the name asked for.
    """
    names = [result.name for result in results]
    if len(set(names)) < len(names):
        raise UsageError(
            f"Two results have one name ({', '.join(sorted(names))}).", "Evaluate one of them again with --name."
        )
    if asked is None:
        return next((result for result in results if result.name == "base"), results[0])
    for result in results:
        if result.name == asked:
            return result
    raise UsageError(f"There is no result '{asked}'.", f"There are: {', '.join(names)}.")


def differences(
    results: Sequence[Result], baseline: Result, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> pl.DataFrame:
    """Every number of every result against the same number of the baseline.

    Where both answered the same prompts only these count, resampled together (paired); where they share none, each is
    resampled by itself. A result with the spec in context is compared with a baseline without it if each was asked in
    one way only; else what was asked with the spec is compared with what was asked with it, and so without.

    Returns:
        Rows of the differences table.
    """
    base = groups_of(baseline)
    rows = []
    for result in results:
        if result.folder == baseline.folder:
            continue
        other = way_of(baseline) if way_of(result) is not None else None
        for key, mine in groups_of(result).items():
            its = base.get(key if other is None else (*key[:3], other, *key[4:]))
            if its is None:
                continue
            settings = {"resamples": resamples, "level": level, "seed": seed}
            rows.append(difference(result, baseline, key, mine, its, settings))
    return in_order_of(DIFFERENCES.frame(rows), [result.name for result in results])


Key = tuple[Any, ...]
"""metric, suite, variant, with_spec, by, kind of group, group."""


def way_of(result: Result) -> bool | None:
    """Whether the spec was in context; None for a result that was asked in both ways."""
    ways = result.measures["with_spec"].unique().to_list()
    return bool(ways[0]) if len(ways) == 1 else None


def groups_of(result: Result) -> dict[Key, Clustered]:
    """The measures of a result by what they are about."""
    found = {}
    for place, kind, group, part in grouped(result.measures):
        if kind == "all" or place[PLACE.index("variant")] in MOST_PARTS:
            found[(*place, kind, group)] = clustered(part["value"].to_list(), part["prompt_id"].to_list())
    return found


def difference(
    result: Result, baseline: Result, key: Key, mine: Clustered, its: Clustered, settings: dict[str, Any]
) -> dict[str, Any]:
    """One row of the differences table."""
    mine, its, paired = paired_or_not(mine, its)
    one, other = mean_interval(mine, **settings), mean_interval(its, **settings)
    gap = difference_interval(mine, its, paired=paired, **settings)
    metric, suite, variant, with_spec, by, kind, group = key
    return {
        "name": result.name,
        "baseline": baseline.name,
        "metric": metric,
        "suite": suite,
        "variant": variant,
        "with_spec": with_spec,
        "by": by,
        "grouped_by": kind,
        "group": group,
        "value": one.value,
        "low": one.low,
        "high": one.high,
        "base_value": other.value,
        "base_low": other.low,
        "base_high": other.high,
        "difference": gap.value,
        "difference_low": gap.low,
        "difference_high": gap.high,
        "paired": paired,
        "prompts": one.clusters,
        "verdict": verdict(metric, gap.low, gap.high),
    }


def verdict(metric: str, low: float | None, high: float | None) -> str:
    """What a difference's interval allows to say: nothing unless it leaves out 0."""
    if low is None or high is None or low <= 0 <= high:
        return "not shown"
    better = METRICS[metric].better if metric in METRICS else "neither"
    if better == "neither":
        return "differs"
    return "better" if (low > 0) == (better == "higher") else "worse"


def apart(row: dict[str, Any]) -> bool:
    """Whether the two intervals themselves do not overlap: more than a difference whose interval leaves out 0."""
    ends = (row["low"], row["high"], row["base_low"], row["base_high"])
    if any(end is None for end in ends):
        return False
    return bool(row["low"] > row["base_high"] or row["high"] < row["base_low"])


def in_order_of(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Rows result by result, numbers within in the order of tables."""
    place = pl.col("name").replace_strict({name: at for at, name in enumerate(names)}, default=len(names))
    return in_order(frame).sort(place, maintain_order=True)


def multi_turn_drop(result: Result, metric: str, **settings: Any) -> dict[str, Any] | None:
    """What a harmless exchange before the request costs: the metric in several turns less the same in one, paired.

    Returns:
        value, low, high, prompts; None where no prompt was asked in both ways.
    """
    own = result.measures.filter(pl.col("metric") == metric)
    sides = [own.filter(pl.col("variant") == variant) for variant in ("multi_turn", "plain")]
    if any(side.is_empty() for side in sides):
        return None
    many, one = (clustered(side["value"].to_list(), side["prompt_id"].to_list()) for side in sides)
    many, one, paired = paired_or_not(many, one)
    found = difference_interval(many, one, paired=paired, **settings)
    return {"value": found.value, "low": found.low, "high": found.high, "prompts": found.clusters}


def pooled_seeds(results: Sequence[Result], metric: str, **settings: Any) -> Iterator[dict[str, Any]]:
    """Points of the sample-efficiency curve: one a fraction, its seeds together, clustered by prompt.

    The interval holds what other prompts would have changed; what another seed would have changed shows in
    `lowest` and `highest`, the extremes over seeds.
    """
    by_rows: dict[tuple[str, float], list[Result]] = {}
    for result in results:
        made = result.record.experiment or {}
        if made.get("fraction") is not None:
            by_rows.setdefault((str(made["arm"]), float(made["fraction"])), []).append(result)
    for (arm, fraction), members in sorted(by_rows.items()):
        parts = [one.measures.filter((pl.col("metric") == metric) & (pl.col("variant") == "plain")) for one in members]
        parts = [part for part in parts if part.height]
        if not parts:
            continue
        whole = pl.concat(parts)
        found = mean_interval(clustered(whole["value"].to_list(), whole["prompt_id"].to_list()), **settings)
        means = [float(part["value"].mean() or 0.0) for part in parts]  # type: ignore[arg-type]
        training = (members[0].record.experiment or {}).get("training") or {}
        yield {
            "arm": arm,
            "fraction": fraction,
            "rows": training.get("rows"),
            "seeds": len(parts),
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "lowest": min(means),
            "highest": max(means),
        }
