"""Near-duplicate texts: exact Jaccard similarity of word triples, without comparing every pair.

Prefix filtering (Bayardo, Ma and Srikant, "Scaling Up All Pairs Similarity Search", WWW 2007): two sets with
Jaccard similarity t or more share one of the first elements of each in any order that both follow; the rarest first
makes that few pairs. How rare is counted in buckets, which is enough for an order. Held are the hashes of each
text's triples (8 bytes a word) and a fifth of them again; everything else is done a batch at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from specdistill.schemas.slices import text_slices

NEAR = 0.8
"""Jaccard similarity of word triples from which two prompts are one; a changed word costs three triples."""
BATCH, CHARS = 10_000, 2_000_000
"""Texts, and characters of texts, whose words are held at once."""
PAIRS = 50_000
"""Pairs that are verified at once."""
PART = 500_000
"""First elements that are joined at once."""
BUCKETS = 1 << 21


def triples(texts: pl.Series) -> pl.Series:
    """The distinct word triples of each text, hashed; a shorter text is one element."""
    parts = [_triples(texts.slice(start, size)) for start, size in text_slices(texts, BATCH, CHARS)]
    return pl.concat(parts or [_triples(texts)])


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
    sets = [triples(side["text"]) for side in (left, right)]
    return named(similar(sets[0], sets[1], threshold), left["id"], right["id"])


def near_within(texts: pl.DataFrame, threshold: float = NEAR) -> pl.DataFrame:
    """Pairs of texts of one frame that are nearly the same, each pair once, the earlier row as `left`.

    Args and returns as `near_duplicates`.
    """
    return named(similar(triples(texts["text"]), None, threshold), texts["id"], texts["id"])


def named(pairs: pl.DataFrame, left: pl.Series, right: pl.Series) -> pl.DataFrame:
    """Pairs of rows as pairs of ids, most similar first."""
    ids = [side.cast(pl.String).gather(pairs[name]).alias(name) for side, name in ((left, "left"), (right, "right"))]
    frame = pl.DataFrame([*ids, pairs["similarity"]])
    return frame.sort(["similarity", "left", "right"], descending=[True, False, False])


def similar(left: pl.Series, right: pl.Series | None, threshold: float) -> pl.DataFrame:
    """Pairs of rows whose sets are similar; `right` is None for pairs within one series.

    Args:
        left, right: lists of distinct hashes, none empty.

    Returns:
        left, right (row numbers), similarity.
    """
    sides = [left] if right is None else [left, right]
    uses = np.zeros(BUCKETS, dtype=np.uint32)
    for side in sides:
        for start in range(0, len(side), BATCH):
            uses += np.bincount(bucket(side.slice(start, BATCH).explode().to_numpy()), minlength=BUCKETS).astype("u4")
    firsts = [first_elements(side, uses, threshold) for side in sides]
    other = left if right is None else right
    found = [pl.DataFrame(schema={"left": pl.UInt32, "right": pl.UInt32, "similarity": pl.Float64})]
    for pairs in candidates(firsts[0], firsts[-1], threshold, within=right is None):
        for start in range(0, pairs.height, PAIRS):
            part = pairs.slice(start, PAIRS)
            both = pl.DataFrame({"a": left.gather(part["left"]), "b": other.gather(part["right"])})
            shared = pl.col("a").list.set_intersection("b").list.len().cast(pl.Float64)
            total = pl.col("a").list.len() + pl.col("b").list.len() - shared
            part = part.with_columns(both.select((shared / total).alias("similarity"))["similarity"])
            found.append(part.filter(pl.col("similarity") >= threshold))
    return pl.concat(found).unique(["left", "right"])


def bucket(hashes: np.ndarray) -> np.ndarray:
    """Where an element's uses are counted."""
    return (hashes & np.uint64(BUCKETS - 1)).astype(np.int64)


def first_elements(sets: pl.Series, uses: np.ndarray, threshold: float) -> pl.DataFrame:
    """The rarest elements of each set, as many as one of them must be shared: element, row, size of the set."""
    found = [pl.DataFrame(schema={"element": pl.UInt64, "row": pl.UInt32, "size": pl.UInt32})]
    for start in range(0, len(sets), BATCH):
        part = sets.slice(start, BATCH)
        sizes = part.list.len().to_numpy().astype(np.int64)
        elements = part.explode().to_numpy()
        rows = np.repeat(np.arange(len(part)), sizes)
        elements = elements[np.lexsort((elements, uses[bucket(elements)], rows))]  # rows stay where they are
        place = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        needed = sizes - np.ceil(threshold * sizes - 1e-9).astype(np.int64) + 1
        kept = place < needed[rows]
        made = {"element": elements[kept], "row": rows[kept] + start, "size": sizes[rows[kept]]}
        found.append(pl.DataFrame(made).cast(found[0].schema))  # type: ignore[arg-type]
    return pl.concat(found)


def candidates(left: pl.DataFrame, right: pl.DataFrame, threshold: float, *, within: bool) -> Iterator[pl.DataFrame]:
    """Pairs of rows that share a first element and are of similar size: left, right; a pair may come again."""
    parts = (left.height + right.height) // PART + 1
    for part in range(parts):
        sides = [side.filter(pl.col("element") % parts == part) for side in (left, right)]
        pairs = sides[0].join(sides[1], on="element", suffix="_right")
        if within:
            pairs = pairs.filter(pl.col("row") < pl.col("row_right"))
        yield (
            pairs.filter(
                (pl.col("size") >= threshold * pl.col("size_right"))
                & (pl.col("size_right") >= threshold * pl.col("size"))
            )
            .select(pl.col("row").alias("left"), pl.col("row_right").alias("right"))
            .unique(maintain_order=True)
        )
