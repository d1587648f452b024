"""Which rows and pairs people see: borderline first, and a random control slice. Pure, deterministic, explained.

Borderline records are where a person's answer changes most: near the threshold, samples on both sides of it, criteria
or heuristics that disagree, a small margin. They say nothing about the judge at large. The control slice does: it is
drawn at random within strata of category and the judge's verdict, by a seeded hash, so that the draw of a smaller set
is part of the draw of a larger one and nothing that was shown is drawn again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from specdistill.builders.audit.size import records_for
from specdistill.builders.judging import sample_score
from specdistill.builders.proportion import shares
from specdistill.errors import UsageError
from specdistill.schemas.audit import RECORDS, Kind, Slice
from specdistill.schemas.digest import digest
from specdistill.schemas.recipe import Audit, Recipe
from specdistill.schemas.vocabulary import CRITERIA, Arm, Outcome, RejectReason

NEAR = 0.25
"""Distance from the threshold, and standard deviation, at which a score is taken as sure or as wild."""
APART = 0.5
"""Two criteria this far apart disagree."""
SEEN = (
    RejectReason.BELOW_THRESHOLD,
    RejectReason.NO_VERDICT,
    RejectReason.OVER_QUOTA,
    RejectReason.REJECTED_BY_AUDIT,
)
"""Reasons of candidates that passed every filter and so can be shown."""


def row_population(
    decided: pl.DataFrame, judgments: pl.DataFrame, prompts: pl.DataFrame, clauses: pl.DataFrame, recipe: Recipe
) -> pl.DataFrame:
    """Every candidate that may be shown, with how unsure its verdict is.

    Args:
        decided: from `selection.decide`, without people's verdicts; texts are not looked at.

    Returns:
        target_id, prompt_id, category, outcome, judge_accepts, score, the criteria, clauses (that it cites), priority,
        why.
    """
    threshold = recipe.judge.threshold
    sides = (
        judgments.with_columns(sample_score(recipe.judge.weights).alias("sample"))
        .drop_nulls("sample")
        .group_by("candidate_id")
        .agg((pl.col("sample") >= threshold).sum().alias("above"), pl.len().alias("samples"))
    )
    known = dict(clauses.select("anchor", "outcome").iter_rows())
    rows = (
        decided.filter(
            pl.col("arm").is_in([Arm.SPEC, Arm.REPAIR]) & (pl.col("reason").is_null() | pl.col("reason").is_in([*SEEN]))
        )
        .join(sides, on="candidate_id", how="left")
        .join(prompts.select("prompt_id", "outcome_hint"), on="prompt_id", how="left")
        .sort("candidate_id")
    )
    found = [unsure(row, threshold, known) for row in rows.iter_rows(named=True)]
    return rows.select(
        pl.col("candidate_id").alias("target_id"),
        "prompt_id",
        "category",
        pl.col("outcome_hint").fill_null(Outcome.UNSPECIFIED.value).alias("outcome"),
        (pl.col("score") >= threshold).fill_null(False).alias("judge_accepts"),
        "score",
        *CRITERIA,
        "clauses",
    ).with_columns(
        pl.Series("priority", [round(sum(parts.values()), 6) for parts in found], dtype=pl.Float64),
        pl.Series("why", [list(parts) for parts in found], dtype=pl.List(pl.String)),
    )


def unsure(row: Mapping[str, Any], threshold: float, outcomes: Mapping[str, str]) -> dict[str, float]:
    """Each sign that a verdict is not sure, in words, with its weight 0 to 1.

    Args:
        row: a decided candidate with above, samples and outcome_hint.
        outcomes: clause anchor to its outcome.
    """
    signs: dict[str, float] = {}
    score, samples, silent = row["score"], row["samples"] or 0, row["abstentions"]
    if score is None:
        signs["the judge gave no verdict"] = 1.0
    elif abs(score - threshold) < NEAR:
        signs[f"score {score:.2f} is near the threshold {threshold:.2f}"] = 1 - abs(score - threshold) / NEAR
    fewer = min(row["above"] or 0, samples - (row["above"] or 0))
    if fewer:
        signs[f"{fewer} of {samples} judge samples fall on the other side"] = 2 * fewer / samples
    if (row["score_std"] or 0) > 0.1:
        signs[f"judge samples spread by {row['score_std']:.2f}"] = min(1.0, row["score_std"] / NEAR)
    if silent:
        signs[f"{silent} of {samples + silent} judge samples abstained"] = silent / (samples + silent)
    criteria = {name: row[name] for name in CRITERIA if row[name] is not None}
    if criteria:
        low, high = min(criteria, key=lambda name: criteria[name]), max(criteria, key=lambda name: criteria[name])
        if (gap := criteria[high] - criteria[low]) >= APART:
            signs[f"{high} {criteria[high]:.2f} but {low} {criteria[low]:.2f}"] = gap
    cited = {outcomes[anchor] for anchor in row["clauses"] or [] if anchor in outcomes} - {Outcome.UNSPECIFIED.value}
    hint = row["outcome_hint"]
    if hint not in (None, Outcome.UNSPECIFIED.value) and cited and hint not in cited:
        signs[f"the prompt's hint says {hint}, the clauses cited say {' and '.join(sorted(cited))}"] = 1.0
    return signs


def pair_population(pairs: pl.DataFrame, prompts: pl.DataFrame) -> pl.DataFrame:
    """Every preference pair, small margins first.

    Args:
        pairs: from `selection.pairs_of`.

    Returns:
        target_id, prompt_id, category, outcome, judge_accepts (always), margin, priority, why.
    """
    return (
        pairs.join(prompts.select("prompt_id", "outcome_hint"), on="prompt_id", how="left")
        .sort("id")
        .select(
            pl.col("id").alias("target_id"),
            "prompt_id",
            "category",
            pl.col("outcome_hint").fill_null(Outcome.UNSPECIFIED.value).alias("outcome"),
            pl.lit(True).alias("judge_accepts"),
            "margin",
            (1 / (1 + (pl.col("margin") - pl.col("noise")))).round(6).alias("priority"),
            pl.concat_list(
                pl.format("margin {} against a noise of {}", pl.col("margin").round(3), pl.col("noise").round(3))
            ).alias("why"),
        )
    )


def choose(population: pl.DataFrame, kind: Kind, total: int, audit: Audit) -> pl.DataFrame:
    """The records of one kind.

    Args:
        population: from `row_population` or `pair_population`.
        total: records wanted, control included; fewer where there are not so many.

    Returns:
        Rows of `schemas.audit.RECORDS`, round 1, in the order of the population.
    """
    total = max(0, min(total, population.height))
    order = [digest("audit", audit.seed, kind.value, key) for key in population["target_id"].to_list()]
    drawn = population.with_columns(pl.Series("drawn", order, dtype=pl.String))
    control = control_ids(drawn, round(total * audit.random_control))
    rest = drawn.filter(~pl.col("target_id").is_in(control))
    borderline = borderline_ids(rest, total - len(control))
    slices = dict.fromkeys(control, Slice.CONTROL) | dict.fromkeys(borderline, Slice.BORDERLINE)
    hidden = {"all": (), "none": tuple(Slice), "borderline": (Slice.CONTROL,)}[audit.show_judge]
    rows = []
    for row in population.filter(pl.col("target_id").is_in(list(slices))).iter_rows(named=True):
        key, in_slice = row["target_id"], slices[row["target_id"]]
        random = in_slice is Slice.CONTROL
        rows.append(
            {
                "record_id": f"{kind.value}-{key}",
                "round": 1,
                "kind": kind.value,
                "slice": in_slice.value,
                "why": ["drawn at random"] if random else row["why"] or ["nothing unusual; next in line"],
                "first_is_chosen": int(digest("side", audit.seed, key)[:8], 16) % 2 == 0 if kind is Kind.PAIR else None,
                "hidden": in_slice in hidden,
            }
            | {name: row.get(name) for name in ("score", "margin")}
            | {name: row[name] for name in ("target_id", "prompt_id", "category", "outcome", "priority")}
            | {"judge_accepts": row["judge_accepts"]}
        )
    return RECORDS.frame(rows)


def wanted_rows(population: pl.DataFrame, audit: Audit, points: float) -> int:
    """Rows in all, so that the accepted rows of the control slice give precision to ± `points` percentage points.

    Raises:
        UsageError: the recipe has no control slice, or the points are none.
    """
    if not audit.random_control or not 0 < points <= 100:
        raise UsageError(
            f"A precision to ± {points:g} points cannot be had with a control share of {audit.random_control:g}.",
            "Set audit.random_control above 0, and give --precision between 0 and 100.",
        )
    accepted = population.filter("judge_accepts").height
    control = records_for(points / 100, accepted) * population.height / max(accepted, 1)
    return min(population.height, round(control / audit.random_control))


def control_ids(drawn: pl.DataFrame, count: int) -> list[str]:
    """A stratified random sample: each stratum of category and verdict by its share, at least one while they last."""
    strata = drawn.sort("drawn").group_by(["category", "judge_accepts"], maintain_order=True).agg("target_id")
    rows = sorted(strata.iter_rows())
    wanted = shares([len(ids) for *_, ids in rows], count)
    return [key for (*_, ids), taken in zip(rows, wanted, strict=True) for key in ids[:taken]]


def borderline_ids(rest: pl.DataFrame, count: int) -> list[str]:
    """The least sure, categories and outcomes in turn, so that none fills the list."""
    turn = pl.int_range(pl.len()).over("category", "outcome")
    ranked = rest.sort(["priority", "drawn"], descending=[True, False]).with_columns(turn.alias("turn"))
    in_category = ranked.sort(["turn", "priority", "drawn"], descending=[False, True, False]).with_columns(
        pl.int_range(pl.len()).over("category").alias("place")
    )
    return in_category.sort(["place", "priority", "drawn"], descending=[False, True, False])["target_id"][
        :count
    ].to_list()
