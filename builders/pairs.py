"""Preference pairs whose difference is larger than the judge's own noise."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from math import fsum

import polars as pl

from specdistill.builders.comparing import pair_votes
from specdistill.schemas.digest import digest
from specdistill.schemas.recipe import Preference
from specdistill.schemas.rows import REASONED_MESSAGES
from specdistill.schemas.vocabulary import Arm

TARGETS = [Arm.SPEC.value, Arm.REPAIR.value]
"""Arms whose accepted candidates may be chosen against any other; revisions only against what they revise."""
ORDER = ("prompt_id", -pl.col("margin"), "chosen_id", "rejected_id")
"""Prompt by prompt, the widest margin first; ties are broken by the ids."""


def widest_pairs(
    judged: pl.DataFrame,
    preference: Preference,
    variance: float,
    refused: Collection[str] = (),
) -> pl.DataFrame:
    """Pairs of candidates of one prompt, decided prompt by prompt.

    Chosen: accepted by screens and threshold. Rejected: any judged candidate of any arm; a constitutional revision is
    paired with the answer it revises only. Both sides have a verdict of the same judges. The margin must exceed both
    the recipe's least margin and the noise; the widest margins come first, a completion is used once a prompt on each
    side, and lengths are kept within the recipe's limits.

    Args:
        judged: candidates with prompt_id, candidate_id, category, score, score_std, judge_samples, judges, passes,
            arm, parent_id, answer_key, answer_chars.
        variance: of a candidate that was sampled once, from `mean_variance`.
        refused: ids of pairs whose order people did not confirm; the next pair of the prompt takes their place.

    Returns:
        prompt_id, category, chosen_id, rejected_id, revised, scores, margin, noise, length_ratio, pairwise, arms; no
        texts.
    """
    pairs = couples(judged, variance).filter(
        (pl.col("margin") > 0)
        & (pl.col("margin") >= preference.min_margin)
        & (pl.col("margin") > preference.noise_factor * pl.col("noise"))
        & (pl.col("chosen_key") != pl.col("rejected_key"))
        & (pl.col("chosen_judges") == pl.col("rejected_judges"))
    )
    if preference.max_length_ratio is not None:
        most = preference.max_length_ratio
        pairs = pairs.filter(pl.col("length_ratio").is_between(1 / most, most))
    if refused:
        pairs = with_id(pairs).filter(~pl.col("id").is_in(list(refused)))
    return greedy(pairs, preference.pairs_per_prompt)


def greedy(pairs: pl.DataFrame, most: int) -> pl.DataFrame:
    """The widest pairs of each prompt, no completion twice on a side, at most so many of either kind, in `ORDER`.

    A turn takes every prompt's widest pair and drops all others with its chosen or its rejected side, which is what
    going through a prompt's pairs one by one would leave; turns are as many as pairs a prompt, not as its candidates.
    """

    def widest(pairs: pl.DataFrame) -> pl.DataFrame:
        return pairs.unique(["prompt_id", "revised"], keep="first", maintain_order=True)

    pairs = pairs.sort(*ORDER)
    taken = [widest(pairs)]
    while len(taken) < most and taken[-1].height:
        for side in ("chosen_id", "rejected_id"):
            used = taken[-1].select("prompt_id", "revised", side)
            pairs = pairs.join(used, on=used.columns, how="anti", maintain_order="left")
        taken.append(widest(pairs))
    return pl.concat(taken).sort(*ORDER)


def settled(pairs: pl.DataFrame, preference: Preference, comparisons: pl.DataFrame | None = None) -> pl.DataFrame:
    """What stays of the pairs of all prompts, with `id`.

    Args:
        pairs: from `widest_pairs`.
        comparisons: pairwise judgments; with `preference.pairwise` only pairs that both orders confirm stay. None
            gives the pairs that are to be compared.
    """
    if preference.pairwise is not None and comparisons is not None:
        pairs = confirmed(pairs, comparisons)
    return with_id(balanced(pairs, preference))


def couples(judged: pl.DataFrame, variance: float) -> pl.DataFrame:
    """Every chosen with every rejected candidate that may stand against it, with margin, noise and lengths."""
    side = judged.with_columns(squared_error(variance).alias("squared_error"))
    rejected, chosen = (
        side.select(
            "prompt_id",
            pl.col("candidate_id").alias(f"{name}_id"),
            pl.col("score").alias(f"score_{name}"),
            pl.col("squared_error").alias(f"{name}_error"),
            pl.col("answer_key").alias(f"{name}_key"),
            pl.col("answer_chars").alias(f"{name}_chars"),
            pl.col("arm").alias(f"{name}_arm"),
            pl.col("judges").alias(f"{name}_judges"),
            *which,
        )
        for name, side, which in (("rejected", side, ()), ("chosen", side.filter("passes"), ("category", "parent_id")))
    )
    targets = chosen.filter(pl.col("chosen_arm").is_in(TARGETS))
    revisions = chosen.filter(pl.col("chosen_arm") == Arm.CONSTITUTION).with_columns(
        pl.col("parent_id").alias("rejected_id")
    )
    plain = targets.join(rejected.filter(pl.col("rejected_arm") != Arm.CONSTITUTION), on="prompt_id", how="inner")
    revised = revisions.join(rejected, on=["prompt_id", "rejected_id"], how="inner")
    return pl.concat(
        [plain.with_columns(pl.lit(False).alias("revised")), revised.with_columns(pl.lit(True).alias("revised"))],
        how="diagonal",
    ).with_columns(
        (pl.col("score_chosen") - pl.col("score_rejected")).alias("margin"),
        (pl.col("chosen_error") + pl.col("rejected_error")).sqrt().alias("noise"),
        (pl.col("chosen_chars") / pl.col("rejected_chars")).alias("length_ratio"),
        pl.lit(None, pl.Float64).alias("pairwise"),
    )


def outline(answer: str = "answer") -> list[pl.Expr]:
    """What pairs need to know of an answer: whether two are equal, and how long each is."""
    return [pl.col(answer).hash().alias("answer_key"), pl.col(answer).str.len_chars().alias("answer_chars")]


def with_messages(pairs: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Pairs with what they are published with: prompt, both messages, and the chosen side's digests.

    A revision's reasoning is a critique of the other side, so constitutional pairs compare answers only.

    Args:
        rows: candidates with candidate_id, prompt, answer, reasoning and digests.
    """
    said = rows.select("candidate_id", message("reasoning").alias("message"), message(None).alias("bare"))
    about = rows.select("candidate_id", "prompt", "spec_digest", "category_digest", "clause_digests")
    for name in ("chosen", "rejected"):
        side = said.rename({"candidate_id": f"{name}_id"})
        shown = pl.when("revised").then("bare").otherwise("message").alias(name)
        pairs = pairs.join(side, on=f"{name}_id", how="inner", maintain_order="left").with_columns(shown)
        pairs = pairs.drop("message", "bare")
    return pairs.join(about, left_on="chosen_id", right_on="candidate_id", how="inner", maintain_order="left")


