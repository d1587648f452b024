"""What was seen before, at eight bytes a value."""

from __future__ import annotations

import numpy as np
import polars as pl


class Seen:
    """Tells new values of a long stream from those that came before, by their 64-bit hashes: of ten million different
    values two are taken for one with a chance of one in 400,000.

    State: sorted hashes, in arrays of which each is at least twice as long as the next.
    """

    def __init__(self) -> None:
        self._known: list[np.ndarray] = []

    def new(self, values: pl.Series) -> pl.Series:
        """For each value whether it comes for the first time, in this series or before."""
        hashes = values.hash(seed=0)
        fresh = hashes.is_first_distinct().to_numpy().copy()
        raw = hashes.to_numpy()
        for known in self._known:
            at = np.minimum(np.searchsorted(known, raw), len(known) - 1)
            fresh &= known[at] != raw
        if fresh.any():
            self._known.append(np.sort(raw[fresh]))
        while len(self._known) > 1 and len(self._known[-2]) < 2 * len(self._known[-1]):
            last = self._known.pop()
            self._known[-1] = np.sort(np.concatenate([self._known[-1], last]))
        return pl.Series(values.name, fresh)
