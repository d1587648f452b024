"""Preference pairs whose difference is larger than the judge's own noise."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from specdistill.schemas.digest import digest
from specdistill.schemas.recipe import Preference
from specdistill.schemas.rows import REASONED_MESSAGES


def preference_pairs(judged: pl.DataFrame, preference: Preference, refused: Collection[str] = ()) -> pl.DataFrame:
    """Pairs of candidates of one prompt.

    Chosen: accepted by screens and threshold, from the spec arm. Rejected: any judged candidate of either arm. The
    margin must exceed both the recipe's least margin and the noise; the widest margins come first, and a completion
    is used once a prompt on each side.

    Args:
        judged: candidates with prompt_id, prompt, category, score, score_std, judge_samples, passes, reason, arm,
            answer, reasoning.
        refused: ids of pairs whose order people did not confirm; the next pair of the prompt takes their place.

    Returns:
        The columns of the preference config, but for schema_version.
    """
    side = judged.with_columns(
        pl.concat_list(
            pl.struct(
                pl.lit("assistant").alias("role"),
                pl.col("answer").alias("content"),
                pl.col("reasoning").alias("reasoning_content"),
            )
        )
        .cast(REASONED_MESSAGES)
        .alias("message"),
        squared_error(judged).alias("squared_error"),
    )
    chosen = side.filter(pl.col("passes") & (pl.col("arm") == "spec")).select(
        "prompt_id",
        "prompt",
        "category",
        pl.col("candidate_id").alias("chosen_id"),
        pl.col("message").alias("chosen"),
        pl.col("score").alias("score_chosen"),
        pl.col("squared_error").alias("chosen_error"),
        pl.col("answer").alias("chosen_answer"),
        "spec_digest",
        "category_digest",
        "clause_digests",
    )
    rejected = side.select(
        "prompt_id",
        pl.col("candidate_id").alias("rejected_id"),
        pl.col("message").alias("rejected"),
        pl.col("score").alias("score_rejected"),
        pl.col("squared_error").alias("rejected_error"),
        pl.col("answer").alias("rejected_answer"),
        pl.col("arm").alias("rejected_arm"),
    )
    pairs = (
        chosen.join(rejected, on="prompt_id", how="inner")
        .with_columns(
            (pl.col("score_chosen") - pl.col("score_rejected")).alias("margin"),
            (pl.col("chosen_error") + pl.col("rejected_error")).sqrt().alias("noise"),
        )
        .filter(
            (pl.col("margin") > 0)
            & (pl.col("margin") >= preference.min_margin)
            & (pl.col("margin") > pl.col("noise"))
            & (pl.col("chosen_answer") != pl.col("rejected_answer"))
        )
        .sort(["prompt_id", "margin", "chosen_id", "rejected_id"], descending=[False, True, False, False])
    )
    if refused:
        pairs = with_id(pairs).filter(~pl.col("id").is_in(list(refused)))
    pairs = pairs.unique(["chosen_id"], keep="first", maintain_order=True).unique(
        ["rejected_id"], keep="first", maintain_order=True
    )
    return with_id(pairs.filter(pl.int_range(pl.len()).over("prompt_id") < preference.pairs_per_prompt))


def with_id(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs with `id`, the digest of their two candidates."""
    ids = [digest("pair", *pair) for pair in pairs.select("chosen_id", "rejected_id").iter_rows()]
    return pairs.with_columns(pl.Series("id", ids, dtype=pl.String))


def squared_error(judged: pl.DataFrame) -> pl.Expr:
    """Squared standard error of each candidate's score over its judge samples.

    One sample has no spread of its own: it is given the mean variance of the others, so that a single sample never
    looks certain. Where nobody was sampled twice the noise is unknown, and counts as zero.
    """
    variance = pl.col("score_std").pow(2)
    pooled = judged.select(variance.mean()).item() if judged.height else None
    return variance.fill_null(pooled or 0.0) / pl.col("judge_samples")
