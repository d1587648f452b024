"""What became of every candidate of a run, held on disk: memory grows with the accepted rows alone, and they are few
columns. The files are work files of one selection and go with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from specdistill.builders.shards import Shard
from specdistill.builders.trimming import OFFERED, over_quota, turned_away
from specdistill.schemas.files import disk_error
from specdistill.schemas.recipe import Quota

DECIDING = ".deciding-"
"""Name of a process's folder of such files in a run, to its process id."""


class Decisions:
    """Candidates with their scores and their fate, without any text, one range of prompts after the other.

    State: the ranges written so far, and the candidates that quotas turn away.
    """

    def __init__(self, folder: Path, prompts: pl.DataFrame, quota: Quota) -> None:
        self.folder, self.prompts, self.quota = folder, prompts, quota
        self.files: dict[Shard, Path] = {}
        self._offered: list[pl.DataFrame] = []
        self._over = pl.DataFrame(schema={"candidate_id": pl.String})

    def add(self, shard: Shard, decided: pl.DataFrame) -> None:
        """Take a range. Without a quota over all prompts, which rows of a prompt stay is decided at once.

        Raises:
            DiskError: the disk is full or the folder cannot be written.
        """
        accepted = decided.filter(pl.col("reason").is_null()).select(OFFERED)
        if self.quota.asked:
            self._offered.append(accepted)
        else:
            decided = turned_away(decided, over_quota(accepted, self.prompts, self.quota))
        path = self.folder / f"{len(self.files):06d}.parquet"
        try:
            decided.sort("candidate_id").write_parquet(path, compression="zstd", compression_level=1)
        except OSError as exc:
            raise disk_error(path, exc) from exc
        self.files[shard] = path

    def finish(self) -> None:
        """Apply the quotas, once all ranges are there."""
        if self._offered:
            self._over = over_quota(pl.concat(self._offered), self.prompts, self.quota)
            self._offered = []

    def of(self, shard: Shard, *columns: str) -> pl.DataFrame:
        """A range, ordered by candidate_id: these columns, or all."""
        read = list(dict.fromkeys(["candidate_id", "reason", *columns])) if columns else None
        rows = turned_away(pl.read_parquet(self.files[shard], columns=read), self._over)
        return rows.select(columns) if columns else rows

    def rows(self, *columns: str) -> pl.DataFrame:
        """These columns of all ranges together."""
        return pl.concat([self.of(shard, *columns) for shard in self.files])

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """Every range with all its columns, as often as somebody asks."""
        return (self.of(shard) for shard in self.files)
