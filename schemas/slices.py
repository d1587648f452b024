"""Texts a batch at a time, bounded by rows and by size: ten thousand greetings are nothing, as many essays are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl


def slices(sizes: np.ndarray, most_rows: int, most_size: int) -> Iterator[tuple[int, int]]:
    """(start, length) of batches in order: at most so many rows and, but for a single row, so much size."""
    ends = np.cumsum(sizes, dtype=np.int64)
    start = 0
    while start < len(ends):
        before = ends[start - 1] if start else 0
        fits = int(np.searchsorted(ends, before + most_size, side="right"))
        stop = max(start + 1, min(fits, start + most_rows, len(ends)))
        yield start, stop - start
        start = stop


def text_slices(texts: pl.Series, most_rows: int, most_chars: int) -> Iterator[tuple[int, int]]:
    """`slices` of texts by their characters; null has none."""
    yield from slices(texts.str.len_chars().fill_null(0).to_numpy(), most_rows, most_chars)