def message(reasoning: str | None) -> pl.Expr:
    """One assistant message of a candidate, with its reasoning or without."""
    thought = pl.lit(None, pl.String) if reasoning is None else pl.col(reasoning)
    return pl.concat_list(
        pl.struct(
            pl.lit("assistant").alias("role"), pl.col("answer").alias("content"), thought.alias("reasoning_content")
        )
    ).cast(REASONED_MESSAGES)


def confirmed(pairs: pl.DataFrame, comparisons: pl.DataFrame) -> pl.DataFrame:
    """The pairs whose chosen side is preferred whichever answer stands first."""
    known = pair_votes(comparisons).filter("stable")
    low, high = pl.min_horizontal("chosen_id", "rejected_id"), pl.max_horizontal("chosen_id", "rejected_id")
    chosen_share = pl.when(pl.col("chosen_id") == pl.col("low")).then("prefer_low").otherwise(1 - pl.col("prefer_low"))
    return (
        pairs.with_columns(low.alias("low"), high.alias("high"))
        .join(known, on=["low", "high"], how="inner", maintain_order="left")
        .with_columns(chosen_share.alias("pairwise"))
        .filter(pl.col("pairwise") > 0.5)
        .drop("low", "high", "prefer_low", "stable")
    )


def balanced(pairs: pl.DataFrame, preference: Preference) -> pl.DataFrame:
    """The pairs with at most `max_chosen_longer` of longer chosen answers: length is not what a preference teaches.

    Of the pairs whose chosen answer is the longer one those with the narrowest margins go.
    """
    most = preference.max_chosen_longer
    if most is None:
        return pairs
    longer = pl.col("length_ratio") > 1
    others = pairs.filter(~longer).height
    allowed = pairs.height if most >= 1 else int(most * others / (1 - most) + 1e-9)
    rank = pl.struct(-pl.col("margin"), "chosen_id").rank("ordinal")
    kept = pairs.filter(longer).filter(rank <= allowed)
    return pairs.join(pl.concat([pairs.filter(~longer), kept]), on=["chosen_id", "rejected_id"], how="semi")


def with_id(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs with `id`, the digest of their two candidates."""
    ids = [digest("pair", *pair) for pair in pairs.select("chosen_id", "rejected_id").iter_rows()]
    return pairs.with_columns(pl.Series("id", ids, dtype=pl.String))


def mean_variance(ranges: Iterable[pl.DataFrame]) -> float:
    """Mean variance of the judge's samples over the candidates that were sampled twice or more; 0 where none was.

    The sum is exact before it is rounded, so it does not depend on how the candidates are divided (`math.fsum`).

    Args:
        ranges: candidates with score_std.
    """
    seen = 0

    def squares() -> Iterator[float]:
        nonlocal seen
        for judged in ranges:
            found = judged["score_std"].drop_nulls().pow(2)
            seen += len(found)
            yield from found

    total = fsum(squares())
    return total / seen if seen else 0.0


def squared_error(variance: float) -> pl.Expr:
    """Squared standard error of each candidate's score over its judge samples.

    One sample has no spread of its own: it is given the mean variance of the others, so that a single sample never
    looks certain. Where nobody was sampled twice the noise is unknown, and counts as zero.
    """
    return pl.col("score_std").pow(2).fill_null(variance) / pl.col("judge_samples")
