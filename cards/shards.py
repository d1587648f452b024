"""Published Parquet: shards by size, row groups the datasets viewer can page, features in the file's metadata.

Written in one pass with one batch in memory, whatever the size of the set. The same rows give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from specdistill.schemas.features import features
from specdistill.schemas.files import disk_error
from specdistill.schemas.table import Table

SHARD_BYTES = 256_000_000
"""A shard is closed once its file is at least this large: several download side by side, each is cut off seldom."""
GROUP_BYTES = 8_000_000
"""Uncompressed bytes of a row group: the viewer reads whole groups, and writing holds one in memory."""
GROUP_ROWS = 5_120
"""Most rows of a row group, a multiple of `STEP`."""
STEP = 256
"""Rows read and converted together."""
READ_BYTES = 1 << 20
"""Bytes read from disk at once, per column."""


def write_split(
    source: Path,
    folder: Path,
    split: str,
    table: Table,
    *,
    shard_bytes: int = SHARD_BYTES,
    group_bytes: int = GROUP_BYTES,
) -> list[Path]:
    """Write one split as `SPLIT-00000-of-0000N.parquet`.

    Args:
        source: Parquet file with rows of the table's schema.

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
        for group in groups(source, schema, group_bytes):
            if writer is None:
                path = folder / f"{split}-{len(written):05d}.parquet.part"
                written.append(path)
                sink = path.open("wb")
                writer = pq.ParquetWriter(
                    sink, schema, compression="zstd", write_page_index=True, use_content_defined_chunking=True
                )
            writer.write_table(group, row_group_size=group.num_rows)
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


def groups(source: Path, schema: Any, group_bytes: int) -> Iterator[Any]:
    """The rows as Arrow tables of about `group_bytes` bytes and at most `GROUP_ROWS` rows.

    They are put together from steps of `STEP` rows, so the cuts depend on the rows alone and not on the row groups
    they come off the disk in.
    """
    import pyarrow as pa

    held: list[Any] = []
    for step in steps(source, schema):
        held.append(step)
        if sum(part.nbytes for part in held) >= group_bytes or sum(part.num_rows for part in held) >= GROUP_ROWS:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def steps(source: Path, schema: Any) -> Iterator[Any]:
    """The rows as Arrow tables of `STEP` rows, the last one shorter.

    Read by pyarrow, page by page: it holds little even of a file that is one row group.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(source, pre_buffer=False, buffer_size=READ_BYTES) as file:
        rest = schema.empty_table()
        for batch in file.iter_batches(batch_size=STEP, columns=schema.names, use_threads=False):
            rest = pa.concat_tables([rest, pa.Table.from_batches([batch]).select(schema.names).cast(schema)])
            while rest.num_rows >= STEP:
                yield rest.slice(0, STEP)
                rest = rest.slice(STEP)
        if rest.num_rows:
            yield rest
