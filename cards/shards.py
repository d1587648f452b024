"""Published Parquet: shards by size, row groups the datasets viewer can page, features in the file's metadata.

Written in one pass with one batch in memory, whatever the size of the set. The same rows give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.schemas.features import features
from specdistill.schemas.files import disk_error
from specdistill.schemas.table import Table

SHARD_BYTES = 256_000_000
"""A shard is closed once its file is at least this large: several download side by side, each is cut off seldom."""
GROUP_BYTES = 8_000_000
"""Uncompressed bytes of a row group: the viewer reads whole groups, and writing holds one in memory."""
GROUP_ROWS = 5_000
"""Most rows of a row group."""


def write_split(
    frame: pl.LazyFrame,
    folder: Path,
    split: str,
    table: Table,
    *,
    shard_bytes: int = SHARD_BYTES,
    group_bytes: int = GROUP_BYTES,
) -> list[Path]:
    """Write one split as `SPLIT-00000-of-0000N.parquet`.

    Args:
        frame: rows of the table's schema.

    Returns:
        The shards in order; none for no rows, since `datasets` cannot load an empty split.

    Raises:
        DiskError: the disk is full or the folder cannot be written.
    """
    import pyarrow.parquet as pq

    schema = features(table).arrow_schema
    written: list[Path] = []
    writer: Any = None
    sink: Any = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for block in blocks(frame, table):
            for piece in pieces(block.to_arrow().cast(schema), group_bytes):
                if writer is None:
                    path = folder / f"{split}-{len(written):05d}.parquet.part"
                    written.append(path)
                    sink = path.open("wb")
                    writer = pq.ParquetWriter(
                        sink, schema, compression="zstd", write_page_index=True, use_content_defined_chunking=True
                    )
                writer.write_table(piece, row_group_size=piece.num_rows)
                if sink.tell() >= shard_bytes:
                    _close(writer, sink)
                    writer = None
        if writer is not None:
            _close(writer, sink)
            writer = None
        named = [folder / f"{split}-{number:05d}-of-{len(written):05d}.parquet" for number in range(len(written))]
        for part, path in zip(written, named, strict=True):
            part.rename(path)
        return named
    except OSError as exc:
        raise disk_error(folder, exc) from exc
    finally:
        if writer is not None:
            sink.close()


def _close(writer: Any, sink: Any) -> None:
    writer.close()
    sink.close()


def blocks(frame: pl.LazyFrame, table: Table) -> Iterator[pl.DataFrame]:
    """The rows, `GROUP_ROWS` at a time, whatever batches they come off the disk in."""
    rest = table.empty()
    for batch in frame.select(table.names).collect_batches(chunk_size=GROUP_ROWS, maintain_order=True):
        rest = pl.concat([rest, batch]) if rest.height else batch
        while rest.height >= GROUP_ROWS:
            yield rest.head(GROUP_ROWS)
            rest = rest.slice(GROUP_ROWS)
    if rest.height:
        yield rest


def pieces(block: Any, group_bytes: int) -> Iterator[Any]:
    """An Arrow table cut evenly so that a piece is about `group_bytes` large."""
    count = max(1, -(-block.nbytes // group_bytes))
    step = max(1, -(-block.num_rows // count))
    for start in range(0, block.num_rows, step):
        yield block.slice(start, step)
