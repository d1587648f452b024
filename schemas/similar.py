"""Near-duplicate texts: exact Jaccard similarity of word triples, without comparing every pair.

Prefix filtering (Bayardo, Ma and Srikant, "Scaling Up All Pairs Similarity Search", WWW 2007): two sets with
Jaccard similarity t or more share one of the rarest elements of each, so only those are joined.
"""

from __future__ import annotations

import polars as pl

NEAR = 0.8
"""Jaccard similarity of word triples from which two prompts are one; a changed word costs three triples."""
BATCH = 10_000
"""Texts whose words are held at once."""


def triples(texts: pl.Series) -> pl.Series:
    """The distinct word triples of each text, hashed; a shorter text is one element. Words are held for few texts."""
    starts = range(0, max(len(texts), 1), BATCH)
    return pl.concat([_triples(texts.slice(start, BATCH)) for start in starts])


def _triples(texts: pl.Series) -> pl.Series:
    words = texts.str.to_lowercase().str.replace_all(r"[^\w]+|_+", " ").str.strip_chars(" ").str.split(" ")
    frame = pl.DataFrame({"row": pl.int_range(len(texts), eager=True), "word": words}).explode("word")
    following = [pl.col("word").shift(-step).over("row") for step in (1, 2)]
    sized = frame.with_columns(following[0].alias("second"), following[1].alias("third"))
    whole = pl.concat_str("word", "second", "third", separator=" ")
    last = pl.col("row").is_first_distinct()  # a text of one or two words has no whole triple
    short = pl.concat_str(pl.col("word", "second", "third"), separator=" ", ignore_nulls=True)
    made = sized.with_columns(
        pl.when(whole.is_not_null()).then(whole).when(last).then(short).alias("triple")
    ).drop_nulls("triple")
    return made.group_by("row", maintain_order=True).agg(pl.col("triple").hash(seed=0).unique()).sort("row")["triple"]


def near_duplicates(left: pl.DataFrame, right: pl.DataFrame, threshold: float = NEAR) -> pl.DataFrame:
    """Pairs of texts, one of each frame, that are nearly the same.

    Args:
        left, right: columns `id`, `text`; texts are not null.
        threshold: least Jaccard similarity of the word triples, above 0.

    Returns:
        left, right (ids), similarity; most similar first.
    """
    none = pl.DataFrame(schema={"left": pl.String, "right": pl.String, "similarity": pl.Float64})
    if left.is_empty() or right.is_empty():
        return none
    sides = [
        pl.DataFrame({"id": side["id"], "set": triples(side["text"])}).with_columns(
            pl.col("set").list.len().alias("size")
        )
        for side in (left, right)
    ]
    element = pl.concat([side.select(pl.col("set").explode()) for side in sides]).group_by("set").len("uses")
    prefixes = [
        side.explode("set")
        .join(element, on="set")
        .with_columns(pl.struct("uses", "set").rank("ordinal").over("id").alias("rank"))
        .filter(pl.col("rank") <= pl.col("size") - (threshold * pl.col("size") - 1e-9).ceil() + 1)
        .select("id", "set", "size")
        for side in sides
    ]
    pairs = (
        prefixes[0]
        .join(prefixes[1], on="set", suffix="_right")
        .filter(pl.col("size") >= threshold * pl.col("size_right"))
        .filter(pl.col("size_right") >= threshold * pl.col("size"))
        .select(pl.col("id").alias("left"), pl.col("id_right").alias("right"))
        .unique()
    )
    shared = pl.col("set").list.set_intersection("set_right").list.len()
    total = pl.col("size") + pl.col("size_right") - shared
    return (
        pairs.join(sides[0], left_on="left", right_on="id")
        .join(sides[1], left_on="right", right_on="id")
        .select("left", "right", (shared / total).alias("similarity"))
        .filter(pl.col("similarity") >= threshold)
        .sort(["similarity", "left", "right"], descending=[True, False, False])
    )
