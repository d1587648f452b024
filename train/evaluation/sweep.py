"""Judge samples and threshold against true precision: what would be accepted, and how much of it people call good.

Truth is what people said in the audit. Rows chosen because they were borderline are not a random sample: the precision
of a sweep over them is that of borderline rows, so a random control slice is what to sweep over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.builders.judging import aggregate_judgments
from specdistill.errors import SchemaError
from specdistill.schemas.recipe import Judge
from specdistill.train.evaluation.intervals import clustered, mean_interval

THRESHOLDS = tuple(step / 20 for step in range(0, 21))


def read_truth(path: Path) -> pl.DataFrame:
    """What people said, as candidate_id and good.

    Args:
        path: a Parquet file with `candidate_id, good`, or audit verdicts (`target_id, votes_for, votes_against`), of
            which ties and pairs are left out.

    Raises:
        SchemaError: it is neither.
    """
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise SchemaError(f"The truth cannot be read: {exc}.", "Give a Parquet file.", file=path) from exc
    if {"candidate_id", "good"} <= set(frame.columns):
        return frame.select("candidate_id", pl.col("good").cast(pl.Boolean)).drop_nulls()
    if {"target_id", "votes_for", "votes_against"} <= set(frame.columns):
        rows = frame.filter(pl.col("kind") == "row") if "kind" in frame.columns else frame
        return rows.filter(pl.col("votes_for") != pl.col("votes_against")).select(
            pl.col("target_id").alias("candidate_id"), (pl.col("votes_for") > pl.col("votes_against")).alias("good")
        )
    raise SchemaError(
        f"Columns {frame.columns} are no verdicts.", "Give candidate_id and good, or audit verdicts.", file=path
    )


def sweep(
    judgments: pl.DataFrame,
    truth: pl.DataFrame,
    judge: Judge,
    *,
    ks: Sequence[int] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[dict[str, Any]]:
    """Precision and recall of acceptance for every k and threshold.

    Args:
        judgments: rows of the judgments table.
        truth: candidate_id, good.
        ks: judge samples used, the first ones of each candidate; None for 1 to all.

    Returns:
        One record a k and threshold: k, threshold, judged, accepted, precision, low, high (None where nothing is
        accepted), recall.
    """
    known = judgments.join(truth, on="candidate_id", how="semi")
    prompts = known.select("candidate_id", "prompt_id").unique("candidate_id")
    rows: list[dict[str, Any]] = []
    for k in ks or range(1, judge.k + 1):
        votes = min(k, judge.min_votes or k // 2 + 1)
        scores = (
            aggregate_judgments(
                known.filter(pl.col("sample_index") < k),
                aggregate=judge.aggregate,
                weights=judge.weights,
                votes_needed=votes,
            )
            .join(truth, on="candidate_id")
            .join(prompts, on="candidate_id")
        )
        good = int(truth.join(prompts, on="candidate_id")["good"].sum())
        for threshold in thresholds:
            taken = scores.filter(pl.col("score") >= threshold)
            row: dict[str, Any] = {"k": k, "threshold": threshold, "judged": scores.height, "accepted": taken.height}
            row |= {"precision": None, "low": None, "high": None, "recall": None}
            if taken.height:
                found = mean_interval(clustered(taken["good"].cast(pl.Float64).to_list(), taken["prompt_id"].to_list()))
                row |= {"precision": found.value, "low": found.low, "high": found.high}
            if good:
                row["recall"] = int(taken["good"].sum()) / good
            rows.append(row)
    return rows
