"""Rows of a config in a file: Parquet, or one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.errors import SchemaError
from specdistill.schemas.table import Table

POLARS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
ENDINGS = (".parquet", ".jsonl")


def read_rows(path: Path, table: Table) -> pl.DataFrame:
    """Read a file.

    Columns that the table names come with the table's types; others as they are.

    Raises:
        SchemaError: it cannot be read, or a value is of another type; with the line, for JSON.
    """
    if not path.is_file():
        raise SchemaError("There is no such file.", "Check the path.", file=path)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # The file may be anybody's. Polars 2.1 aborts the whole process on some damaged pages; Arrow raises.
            with pq.ParquetFile(path) as file:
                return pl.DataFrame(pl.from_arrow(file.read()))
        except (ValueError, OverflowError, OSError, pa.ArrowException, *POLARS) as exc:
            raise SchemaError(f"This file cannot be read: {exc}.", "It is no Parquet file.", file=path) from exc
    if path.suffix != ".jsonl":
        raise SchemaError(f"Rows come as {' or '.join(ENDINGS)}.", "Convert the file first.", file=path)
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        if line.strip():
            rows.append(one_row(line, path, number))
    seen = {name for row in rows for name in row}
    known = {column.name: column.dtype for column in table.columns if column.name in seen}
    more = dict.fromkeys(seen - set(known), pl.Object)
    try:
        frame = pl.DataFrame(rows, schema=known | more, strict=True)  # type: ignore[arg-type]
    except (pl.exceptions.PolarsError, TypeError, OverflowError, UnicodeEncodeError) as exc:
        raise SchemaError(
            f"A value is not of its column's type: {exc}", "See `specdistill schema show`.", file=path
        ) from exc
    return frame.drop(more)


def one_row(line: str, path: Path, number: int) -> dict[str, Any]:
    """One line as an object.

    Raises:
        SchemaError: it is none.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise SchemaError(f"This line is no JSON: {exc}.", "Give one object a line.", file=path, line=number) from exc
    if not isinstance(row, dict):
        raise SchemaError("This line is no JSON object.", "Give one object a line.", file=path, line=number)
    return row
