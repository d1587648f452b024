"""Texts that mean the same: cosine similarity of static word embeddings, every pair looked at.

Embeddings by wordllama (256 dimensions; the model ships in the package). They are means of word vectors: fast, English
first, deaf to word order ("dog bites man") and to negation, so the thresholds are high and pairs whose sources state
different outcomes are never taken for duplicates.

All pairs are compared, exactly, but not at full length: after a rotation to principal components, x·y is at most
x₁·y₁ + |x₂||y₂| (Cauchy and Schwarz), where x₁ are the first 32 components and x₂ the rest. That bound is one short
matrix product, and only pairs whose bound reaches the threshold are computed in full. What is kept of a text is in half
precision and brought to unit length again, which moves a similarity by some 0.00002 and leaves that of equal texts 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from specdistill.builders.cleaning.near import Progress, quiet

WIDTH = 256
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


@dataclass(frozen=True)
class Placed:
    """Texts as unit vectors along principal components, in half precision: 700 bytes a text.

    Attributes:
        whole: float16, rows x 256; a row is a unit vector once scaled.
        scale: float32, rows; zero for a text without a known word.
        short: float32, rows x 33: the first components, then the length of the rest.
    """

    whole: np.ndarray
    scale: np.ndarray
    short: np.ndarray

    def __len__(self) -> int:
        return len(self.scale)

    def vectors(self, rows: np.ndarray | slice) -> np.ndarray:
        """Unit vectors of some rows, float32; equal texts have equal ones."""
        return self.whole[rows].astype(np.float32) * self.scale[rows, None]


def embedded(texts: pl.Series) -> np.ndarray:
    """Unit vectors: float32, rows x 256; zeros for a text without a known word. For a few thousand texts at most."""
    if not len(texts):
        return np.zeros((0, WIDTH), dtype=np.float32)
    with np.errstate(all="ignore"):
        vectors = np.nan_to_num(model().embed(texts.str.slice(0, MOST_CHARS).to_list(), batch_size=256))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors, dtype=np.float32), where=lengths > 0)


def axes_of(texts: pl.Series) -> np.ndarray:
    """Principal axes of a sample of texts, the widest first: float32, 256 x 256."""
    few = texts.gather_every(max(len(texts) // SAMPLE, 1))
    moments = np.zeros((WIDTH, WIDTH))
    for start in range(0, len(few), BATCH):
        part = embedded(few.slice(start, BATCH)).astype(np.float64)
        moments += part.T @ part
    return np.ascontiguousarray(np.linalg.eigh(moments)[1][:, ::-1]).astype(np.float32)


def place(texts: pl.Series, axes: np.ndarray, progress: Progress = quiet) -> Placed:
    """Texts along axes; sides that are compared with each other are placed along the same."""
    whole = np.zeros((len(texts), WIDTH), dtype=np.float16)
    scale, short = np.zeros(len(texts), dtype=np.float32), np.zeros((len(texts), SHORT + 1), dtype=np.float32)
    for start in range(0, len(texts), BATCH):
        part = slice(start, min(start + BATCH, len(texts)))
        whole[part] = embedded(texts.slice(start, BATCH)) @ axes
        rounded = whole[part].astype(np.float32)
        lengths = np.linalg.norm(rounded, axis=1)
        scale[part] = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        rounded *= scale[part, None]
        short[part, :SHORT] = rounded[:, :SHORT]
        short[part, SHORT] = np.linalg.norm(rounded[:, SHORT:], axis=1)
        progress(part.stop, len(texts))
    return Placed(whole, scale, short)


def blocks(
    left: Placed, right: Placed | None, threshold: float, progress: Progress
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(rows of left, rows of right, similarities) of all pairs at or above the threshold, block by block.

    Within one side (`right` is None) only pairs whose left row is the smaller.
    """
    within = right is None
    other = left if right is None else right
    for start in range(0, len(left), BLOCK):
        for begin in range(start if within else 0, len(other), BLOCK):
            bound = left.short[start : start + BLOCK] @ other.short[begin : begin + BLOCK].T
            if within and begin == start:
                bound = np.triu(bound, 1)
            places = np.flatnonzero(bound.ravel() >= threshold - 1e-4)
            if not len(places):
                continue
            rows, columns = np.divmod(places, bound.shape[1])
            rows, columns = rows + start, columns + begin
            if len(places) > bound.size // 32:  # the bound does not help here: one long product
                sides = left.vectors(slice(start, start + BLOCK)), other.vectors(slice(begin, begin + BLOCK))
                exact = (sides[0] @ sides[1].T).ravel()[places]
            else:
                exact = products(left, other, rows, columns)
            exact = exact.round(6)  # so that equal texts are exactly 1
            kept = exact >= threshold
            yield rows[kept], columns[kept], exact[kept]
        progress(min(start + BLOCK, len(left)), len(left))


def products(left: Placed, right: Placed, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Similarities of pairs of rows, some thousand at a time."""
    found = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), 4 * BATCH):
        part = slice(start, start + 4 * BATCH)
        found[part] = np.einsum("ij,ij->i", left.vectors(rows[part]), right.vectors(columns[part]))
    return found


def close_pairs(texts: Placed, threshold: float, progress: Progress = quiet) -> pl.DataFrame:
    """Pairs with a cosine similarity of at least the threshold: for each row its first `PARTNERS` earlier ones.

    Returns:
        left, right (row numbers, left smaller), similarity.
    """
    found = [PAIRS.clear()]
    seen = np.zeros(len(texts), dtype=np.int64)
    for rows, columns, exact in blocks(texts, None, threshold, progress):
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


def best_matches(left: Placed, right: Placed, threshold: float, progress: Progress = quiet) -> pl.DataFrame:
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
