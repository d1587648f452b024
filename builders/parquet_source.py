"""Prompts in Parquet, of which nothing is believed: not its footer, not its pages, not its lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from specdistill.errors import PromptError

MAX_LINE_BYTES = 32 * 1024 * 1024
"""Most bytes of one text, and of one line of a JSONL file."""
MAX_GROUP_BYTES = 4 * 1024**3
"""Most bytes that a Parquet row group may unpack to."""
PARQUET_BATCH, MAX_BATCH_BYTES = 500, 512 * 1024**2
"""Most rows that are unpacked at once, and most bytes that they may come to."""


def parquet_rows(path: Path) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Rows of a Parquet file, some at a time.

    Arrow reads it, not Polars: on a damaged page Polars 2.1 ends the stream early without a word, and rows are lost.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=batch_rows(file.metadata, path)):
                refuse_long(batch, path, number)
                for row in batch.to_pylist():
                    number += 1
                    yield path.name, number, row
            groups = [file.metadata.row_group(at).num_rows for at in range(file.metadata.num_row_groups)]
            if not number == sum(groups) == file.metadata.num_rows:
                raise PromptError(
                    f"The file says it has {file.metadata.num_rows} rows in groups of {groups[:5]}; {number} came.",
                    "It is damaged: fetch it again.",
                    file=path,
                )
    except (pa.ArrowException, OverflowError, UnicodeDecodeError) as exc:
        raise PromptError(f"The file cannot be read: {exc}.", "It must be a Parquet file.", file=path) from exc


def refuse_long(batch: Any, path: Path, before: int) -> None:
    """Refuse rows that hold a text as long as no line of text may be, before they become Python values.

    Raises:
        PromptError: with the number of the first row of the batch.
    """
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if (longest := longest_text(column)) > MAX_LINE_BYTES:
            cause = f"A text in column '{name}' has {longest / 1e6:.0f} MB."
            raise PromptError(cause, "Split or drop the row.", file=path, line=before + 1)


def longest_text(array: Any) -> int:
    """Bytes of the longest text in an Arrow array, however it is nested or encoded."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_dictionary(kind):
        return longest_text(array.dictionary)
    if pa.types.is_struct(kind):
        return max((longest_text(field) for field in array.flatten()), default=0)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return longest_text(array.flatten())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return int(pc.max(pc.binary_length(array)).as_py() or 0)
    return 0


def batch_rows(metadata: Any, path: Path) -> int:
    """Rows that may be unpacked at once, from the footer.

    A dictionary page can hold one value that every row repeats: no value is larger than its column chunk, so that many
    rows of the largest chunk still fit.

    Raises:
        PromptError: a row group says that it unpacks to more than a machine should be asked to hold.
    """
    largest = 1
    for at in range(metadata.num_row_groups):
        group = metadata.row_group(at)
        chunks = [group.column(number).total_uncompressed_size for number in range(group.num_columns)]
        if (size := max(sum(chunks), group.total_byte_size)) > MAX_GROUP_BYTES:
            raise PromptError(
                f"A row group of this file unpacks to {size / 1e9:.1f} GB.",
                "Prompts are text of some kilobytes: split the file, or look at where it came from.",
                file=path,
            )
        largest = max(largest, *chunks, 1)
    return int(max(1, min(PARQUET_BATCH, MAX_BATCH_BYTES // largest)))
