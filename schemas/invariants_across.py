"""Promises between rows: pairs, splits, fates, references."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from specdistill.schemas.invariants import Check, Facts, Invariant, Sets, Violation, columns, each, found, unmatched
from specdistill.schemas.similar import NEAR, near_duplicates
from specdistill.schemas.vocabulary import UNION


def margins(sets: Sets, facts: Facts) -> Iterator[Violation]:
    """`Invariant.MARGIN`."""
    for config, split, frame in each(sets, "preference"):
        difference = pl.col("score_chosen") - pl.col("score_rejected")
        for wrong, detail in (
            (~(pl.col("margin") > 0), "chosen does not beat rejected"),
            (~(pl.col("margin") > pl.col("noise")), "the margin is within the judge's noise"),
            ((pl.col("margin") - difference).abs() > 1e-9, "margin is not score_chosen - score_rejected"),
            (pl.col("noise").is_nan() | (pl.col("noise") < 0), "noise is no standard error"),
        ):
            yield from found(Invariant.MARGIN, config, split, frame.filter(wrong), detail)


def pairs(sets: Sets, facts: Facts) -> Iterator[Violation]:
    """`Invariant.PAIR`."""
    content = [pl.col(side).list.last().struct.field("content") for side in ("chosen", "rejected")]
    for config, split, frame in each(sets, "preference"):
        same = (pl.col("chosen_id") == pl.col("rejected_id")) | (content[0] == content[1])
        yield from found(Invariant.PAIR, config, split, frame.filter(same), "both sides are the same answer")


def placed(sets: Sets) -> pl.DataFrame:
    """Where each prompt is: prompt_id, text (all turns; null where a config has none), split; distinct rows."""
    frames = [pl.LazyFrame(schema=dict.fromkeys(("prompt_id", "text", "split"), pl.String))]
    for config_splits in sets.values():
        for split, frame in config_splits.items():
            names = frame.lazy().collect_schema().names()
            turns = pl.col("prompt").list.eval(pl.element().struct.field("content")).list.join("\n")
            frames.append(
                frame.lazy().select(
                    pl.col("prompt_id" if "prompt_id" in names else "id").alias("prompt_id"),
                    (turns if "prompt" in names else pl.lit(None, pl.String)).alias("text"),
                    pl.lit(split).alias("split"),
                )
            )
    return pl.concat(frames).unique().sort("prompt_id", "split", "text").collect(engine="streaming")


def splits(sets: Sets, facts: Facts) -> Iterator[Violation]:
    """`Invariant.SPLITS`: by id, twin, group, equal and nearly equal text, over all configs together."""
    where = placed(sets)
    home = where.select("prompt_id", "split").unique()
    straddling = home.group_by("prompt_id").len().filter(pl.col("len") > 1).sort("prompt_id")
    yield from found(Invariant.SPLITS, "*", "", straddling, "a prompt is in several splits", key="prompt_id")
    yield from _twins(sets, home)
    if facts.prompts is not None:
        groups = facts.prompts.select("prompt_id", "group_id").join(home, on="prompt_id")
        apart = groups.group_by("group_id").agg(pl.col("split").n_unique(), pl.col("prompt_id"))
        rows = apart.filter(pl.col("split") > 1).explode("prompt_id").unique("prompt_id").sort("prompt_id")
        yield from found(Invariant.SPLITS, "*", "", rows, "a group of prompts is in several splits", key="prompt_id")
    yield from _near(where)


def _twins(sets: Sets, home: pl.DataFrame) -> Iterator[Violation]:
    if "prompts" not in sets:
        return
    twins = columns(sets, "prompts", "id", "twin_id").drop("split").drop_nulls("twin_id")
    both = twins.join(home, left_on="id", right_on="prompt_id").join(
        home, left_on="twin_id", right_on="prompt_id", suffix="_twin"
    )
    rows = both.filter(pl.col("split") != pl.col("split_twin")).sort("id")
    yield from found(Invariant.SPLITS, "prompts", "", rows, "twins are in different splits")


def _near(where: pl.DataFrame) -> Iterator[Violation]:
    texts = where.drop_nulls("text")
    names = texts["split"].unique().sort().to_list()
    for number, name in enumerate(names):
        for other in names[number + 1 :]:
            sides = [
                texts.filter(pl.col("split") == split).select(pl.col("prompt_id").alias("id"), "text")
                for split in (name, other)
            ]
            near = near_duplicates(sides[0], sides[1]).filter(pl.col("left") != pl.col("right"))
            if near.height:
                ids = [key for pair in near.select("left", "right").iter_rows() for key in pair]
                detail = f"prompts of {name} and {other} are near-duplicates (similarity {NEAR} or more)"
                yield Violation(Invariant.SPLITS, "*", "", tuple(dict.fromkeys(ids)), detail)


def fates(sets: Sets, facts: Facts) -> Iterator[Violation]:
    """`Invariant.FATE`."""
    if "sft" not in sets or "rejected" not in sets:
        return
    accepted, rejected = (columns(sets, config, "id").drop("split") for config in ("sft", "rejected"))
    both = accepted.join(rejected, on="id", how="semi").sort("id")
    yield from found(Invariant.FATE, "sft", "", both, "a candidate is both accepted and rejected")
    if facts.candidates is not None:
        ended = pl.concat([accepted, rejected])
        lost = unmatched(facts.candidates, "id", ended)
        yield from found(Invariant.FATE, "rejected", "", lost, "a candidate is neither accepted nor rejected")
        strange = unmatched(ended, "id", facts.candidates)
        yield from found(Invariant.FATE, "sft", "", strange, "a row is no candidate of the run")
    for split, frame in sets.get("kto", {}).items():
        bad = frame.lazy().filter(~pl.col("label")).select("id").join(accepted.lazy(), on="id", how="semi")
        rows = bad.sort("id").collect(engine="streaming")
        yield from found(Invariant.FATE, "kto", split, rows, "an accepted candidate is labelled bad")


def references(sets: Sets, facts: Facts) -> Iterator[Violation]:
    """`Invariant.REFERENCES`."""
    categories = facts.clauses["category"].drop_nulls().unique().to_list()
    if "prompts" in sets:
        known = columns(sets, "prompts", "id")
        for config, splits in sets.items():
            for split, frame in splits.items():
                if "prompt_id" in frame.lazy().collect_schema():
                    rows = unmatched(frame, "prompt_id", known)
                    yield from found(Invariant.REFERENCES, config, split, rows, "prompt_id is not in `prompts`")
    for config, split, frame in each(sets):
        if "category" in frame.columns:
            named = pl.col("category").str.split(UNION).list.eval(pl.element().is_in(categories))
            rows = frame.filter(~named.list.all())
            yield from found(Invariant.REFERENCES, config, split, rows, "the category is not in the spec")
    if "sft" in sets and "rejected" in sets:
        ended = pl.concat([columns(sets, config, "id") for config in ("sft", "rejected")])
        for config, names in (("judgments", ("candidate_id",)), ("preference", ("chosen_id", "rejected_id"))):
            for split, frame in sets.get(config, {}).items():
                for column in names:
                    rows = unmatched(frame, column, ended)
                    detail = f"{column} is neither accepted nor rejected"
                    yield from found(Invariant.REFERENCES, config, split, rows, detail)


ACROSS: tuple[Check, ...] = (margins, pairs, splits, fates, references)
