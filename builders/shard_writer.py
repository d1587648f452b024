"""Published Parquet: shards by size, row groups the datasets viewer can page, features in the file's metadata.

A run's sets are written in the form they are published in, so that a release need not write them again. Where shards
and row groups end depends on the rows alone, not on how many come at once: the same rows give the same bytes.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import polars as pl

from specdistill.schemas.features import features
from specdistill.schemas.files import disk_error
from specdistill.schemas.layout import shard_names
from specdistill.schemas.table import Table

SHARD_BYTES = 256_000_000
"""A shard is closed once its file is at least this large: several download side by side, each is cut off seldom."""
GROUP_BYTES = 8_000_000
"""Bytes of text of a row group, about: the viewer reads whole groups, and writing holds one in memory."""
GROUP_ROWS = 5_120
"""Most rows of a row group."""


class ShardWriter:
    """Shards that grow beside their place and are then put there, all at once.

    State: the open shard, rows that do not fill a row group yet, and the rows taken so far.

    Args:
        folder: where they lie in the end.
        split: their name: `SPLIT.parquet` for one, `SPLIT-00000-of-0000N.parquet` for more.
        shard_bytes: size from which a shard is closed.
        group_bytes: text from which a row group is.
    """

    def __init__(
        self, folder: Path, split: str, table: Table, shard_bytes: int = SHARD_BYTES, group_bytes: int = GROUP_BYTES
    ) -> None:
        self.folder, self.split, self.table, self.rows = folder, split, table, 0
        self.shard_bytes, self.group_bytes = shard_bytes, group_bytes
        self._schema = features(table).arrow_schema
        self._rest = table.empty()
        self._beside: list[Path] = []
        self._sink: IO[bytes] | None = None
        self._writer: Any = None

    def add(self, frame: pl.DataFrame) -> None:
        """Append rows.

        Raises:
            DiskError: the disk is full or the folder cannot be written.
        """
        self.rows += frame.height
        rest = pl.concat([self._rest, frame.select(self.table.names)])
        ends = group_ends(rest, self.table, self.group_bytes)
        for start, end in zip([0, *ends], ends, strict=False):
            self._write(rest.slice(start, end - start))
        self._rest = on_its_own(rest.slice(ends[-1] if ends else 0))

    def _write(self, group: pl.DataFrame) -> None:
        import pyarrow.parquet as pq

        rows = group.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()).cast(self._schema)
        try:
            if self._writer is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                path = self.folder / f".{self.split}-{len(self._beside):05d}.{os.getpid()}.tmp"
                self._beside.append(path)
                self._sink = path.open("wb")
                self._writer = pq.ParquetWriter(
                    self._sink,
                    self._schema,
                    compression="zstd",
                    write_page_index=True,
                    use_content_defined_chunking=True,
                )
            if group.height:
                self._writer.write_table(rows, row_group_size=group.height)
            if self._sink is not None and self._sink.tell() >= self.shard_bytes:
                self._close_shard()
        except OSError as exc:
            raise disk_error(self.folder, exc) from exc

    def _close_shard(self) -> None:
        assert self._sink is not None
        self._writer.close()
        self._sink.flush()
        os.fsync(self._sink.fileno())
        self._sink.close()
        self._writer = None

    def close(self) -> None:
        """Bring everything to disk, still beside its place; no rows at all are one file without any.

        Raises:
            DiskError: the disk is full or the folder cannot be written.
        """
        if self._rest.height or not self._beside:
            self._write(self._rest)
        try:
            if self._writer is not None:
                self._close_shard()
        except OSError as exc:
            raise disk_error(self.folder, exc) from exc

    def place(self) -> list[Path]:
        """Put the closed shards in their place; gives their paths, in order.

        Raises:
            DiskError: the folder cannot be written.
        """
        one = len(self._beside) == 1
        names = [f"{self.split}.parquet"] if one else shard_names(self.split, len(self._beside))
        placed = [self.folder / name for name in names]
        try:
            for path, place in zip(self._beside, placed, strict=True):
                os.replace(path, place)
        except OSError as exc:
            raise disk_error(self.folder, exc) from exc
        return placed

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sink is not None:
            self._sink.close()
        for path in self._beside:
            path.unlink(missing_ok=True)


def on_its_own(frame: pl.DataFrame) -> pl.DataFrame:
    """The same rows, holding no other: a slice keeps the texts of everything it was cut from."""
    alone = pl.from_arrow(frame.to_arrow(compat_level=pl.CompatLevel.oldest()), schema=frame.schema)
    assert isinstance(alone, pl.DataFrame)
    return alone


def group_ends(frame: pl.DataFrame, table: Table, group_bytes: int) -> list[int]:
    """Row numbers before which a row group ends: it is full with the row that reaches `group_bytes`, or `GROUP_ROWS`.

    What is left after the last one does not fill a group.
    """
    reached = frame.select(pl.sum_horizontal(text_bytes(pl.col(c.name), c.dtype) for c in table.columns).cum_sum())
    sums = reached.to_series()
    ends, start, before = [], 0, 0
    while start < frame.height:
        full = int(sums.search_sorted(before + group_bytes, side="left")) + 1
        end = min(full, start + GROUP_ROWS)
        if end > frame.height:
            break
        ends.append(end)
        start, before = end, sums[end - 1]
    return ends


def text_bytes(value: pl.Expr, dtype: Any) -> pl.Expr:
    """Bytes of all text in a value, and eight for anything else."""
    if isinstance(dtype, pl.List):
        return value.list.eval(text_bytes(pl.element(), dtype.inner)).list.sum().fill_null(0).cast(pl.Int64)
    if isinstance(dtype, pl.Struct):
        fields = [text_bytes(value.struct.field(field.name), field.dtype) for field in dtype.fields]
        return pl.sum_horizontal(fields).cast(pl.Int64)
    if dtype == pl.String:
        return value.str.len_bytes().fill_null(0).cast(pl.Int64)
    return pl.lit(8, pl.Int64)
