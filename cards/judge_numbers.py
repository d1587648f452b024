"""Numbers about the judge: scores, noise, and how far several judges agree."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import isnan
from typing import Any

import polars as pl

from specdistill.cards.judge_noise import SCORES, candidate_noise, criteria_noise, noise_of
from specdistill.cards.statistics import BINS, height, histogram, mean_of, quartiles, read, share_by_prompt
from specdistill.schemas.intervals import kappa, mean_interval, wilson
from specdistill.schemas.scores import aggregation, always_whole, sample_score
from specdistill.schemas.vocabulary import CRITERIA, Arm, HintAnswer, JudgmentStatus

HEURISTICS = ("heuristic", "heuristic_outcome", "heuristic_sections", "heuristic_complete")

PART = 2_000_000
"""Judge samples that are grouped together."""
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


def judge(
    whole: Whole,
    threshold: float,
    weights: Mapping[str, float],
    aggregate: str = "min",
    always: float | None = None,
) -> dict[str, Any]:
    """How noisy the judge is, over the k samples of each candidate.

    Spread is the mean standard deviation of a candidate's samples. A candidate flips when some of its samples reach
    the threshold and others do not; `disagreement` is the chance that two samples of one candidate differ in that.
    Both need two scored samples or more. With several judges every candidate counts once for each.

    Args:
        always: under adaptive k, the share of candidates that always got all samples: all but the plain counts are of
            these alone, since candidates that were cut short are no sample of all.

    Returns:
        samples, scored, abstained, failed, abstain_reasons, spread (score and criteria), spread_counts (histogram of
        the score's standard deviation, 0 to 0.5), what `noise_of` gives, by_category (the same for each),
        by_criterion, judges (the same for each, where there are several), agreement (between them),
        hint (shown, agree: share).
    """
    if "judgments" not in whole:
        return {"samples": 0, "hint": {"shown": 0}}
    samples = whole["judgments"]
    if always is not None:
        samples = samples.filter(always_whole(always))
    # Candidates are only told apart here, so a hash of their ids will do, in a quarter of the room.
    raw = samples.select(
        pl.col("candidate_id").hash(seed=0),
        "judge_digest",
        "category",
        "status",
        *CRITERIA,
        sample_score(weights).alias("sample_score"),
    )
    states = whole["judgments"].group_by("judge", "judge_digest", "status", "abstain_reason").len("rows")
    counted = read(states).sort("judge", "judge_digest")
    status = dict(counted.group_by("status").agg(pl.col("rows").sum()).iter_rows())
    noise = noise_by_parts(raw, threshold, sum(status.values())).sort("category", "candidate_id", "judge_digest")
    why = counted.drop_nulls("abstain_reason").group_by("abstain_reason").agg(pl.col("rows").sum())
    names = counted.select("judge", "judge_digest").unique(maintain_order=True)
    deviations = noise.select(pl.col(f"{name}_var").sqrt().alias(name) for name in SCORES)
    found = {
        "samples": sum(status.values()),
        "scored": int(status.get(JudgmentStatus.SCORED, 0)),
        "abstained": int(status.get(JudgmentStatus.ABSTAINED, 0)),
        "failed": int(status.get(JudgmentStatus.FAILED, 0)),
        "abstain_reasons": why.sort(["rows", "abstain_reason"], descending=[True, False]).to_dicts(),
        "spread": {name: mean_of(deviations[name]) for name in SCORES},
        "spread_counts": histogram(deviations["sample_score"].drop_nulls(), top=0.5),
        **noise_of(noise, threshold, aggregate),
        "by_category": [
            {"category": category, **noise_of(rows, threshold, aggregate)}
            for (category,), rows in sorted(noise.partition_by("category", as_dict=True).items())
        ],
        "by_criterion": criteria_noise(noise),
        "judges": judges(noise, names, threshold, aggregate),
        "agreement": agreements(raw, names, threshold, aggregate),
        "hint": hint(whole),
    }
    candidates = read(whole["judgments"].select(pl.col("candidate_id").hash(seed=0).n_unique())).item()
    return found | {"candidates": candidates, "always": always, "measured": noise["candidate_id"].n_unique()}


def noise_by_parts(raw: pl.LazyFrame, threshold: float, samples: int) -> pl.DataFrame:
    """`candidate_noise` read, some of the candidates at a time: grouping takes more room than what comes of it."""
    parts = samples // PART + 1
    mine = pl.col("candidate_id") % parts
    names = pl.Enum(read(raw.select(pl.col("category").unique().sort()))["category"])
    digests = pl.Enum(read(raw.select(pl.col("judge_digest").unique().sort()))["judge_digest"])
    return pl.concat(
        read(candidate_noise(raw.filter(mine == part), threshold)).cast({"category": names, "judge_digest": digests})
        for part in range(parts)
    )


def judges(noise: pl.DataFrame, names: pl.DataFrame, threshold: float, aggregate: str) -> list[dict[str, Any]]:
    """`noise_of` each judge, where there are several."""
    if names.height < 2:
        return []
    return [
        {"judge": name, **noise_of(noise.filter(pl.col("judge_digest") == key), threshold, aggregate)}
        for name, key in names.iter_rows()
    ]


def hint(whole: Whole) -> dict[str, Any]:
    """How often the judge agreed with the expected outcome it was shown as another AI's opinion."""
    if "hint" not in whole["judgments"].collect_schema():  # before 1.3.0
        return {"shown": 0}
    said = whole["judgments"].drop_nulls("hint")
    return {"shown": height(said), "agree": share_by_prompt(said, pl.col("hint") == HintAnswer.AGREE)}


def heuristic(whole: Whole) -> dict[str, Any]:
    """The heuristic score beside the judge's: candidates it knows something about, mean of each part, and how often
    the judge accepts what the heuristic holds wrong, and the other way round."""
    if "reward" not in whole or "heuristic" not in whole["reward"].collect_schema():
        return {"candidates": 0}
    rows = read(whole["reward"].select("prompt_id", "label", *HEURISTICS).drop_nulls("heuristic"))
    wrong = pl.col("heuristic") < 0.5
    return {
        "candidates": rows.height,
        "parts": {name: mean_of(rows[name]) for name in HEURISTICS},
        "accepted_but_wrong": share_by_prompt(rows.lazy().filter("label"), wrong),
        "rejected_but_right": share_by_prompt(rows.lazy().filter(~pl.col("label")), ~wrong),
    }


def agreements(raw: pl.LazyFrame, names: pl.DataFrame, threshold: float, aggregate: str) -> list[dict[str, Any]]:
    """How far each two judges agree, over candidates that both scored.

    Returns:
        judges (two names), candidates, same (share with the same verdict about the threshold), kappa, difference
        (mean of first minus second, with interval), correlation (of the aggregated scores; None without variation).
    """
    if names.height < 2:
        return []
    scores = read(
        raw.drop_nulls("sample_score")
        .sort("candidate_id", "judge_digest", "sample_score")
        .group_by("candidate_id", "judge_digest")
        .agg(aggregation(aggregate, "sample_score").alias("score"))
    ).pivot("judge_digest", index="candidate_id", values="score")
    found = []
    for (first, one), (second, two) in combinations(names.iter_rows(), 2):
        both = scores.select(pl.col(one).alias("one"), pl.col(two).alias("two")).drop_nulls()
        yes = both.select(one=pl.col("one") >= threshold, two=pl.col("two") >= threshold)
        cells = [yes.filter((pl.col("one") == a) & (pl.col("two") == b)).height for a in (1, 0) for b in (1, 0)]
        correlation = both.select(pl.corr("one", "two")).item() if both.height > 1 else None
        found.append(
            {
                "judges": [first, second],
                "candidates": both.height,
                "same": wilson(cells[0] + cells[3], both.height),
                "kappa": kappa(*cells),
                "difference": mean_interval(both["one"] - both["two"]),
                "correlation": None if correlation is None or isnan(correlation) else correlation,
            }
        )
    return found
