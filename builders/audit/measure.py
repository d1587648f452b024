"""What the answers say about the judge: confusion, precision and recall of the accepted set, thresholds, pace.

Precision and recall come from the control slice alone: it is the part that was drawn at random. Each stratum of
category and judge's verdict is weighted by its size in the run over its answered control records (Horvitz-Thompson);
intervals are a bootstrap within strata, 95 %. The judge's verdict is today's, as `select` would take it: the threshold
may have moved since people were asked, and the accepted set that is measured is the one there is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from specdistill.builders.audit.agreement import RESAMPLES, SEED, Number
from specdistill.schemas.audit import Final, Kind
from specdistill.schemas.intervals import wilson

PAUSE = 30 * 60
"""Seconds; a longer gap between two answers is a break, not work."""


def answered(records: pl.DataFrame, found: pl.DataFrame, kind: Kind) -> pl.DataFrame:
    """Records people decided, with what they said.

    Args:
        records: rows of `RECORDS`.
        found: rows of `VERDICTS`.

    Returns:
        Round-1 records with `good` (bool): whether people keep the row, or the judge's order of the pair.
    """
    decided = found.filter(pl.col("final") != Final.OPEN).select(
        "target_id", (pl.col("final") == Final.CONFIRMED).alias("good")
    )
    return (
        records.filter((pl.col("kind") == kind) & (pl.col("round") == 1))
        .join(decided, on="target_id")
        .sort("target_id")
    )


def today(rows: pl.DataFrame, population: pl.DataFrame) -> pl.DataFrame:
    """Answered rows with the judge's verdict and score as they are now; without those that nobody would be shown now.

    Args:
        rows: from `answered`; their `judge_accepts` and `score` are of the day they were chosen.
        population: from `choose.row_population`.
    """
    now = population.select("target_id", "judge_accepts", "score")
    return rows.drop("judge_accepts", "score").join(now, on="target_id").sort("target_id")


def confusion(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Judge against people, per category and in all: counts."""
    judge, good = pl.col("judge_accepts"), pl.col("good")
    cells = (
        (judge & good).sum().alias("both_accept"),
        (judge & ~good).sum().alias("judge_only"),
        (~judge & good).sum().alias("people_only"),
        (~judge & ~good).sum().alias("both_reject"),
    )
    table = rows.group_by("category").agg(*cells).sort("category").to_dicts()
    return [*table, {"category": "all"} | rows.select(*cells).to_dicts()[0]] if rows.height else []


def weighted(control: pl.DataFrame, population: pl.DataFrame) -> pl.DataFrame:
    """Control rows with `weight`: how many rows of the run each stands for.

    Args:
        control: answered rows of the control slice, from `today`.
        population: all rows of the run, with category and judge_accepts.
    """
    strata = ["category", "judge_accepts"]
    sizes = population.group_by(strata).len("size").join(control.group_by(strata).len("taken"), on=strata)
    return control.join(
        sizes.with_columns((pl.col("size") / pl.col("taken")).alias("weight")).select(*strata, "weight"), on=strata
    ).sort("target_id")


def rates(rows: pl.DataFrame, wanted: float) -> dict[str, Any]:
    """Precision and recall of the accepted set, and the least threshold of a wanted precision, with intervals.

    Args:
        rows: from `weighted`, with score.
        wanted: precision asked of the threshold, 0 to 1.
    """
    if rows.is_empty():
        return {"records": 0, "precision": None, "recall": None, "threshold": None, "wanted": wanted}
    accepts, good, weight = (rows[name].to_numpy() for name in ("judge_accepts", "good", "weight"))
    scores = rows["score"].fill_null(-1.0).to_numpy()
    names = rows.select(pl.concat_str("category", "judge_accepts", separator="/"))["category"].to_list()
    strata = [np.flatnonzero(np.array(names) == name) for name in sorted(set(names))]
    random = np.random.default_rng(SEED)
    draws = [np.concatenate([random.choice(members, len(members)) for members in strata]) for _ in range(RESAMPLES)]

    def share(drawn: np.ndarray, within: np.ndarray, hits: np.ndarray) -> Number:
        total = weight[drawn][within[drawn]].sum()
        return float(weight[drawn][(within & hits)[drawn]].sum() / total) if total else None

    everything = np.arange(rows.height)
    found: dict[str, Any] = {"records": rows.height, "wanted": wanted}
    for name, within, hits in (("precision", accepts, good), ("recall", good, accepts)):
        values = [value for drawn in draws if (value := share(drawn, within, hits)) is not None]
        found[name] = share(everything, within, hits)
        low, high = np.percentile(values, [2.5, 97.5]) if values else (None, None)
        if values and low == high:  # all alike: a bootstrap cannot see what it never drew
            exact = wilson(int((within & hits).sum()), int(within.sum()))
            low, high = exact["low"], exact["high"]
        found[f"{name}_low"], found[f"{name}_high"] = (None if bound is None else float(bound) for bound in (low, high))
    found["precision_records"] = int(accepts.sum())
    found["recall_records"] = int(good.sum())
    curve = []
    for threshold in sorted(set(scores[scores >= 0].tolist())):
        above = scores >= threshold
        values = [value for drawn in draws[:200] if (value := share(drawn, above, good)) is not None]
        curve.append(
            {
                "threshold": float(threshold),
                "precision": share(everything, above, good),
                "low": float(np.percentile(values, 2.5)) if values else None,
                "recall": share(everything, good, above),
                "records": int(above.sum()),
            }
        )
    found["curve"] = curve
    reaching = [point for point in curve if point["precision"] is not None and point["precision"] >= wanted]
    found["threshold"] = reaching[0]["threshold"] if reaching else None
    return found


def pace(responses: pl.DataFrame) -> list[dict[str, Any]]:
    """Per annotator: answers by status, and how fast: median seconds between two submitted answers, breaks left out."""
    rows = []
    for (name,), part in responses.sort("updated").group_by(["annotator"], maintain_order=True):
        gaps = (
            part.filter(pl.col("status") == "submitted")["updated"].diff().dt.total_milliseconds().drop_nulls() / 1_000
        )
        working = gaps.filter((gaps > 0) & (gaps < PAUSE))
        median = working.median()
        seconds = float(median) if isinstance(median, int | float) else None
        counted = dict(part.group_by("status").len().iter_rows())
        rows.append(
            {
                "annotator": name,
                "submitted": counted.get("submitted", 0),
                "discarded": counted.get("discarded", 0),
                "draft": counted.get("draft", 0),
                "median_seconds": seconds,
                "per_hour": round(3_600 / seconds, 1) if seconds else None,
            }
        )
    return sorted(rows, key=lambda row: str(row["annotator"]))
