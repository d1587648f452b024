"""Ranges of prompts: what a run too large for memory is worked through in.

Everything but quotas, splits and the balance of pairs is decided prompt by prompt, so a range of prompts with all that
belongs to them can be decided without the others. The ranges change nothing about the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import polars as pl

SHARD_ROWS = 50_000
"""Stored rows of the longest table in one range, about."""


@dataclass(frozen=True)
class Shard:
    """Prompt ids from `low` to before `high`; None is no bound."""

    low: str | None = None
    high: str | None = None

    def holds(self, column: str = "prompt_id") -> pl.Expr:
        """Whether a row's prompt is in the range."""
        inside = pl.lit(True)
        if self.low is not None:
            inside = inside & (pl.col(column) >= self.low)
        if self.high is not None:
            inside = inside & (pl.col(column) < self.high)
        return inside

    def contains(self, prompt_id: str) -> bool:
        """Whether a prompt is in the range."""
        return (self.low is None or prompt_id >= self.low) and (self.high is None or prompt_id < self.high)

    def meets(self, low: str | None, high: str | None) -> bool:
        """Whether any of the ids from `low` to `high` may be in the range; None: nobody knows."""
        before = self.high is not None and low is not None and low >= self.high
        return not before and not (self.low is not None and high is not None and high < self.low)

    def of(self, frame: pl.DataFrame, column: str = "prompt_id") -> pl.DataFrame:
        """The rows of a frame in the range, in their order."""
        return frame if self == WHOLE else frame.filter(self.holds(column))


WHOLE = Shard()


def shards_of(prompt_ids: pl.Series, rows: int, most: int = SHARD_ROWS) -> list[Shard]:
    """Ranges that cover every prompt id once, in order, with about equally many prompts each.

    Args:
        prompt_ids: of all prompts of a run.
        rows: of its longest table.
        most: rows that a range should hold.
    """
    ids = prompt_ids.unique().sort()
    count = max(1, min(ceil(rows / most), len(ids)))
    cuts = [ids[len(ids) * number // count] for number in range(1, count)]
    return [Shard(low, high) for low, high in zip([None, *cuts], [*cuts, None], strict=True)]
