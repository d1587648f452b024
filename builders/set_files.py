"""The derived sets on disk, written range by range: one Parquet file a split, all of them put in place at the end."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import polars as pl

from specdistill.builders.selection import Sets
from specdistill.schemas.files import disk_error, sync_folder
from specdistill.schemas.layout import RunLayout

GROUP_ROWS = 20_000
"""Rows of a row group."""


def write_sets(layout: RunLayout, ranges: Iterable[Sets]) -> dict[str, dict[str, int]]:
    """Write every derived set; files of splits that no longer exist go.

    Args:
        ranges: the sets of each range of prompts; every config in each of them, with `train` at least.

    Returns:
        Config to split to rows.

    Raises:
        DiskError: the disk is full or the folder cannot be written; the files that were there are untouched.
    """
    files: dict[tuple[str, str], SplitFile] = {}
    with ExitStack() as held:
        for sets in ranges:
            for config, splits in sets.items():
                for split, frame in splits.items():
                    if (config, split) not in files:
                        files[config, split] = held.enter_context(SplitFile(layout.dataset(config, split)))
                    files[config, split].add(frame)
        for file in files.values():
            file.close()
        for file in files.values():
            file.place()
    counts: dict[str, dict[str, int]] = {}
    for (config, split), file in sorted(files.items(), key=lambda item: item[0][1] != "train"):
        counts.setdefault(config, {})[split] = file.rows
    for folder in layout.datasets.iterdir():
        for path in folder.glob("*.parquet"):
            if path.stem not in counts.get(folder.name, {}):
                path.unlink()
        sync_folder(folder)
    return counts


class SplitFile:
    """A Parquet file that grows beside its place and is then put there.

    State: the open writer, and the rows written so far.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, 0
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._handle: IO[bytes] | None = None
        self._writer: Any = None

    def add(self, frame: pl.DataFrame) -> None:
        """Append rows. The first ones decide the columns, so even no rows are worth adding once."""
        import pyarrow.parquet as pq

        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        try:
            if self._handle is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._handle = self._temporary.open("wb")
                self._writer = pq.ParquetWriter(self._handle, table.schema, compression="zstd")
            if frame.height:
                self._writer.write_table(table, row_group_size=GROUP_ROWS)
        except OSError as exc:
            raise disk_error(self.path, exc) from exc
        self.rows += frame.height

    def close(self) -> None:
        """Bring everything to disk, still beside its place."""
        if self._handle is None:
            return
        try:
            self._writer.close()
            self._handle.flush()
            os.fsync(self._handle.fileno())
            self._handle.close()
        except OSError as exc:
            raise disk_error(self.path, exc) from exc

    def place(self) -> None:
        """Put the closed file in its place."""
        try:
            os.replace(self._temporary, self.path)
        except OSError as exc:
            raise disk_error(self.path, exc) from exc

    def __enter__(self) -> SplitFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None and not self._handle.closed:
            self._handle.close()
        self._temporary.unlink(missing_ok=True)
