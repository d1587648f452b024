"""Append-only Parquet parts: written whole (temporary file, fsync, rename), named by their content.

A part either exists complete or not at all. Its name carries the digest of its bytes, so a damaged part is found
when it is read, set aside, and its rows come back from the call ledger on the next build.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.builders.shards import WHOLE, Shard
from specdistill.errors import RunError
from specdistill.schemas.files import write_whole
from specdistill.schemas.table import Table

FLUSH_ROWS = 2_000
"""Rows held in memory before a part is written. The ledger, not the part, is what makes a call durable."""


@dataclass(frozen=True)
class Part:
    """A part whose bytes are those of its name.

    Attributes:
        path: where it lies.
        rows: in it.
        low: its least prompt id; None for a table without.
        high: its greatest prompt id.
    """

    path: Path
    rows: int
    low: str | None
    high: str | None


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """A frame as Parquet; the same frame gives the same bytes."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=True)
    return buffer.getvalue()


def content_mark(data: bytes) -> str:
    """What a file's name says of its bytes."""
    return blake2b(data, digest_size=12).hexdigest()


def write_part(folder: Path, frame: pl.DataFrame) -> Path | None:
    """Write one part; nothing for an empty frame.

    Returns:
        The part's path, or None when there was nothing to write.

    Raises:
        DiskError: the disk is full or the folder cannot be written.
    """
    if frame.is_empty():
        return None
    data = parquet_bytes(frame)
    path = folder / f"part-{content_mark(data)}.parquet"
    if not path.exists():
        write_whole(path, data)
    return path


def is_whole(path: Path, data: bytes) -> bool:
    """Whether a part's bytes are those that its name says."""
    return content_mark(data) == path.stem.removeprefix("part-")


def damaged_parts(folder: Path) -> list[Path]:
    """Parts whose bytes do not match their name, in name order."""
    return [path for path in sorted(folder.glob("part-*.parquet")) if not is_whole(path, path.read_bytes())]


def set_aside(path: Path) -> Path:
    """Rename a damaged part so that it is no longer read; nothing is deleted."""
    aside = path.with_suffix(".damaged")
    os.replace(path, aside)
    return aside


def whole_parts(folder: Path, table: Table) -> list[Part]:
    """The parts of a folder in name order, each proven to hold the bytes of its name and the columns of its table.

    Raises:
        RunError: a part cannot be read.
    """
    parts = []
    for path in sorted(folder.glob("part-*.parquet")):
        try:
            data = path.read_bytes()
            if not is_whole(path, data):  # Polars aborts the process on some damage
                raise OSError("its bytes are not those of its name")
            names = pl.read_parquet_schema(io.BytesIO(data))
            if missing := [column.name for column in table.columns if not column.nullable and column.name not in names]:
                raise OSError(f"it has no column {missing[0]}")
            parts.append(part_of(path, data, table))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as exc:
            raise RunError(
                f"This part cannot be read: {exc}.",
                "Run `specdistill build` on the folder again: it sets the part aside and rebuilds its rows.",
                file=path,
            ) from exc
    return parts


def part_of(path: Path, data: bytes, table: Table) -> Part:
    """What a part's bytes say about it."""
    first = "prompt_id" if "prompt_id" in table.names else table.key[0]
    ids = pl.read_parquet(io.BytesIO(data), columns=[first]).to_series()
    ends = (ids.min(), ids.max()) if first == "prompt_id" else (None, None)
    return Part(path, len(ids), *ends)  # type: ignore[arg-type]


def scan_parts(parts: Sequence[Part], table: Table, shard: Shard = WHOLE) -> pl.LazyFrame:
    """Rows of whole parts, one a key, not yet read; parts without a prompt of the range are not opened.

    Columns that parts of an earlier version lack are null. A call that failed and later succeeded has two rows with
    one key: the one that did not fail is kept.
    """
    paths = [part.path for part in parts if shard.meets(part.low, part.high)]
    if not paths:
        return table.empty().lazy()
    rows = pl.scan_parquet(
        paths, schema=table.schema, missing_columns="insert", extra_columns="ignore", hive_partitioning=False
    )
    return latest(rows if shard == WHOLE else rows.filter(shard.holds()), table)


def read_parts(folder: Path, table: Table) -> pl.DataFrame:
    """All rows of a folder's parts, as `scan_parts` gives them.

    Raises:
        RunError: a part cannot be read.
    """
    return scan_parts(whole_parts(folder, table), table).collect()


def latest(frame: pl.LazyFrame, table: Table) -> pl.LazyFrame:
    """One row a key: rows of finished calls win over rows of failed ones."""
    if "error" in table.names:
        frame = frame.sort(pl.col("error").is_not_null(), maintain_order=True)
    return frame.unique(list(table.key), keep="first", maintain_order=True)


class PartWriter:
    """Collects rows of one table and writes them as parts.

    State: the rows not yet written.

    Args:
        known: keys (the table's first key column) that stored parts already hold; such rows are not written again.
        written_to: told of each part and its rows once it is on disk.
    """

    def __init__(
        self,
        folder: Path,
        table: Table,
        known: Collection[str] = (),
        flush_rows: int = FLUSH_ROWS,
        written_to: Callable[[Path, list[dict[str, Any]]], None] = lambda path, rows: None,
    ) -> None:
        self.folder, self.table, self.known, self.flush_rows = folder, table, known, flush_rows
        self.written_to = written_to
        self.rows: list[dict[str, Any]] = []
        self.written = 0

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Take rows; write a part when enough have come together."""
        key = self.table.key[0]
        self.rows.extend(row for row in rows if row[key] not in self.known)
        if len(self.rows) >= self.flush_rows:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if not self.rows:
            return
        names = self.table.names
        frame = self.table.frame([{name: row.get(name) for name in names} for row in self.rows])
        if path := write_part(self.folder, frame):
            self.written_to(path, self.rows)
        self.written += len(self.rows)
        self.rows.clear()
