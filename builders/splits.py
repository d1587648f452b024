"""Splits by prompt group: twins, near-duplicates and samples of one prompt are never apart."""

from __future__ import annotations

import polars as pl

from specdistill.schemas.digest import digest
from specdistill.schemas.recipe import Split


def split_of(prompts: pl.DataFrame, split: Split) -> pl.DataFrame:
    """Which split each prompt is in.

    Groups are ordered by category and then by a seeded hash, and every 1/share-th prompt (counted along that order)
    takes its group to `test`: systematic sampling, so that each category gives its share up to rounding. A category's
    last group in train is never taken.

    Returns:
        prompt_id, split.
    """
    groups = prompts.group_by("group_id").agg(pl.col("category").min(), pl.len().alias("size"))
    order = [digest("split", split.seed, group) for group in groups["group_id"].to_list()]
    groups = groups.with_columns(pl.Series("order", order, dtype=pl.String)).sort("category", "order")
    left = dict(groups.group_by("category").len().iter_rows())
    counted, test = 0, set()
    for group, category, size, _ in groups.iter_rows():
        due = int((counted + size) * split.test + 0.5) > int(counted * split.test + 0.5)
        counted += size
        if due and left[category] > 1:
            test.add(group)
            left[category] -= 1
    return prompts.select(
        "prompt_id",
        pl.when(pl.col("group_id").is_in(sorted(test))).then(pl.lit("test")).otherwise(pl.lit("train")).alias("split"),
    )
