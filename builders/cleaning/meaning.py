"""Texts that mean the same: cosine similarity of static word embeddings, every pair looked at.

Embeddings by wordllama (256 dimensions; the model ships in the package). They are means of word vectors: fast, English
first, deaf to word order ("dog bites man") and to negation, so the thresholds are high and pairs whose sources state
different outcomes are never taken for duplicates.

All pairs are compared, exactly, but not at full length: after a rotation to principal components, x·y is at most
x₁·y₁ + |x₂||y₂| (Cauchy and Schwarz), where x₁ are the first 32 components and x₂ the rest. That bound is one short
matrix product, and only pairs whose bound reaches the threshold are computed in full.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from specdistill.builders.cleaning.near import Progress, quiet

SHORT = 32
"""Components of the bound."""
BLOCK = 2_048
BATCH = 4_096
SAMPLE = 20_000
"""Rows that the rotation is fitted on."""
PARTNERS = 16
"""Similar earlier rows that are kept of each row: enough to find doubles, few enough for a pool of equal meaning."""
PAIRS = pl.DataFrame(schema={"left": pl.Int64, "right": pl.Int64, "similarity": pl.Float64})
MOST_CHARS = 4_000
"""Of a text; a mean over more words says less."""


@lru_cache(maxsize=1)
def model() -> Any:
    """The embedding model of the wordllama package, from its own files: nothing is downloaded."""
    import logging
    from pathlib import Path

    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    import wordllama

    root.setLevel(level)  # the package configures the root logger on import
    root.handlers[:] = handlers
    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)


def embeddings(texts: pl.Series, progress: Progress = quiet) -> np.ndarray:
    """Unit vectors: float32, rows × 256; zeros for a text without a known word."""
    found = np.zeros((len(texts), 256), dtype=np.float32)
    for start in range(0, len(texts), BATCH):
        part = texts.slice(start, BATCH).str.slice(0, MOST_CHARS).to_list()
        with np.errstate(all="ignore"):
            vectors = np.nan_to_num(model().embed(part, batch_size=256))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        found[start : start + len(part)] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        progress(start + len(part), len(texts))
    return found


def rotated(*sides: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each side in principal components of the first: (all components, first ones with the length of the rest)."""
    step = max(len(sides[0]) // SAMPLE, 1)
    sample = sides[0][::step]
    _, axes = np.linalg.eigh(sample.T @ sample)
    turned = [side @ np.ascontiguousarray(axes[:, ::-1]).astype(np.float32) for side in sides]
    return [
        (side, np.concatenate([side[:, :SHORT], np.linalg.norm(side[:, SHORT:], axis=1, keepdims=True)], axis=1))
        for side in turned
    ]


def blocks(
    left: np.ndarray, right: np.ndarray | None, threshold: float, progress: Progress
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(rows of left, rows of right, similarities) of all pairs at or above the threshold, block by block.

    Within one side (`right` is None) only pairs whose left row is the smaller.
    """
    within = right is None
    other = left if right is None else right
    if not (len(left) and len(other)):
        return
    (whole, short), *rest = rotated(left) if within else rotated(left, other)
    other_whole, other_short = rest[0] if rest else (whole, short)
    for start in range(0, len(left), BLOCK):
        for begin in range(start if within else 0, len(other), BLOCK):
            bound = short[start : start + BLOCK] @ other_short[begin : begin + BLOCK].T
            if within and begin == start:
                bound = np.triu(bound, 1)
            places = np.flatnonzero(bound.ravel() >= threshold - 1e-4)
            if not len(places):
                continue
            rows, columns = np.divmod(places, bound.shape[1])
            rows, columns = rows + start, columns + begin
            if len(places) > bound.size // 32:  # the bound does not help here: one long product
                exact = (whole[start : start + BLOCK] @ other_whole[begin : begin + BLOCK].T).ravel()[places]
            else:
                exact = np.einsum("ij,ij->i", whole[rows], other_whole[columns])
            exact = exact.round(6)  # so that equal texts are exactly 1
            kept = exact >= threshold
            yield rows[kept], columns[kept], exact[kept]
        progress(min(start + BLOCK, len(left)), len(left))


def close_pairs(vectors: np.ndarray, threshold: float, progress: Progress = quiet) -> pl.DataFrame:
    """Pairs with a cosine similarity of at least the threshold: for each row its first `PARTNERS` earlier ones.

    Args:
        vectors: unit vectors.

    Returns:
        left, right (row numbers, left smaller), similarity.
    """
    found = [PAIRS.clear()]
    seen = np.zeros(len(vectors), dtype=np.int64)
    for rows, columns, exact in blocks(vectors, None, threshold, progress):
        order = np.lexsort((rows, columns))
        rows, columns, exact = rows[order], columns[order], exact[order]
        starts = np.flatnonzero(np.concatenate([[True], columns[1:] != columns[:-1]])) if len(columns) else columns
        sizes = np.diff(np.concatenate([starts, [len(columns)]]))
        rank = np.arange(len(columns)) - np.repeat(starts, sizes) + seen[columns]
        np.add.at(seen, columns, 1)
        few = rank < PARTNERS
        found.append(
            pl.DataFrame({"left": rows[few], "right": columns[few], "similarity": exact[few]}).cast(PAIRS.schema)
        )
    return pl.concat(found).sort("left", "right")


def best_matches(left: np.ndarray, right: np.ndarray, threshold: float, progress: Progress = quiet) -> pl.DataFrame:
    """The most similar row of `right` for each row of `left` that has one at or above the threshold.

    Returns:
        left, right (row numbers), similarity; equal ones go to the earlier row of `right`.
    """
    best = np.full(len(left), -1.0)
    match = np.zeros(len(left), dtype=np.int64)
    for rows, columns, exact in blocks(left, right, threshold, progress):
        order = np.lexsort((columns, -exact, rows))
        first = order[np.flatnonzero(np.concatenate([[True], np.diff(rows[order]) > 0]))] if len(order) else order
        better = first[exact[first] > best[rows[first]] + 1e-7]
        best[rows[better]], match[rows[better]] = exact[better], columns[better]
    hits = np.flatnonzero(best >= 0)
    return pl.DataFrame({"left": hits, "right": match[hits], "similarity": best[hits]}).cast(PAIRS.schema)
