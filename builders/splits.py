"""Splits by prompt group: twins, near-duplicates and samples of one prompt are never apart."""

from __future__ import annotations

import polars as pl

from specdistill.schemas.digest import digest
from specdistill.schemas.recipe import Split

ROUNDING = 1e-9
"""What many sums of one share may be off by."""


def split_of(prompts: pl.DataFrame, split: Split) -> pl.DataFrame:
    """Which split each prompt is in.

    Groups are ordered by category and then by a seeded hash. Each prompt along that order owes its share to `test`, and
    a group is taken when at least half of it is owed: systematic sampling, so that each category gives its share up to
    half a group, whatever the sizes. A category's last group in train is never taken.

    Returns:
        prompt_id, split.
    """
    groups = prompts.group_by("group_id").agg(pl.col("category").min(), pl.len().alias("size"))
    order = [digest("split", split.seed, group) for group in groups["group_id"].to_list()]
    groups = groups.with_columns(pl.Series("order", order, dtype=pl.String)).sort("category", "order")
    left = dict(groups.group_by("category").len().iter_rows())
    test: set[str] = set()
    owed, before = 0.0, None
    for group, category, size, _ in groups.iter_rows():
        if category != before:  # what a large group left over is not another category's to give
            owed, before = max(-0.5, min(owed, 0.5)), category
        owed += size * split.test
        if owed >= size / 2 - ROUNDING and left[category] > 1:
            test.add(group)
            left[category] -= 1
            owed -= size
    return prompts.select(
        "prompt_id",
        pl.when(pl.col("group_id").is_in(sorted(test))).then(pl.lit("test")).otherwise(pl.lit("train")).alias("split"),
    )
