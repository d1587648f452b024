"""Small statistics that every number is made with: shares with intervals, quartiles, histograms."""

from __future__ import annotations

from typing import Any

import polars as pl

from specdistill.schemas.intervals import clustered_share, wilson

__all__ = ["BINS", "height", "histogram", "mean_of", "quartiles", "read", "share_by_prompt", "wilson"]

BINS = 20
"""Bars of a histogram."""


def read(frame: pl.LazyFrame) -> pl.DataFrame:
    """Collect in bounded memory."""
    return frame.collect(engine="streaming")


def share_by_prompt(rows: pl.LazyFrame, hit: pl.Expr) -> dict[str, Any]:
    """How many of some rows with a prompt_id are hits. Rows of one prompt are not independent of each other.

    Returns:
        share, low, high; all None for no rows.
    """
    prompt = pl.col("prompt_id").hash(seed=0)  # eight bytes for each
    by_prompt = read(rows.group_by(prompt).agg(hit.sum().alias("hits"), pl.len().alias("rows")).sort("prompt_id"))
    return clustered_share(by_prompt["hits"].cast(pl.Float64), by_prompt["rows"].cast(pl.Float64))


def height(frame: pl.DataFrame | pl.LazyFrame) -> int:
    """Number of rows."""
    return int(frame.lazy().select(pl.len()).collect().item())


def histogram(values: pl.Series, top: float = 1.0) -> list[int]:
    """Counts in `BINS` equal bins from 0 to `top`; `top` itself falls into the last bin."""
    bins = (values / top * BINS + 1e-9).floor().clip(0, BINS - 1).cast(pl.Int32)
    counted = dict(bins.value_counts().iter_rows()) if len(bins) else {}
    return [int(counted.get(number, 0)) for number in range(BINS)]


def quartiles(values: pl.Series) -> dict[str, float | None]:
    """mean, q25, median, q75; None for no values."""
    if not len(values):
        return {"mean": None, "q25": None, "median": None, "q75": None}
    cuts = {name: values.quantile(share, "linear") for name, share in (("q25", 0.25), ("median", 0.5), ("q75", 0.75))}
    return {"mean": float(values.mean()), **cuts}  # type: ignore[arg-type]


def mean_of(values: pl.Series) -> float | None:
    mean = values.drop_nulls().mean()
    return float(mean) if isinstance(mean, int | float) else None
