"""Rows of files as they have them: JSONL, CSV, Parquet. What is wrong is named with its line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from specdistill.builders.parquet_source import MAX_LINE_BYTES, parquet_rows
from specdistill.errors import PromptError

Raw = tuple[str, int, Mapping[str, Any]]
"""Source name, 1-based row or line number, the row."""


def file_rows(path: Path) -> Iterator[Raw]:
    """Rows of a .jsonl, .csv or .parquet file."""
    readers = {".jsonl": jsonl_rows, ".csv": csv_rows, ".parquet": parquet_rows}
    if path.suffix.lower() not in readers:
        raise PromptError(f"Unknown kind of file '{path.suffix}'.", f"Use one of {', '.join(readers)}.", file=path)
    if not path.is_file():
        raise PromptError("No such file.", "Paths in a recipe are relative to the recipe's own folder.", file=path)
    try:
        yield from readers[path.suffix.lower()](path)
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise PromptError(f"The file cannot be read: {exc}.", "It must be UTF-8 text or Parquet.", file=path) from exc


def jsonl_rows(path: Path) -> Iterator[Raw]:
    """One JSON object a line; a broken line is named."""
    with open(path, encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            if len(line) > MAX_LINE_BYTES:
                raise PromptError("This line is over 32 MB.", "Split or drop the row.", file=path, line=number)
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as exc:
                raise PromptError(
                    f"This line is not JSON: {exc}.",
                    "Each line must be one JSON object.",
                    file=path,
                    line=number,
                ) from exc
            if not isinstance(row, dict):
                raise PromptError(
                    "This line is not a JSON object.",
                    "Each line must be one JSON object.",
                    file=path,
                    line=number,
                )
            yield path.name, number, row


def csv_rows(path: Path) -> Iterator[Raw]:
    """Rows of a CSV with a header line; numbered by the line they end on."""
    with open(path, encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle)
        for row in reader:
            if None in row or None in row.values():
                raise PromptError(
                    "This row has another number of fields than the header.",
                    "Quote fields that contain commas or line breaks.",
                    file=path,
                    line=reader.line_num,
                )
            yield path.name, reader.line_num, row
