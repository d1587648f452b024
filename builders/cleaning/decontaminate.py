"""Prompts that overlap with evaluation sets: by word n-grams and by meaning. The matched pair is kept.

N-grams: the share of an evaluation prompt's n-grams that occur in a prompt (PaLM, arXiv 2204.02311, section 8, calls
a prompt contaminated from 0.7 of its 8-grams on). An evaluation prompt of fewer words is one n-gram of its own
length, from `SHORTEST` words on; a yet shorter one must be equal. So a short question inside a long prompt is found
and a greeting is not. Meaning: cosine similarity of static embeddings (`meaning.py`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from specdistill.builders.cleaning import meaning
from specdistill.builders.cleaning.clean import Sieve
from specdistill.builders.cleaning.texts import normal, user_text
from specdistill.builders.steps import Step, nobody
from specdistill.schemas.recipe_prompts import Overlap
from specdistill.schemas.slices import text_slices
from specdistill.schemas.vocabulary import RemovalReason

SHORTEST = 4
"""Words of an evaluation prompt below which only an equal prompt matches."""
BATCH, CHARS = 2_000, 1_000_000
"""Prompts, and characters of prompts, whose n-grams are held at once."""
MATCHES = {"row": pl.Int64, "eval": pl.Int64, "similarity": pl.Float64, "how": pl.String}


def grams(texts: pl.Series, words: int) -> pl.DataFrame:
    """Hashes of all runs of `words` words: row (place in the series), gram; distinct, shorter texts have none."""
    frame = pl.DataFrame({"row": pl.int_range(len(texts), dtype=pl.Int64, eager=True), "word": texts.str.split(" ")})
    exploded = frame.explode("word").with_columns(pl.col("word").hash(seed=1))
    gram = pl.struct("word", *(pl.col("word").shift(-back).over("row").alias(f"w{back}") for back in range(1, words)))
    whole = pl.col("word").shift(-(words - 1)).over("row").is_not_null() if words > 1 else pl.lit(True)
    return (
        exploded.select("row", gram.hash(seed=2).alias("gram"), whole.alias("whole"))
        .filter("whole")
        .drop("whole")
        .unique()
    )


def overlapping(texts: pl.Series, evals: pl.Series, overlap: Overlap, step: Step = nobody) -> pl.DataFrame:
    """Prompts that share enough n-grams with an evaluation prompt.

    Args:
        texts, evals: in normal form.

    Returns:
        row, eval (places in the two series), similarity (share of the evaluation prompt's n-grams), how.
    """
    sizes = evals.str.split(" ").list.len()
    index: dict[int, tuple[pl.DataFrame, pl.DataFrame]] = {}
    for words in range(SHORTEST, overlap.words + 1):
        asked = (sizes >= words if words == overlap.words else sizes == words).arg_true()
        if len(asked):
            known = (
                grams(evals.gather(asked), words)
                .with_columns(
                    pl.col("row")
                    .replace_strict(pl.int_range(len(asked), dtype=pl.Int64, eager=True), asked.cast(pl.Int64))
                    .alias("eval")
                )
                .select("eval", "gram")
            )
            index[words] = known, known.group_by("eval").len("all")
    found = []
    for start, size in text_slices(texts, BATCH, CHARS):
        part = texts.slice(start, size)
        for words, (known, totals) in index.items():
            shared = grams(part, words).join(known, on="gram").group_by("row", "eval").len("shared")
            share = (pl.col("shared") / pl.col("all")).alias("similarity")
            hits = shared.join(totals, on="eval").select(pl.col("row") + start, "eval", share)
            found.append(hits.filter(pl.col("similarity") >= overlap.share))
        step("decontamination: n-grams", start + size, len(texts))
    equal = pl.DataFrame({"row": pl.int_range(len(texts), dtype=pl.Int64, eager=True), "text": texts}).join(
        pl.DataFrame({"eval": pl.int_range(len(evals), dtype=pl.Int64, eager=True), "text": evals}), on="text"
    )
    found.append(equal.select("row", "eval", pl.lit(1.0).alias("similarity")))
    return pl.concat(found).with_columns(pl.lit("n-grams").alias("how")).cast(MATCHES)  # type: ignore[arg-type]


def matches(prompts: pl.Series, evals: pl.Series, overlap: Overlap, step: Step = nobody) -> pl.DataFrame:
    """The best match of each contaminated prompt.

    Args:
        prompts, evals: texts as written.

    Returns:
        row, eval (places in the two series), similarity, how (`n-grams` or `meaning`); one row a prompt.
    """
    plain = [side.to_frame("t").select(normal(pl.col("t")))["t"] for side in (prompts, evals)]
    found = [overlapping(plain[0], plain[1], overlap, step)]
    if overlap.similarity is not None and len(prompts):
        axes = meaning.axes_of(prompts)
        left, right = (meaning.place(side, axes) for side in (prompts, evals))
        close = meaning.best_matches(
            left, right, overlap.similarity, lambda done, all: step("decontamination: meaning", done, all)
        )
        found.append(
            close.select(
                pl.col("left").alias("row"), pl.col("right").alias("eval"), "similarity", pl.lit("meaning").alias("how")
            )
        )
    best = pl.concat(found).sort(["row", "similarity", "how", "eval"], descending=[False, True, True, False])
    return best.unique("row", keep="first", maintain_order=True)


def decontaminate(pool: pl.DataFrame, evals: pl.DataFrame, overlap: Overlap, step: Step = nobody) -> Sieve:
    """Remove every prompt of a pool that overlaps with an evaluation set.

    Args:
        pool: rows of `POOL_SCHEMA`.
        evals: from `read_eval_sets`.
    """
    sieve = Sieve(pool, step)
    if evals.is_empty() or pool.is_empty():
        return sieve
    texts = pool.select(user_text().alias("text"))["text"]
    for row, number, similarity, how in matches(texts, evals["text"], overlap, step).iter_rows():
        name, at, text = evals.row(number)
        detail = f"{similarity:.0%} of the n-grams" if how == "n-grams" else f"meaning, similarity {similarity:.3f}"
        sieve.remove(
            row,
            RemovalReason.CONTAMINATED,
            f"{detail} of {name} row {at}",
            similarity=float(np.round(similarity, 6)),
            eval_set=name,
            eval_row=at,
            eval_text=text,
        )
    return sieve
