"""A result on disk: written whole, pinned by digests, read back and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from specdistill.builders.parts import parquet_bytes, read_parts
from specdistill.errors import RunError, SchemaError
from specdistill.schemas.evaluation import ANSWERS, EVAL_TABLES, GRADES, ITEMS, MEASURES, NUMBERS, EvalResult
from specdistill.schemas.files import write_whole
from specdistill.schemas.manifest import FileEntry
from specdistill.schemas.table import Table
from specdistill.schemas.verify import file_digest

RESULT = "result.json"
FILES = {"items": ITEMS, "measures": MEASURES, "numbers": NUMBERS}
"""Name of a Parquet file to its table; answers and grades are folders of parts."""
PARTS = {"answers": ANSWERS, "grades": GRADES}


@dataclass(frozen=True)
class Result:
    """A finished evaluation.

    Attributes:
        folder: where it lies.
        record: `result.json`.
        measures: rows of the measures table.
        numbers: rows of the numbers table.
    """

    folder: Path
    record: EvalResult
    measures: pl.DataFrame
    numbers: pl.DataFrame

    @property
    def name(self) -> str:
        """What it is called in comparisons."""
        return self.record.name

    def rows(self, table: str) -> pl.DataFrame:
        """Rows of any of its tables."""
        if table in PARTS:
            return read_parts(self.folder / table, PARTS[table])
        return read_table(self.folder / f"{table}.parquet", FILES[table])


def is_complete(folder: Path) -> bool:
    """Whether a result lies there."""
    return (folder / RESULT).is_file()


def write_result(folder: Path, record: Mapping[str, Any], tables: Mapping[str, pl.DataFrame]) -> EvalResult:
    """Write tables, then `result.json` over everything in the folder.

    Args:
        record: all of EvalResult that is not made here.
        tables: name to rows, for FILES; answers and grades already lie there in parts.
    """
    for name, frame in tables.items():
        write_whole(folder / f"{name}.parquet", parquet_bytes(FILES[name].validate(frame)))
    counts = {name: frame.height for name, frame in tables.items()}
    files = {}
    for path in sorted(folder.rglob("*.parquet")):
        height = int(pl.scan_parquet(path).select(pl.len()).collect().item())
        name = path.relative_to(folder).as_posix()
        files[name] = FileEntry(sha256=file_digest(path), bytes=path.stat().st_size, rows=height)
        if name.partition("/")[0] in PARTS:
            counts[name.partition("/")[0]] = counts.get(name.partition("/")[0], 0) + height
    made = EvalResult.model_validate(
        {
            **record,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "schemas": {name: table.version for name, table in EVAL_TABLES.items()},
            "counts": counts,
            "files": files,
        }
    )
    write_whole(folder / RESULT, (made.model_dump_json(indent=2) + "\n").encode())
    return made


def read_result(folder: Path) -> Result:
    """A finished evaluation, its files proven by their digests.

    Raises:
        RunError: there is none, or it was written by another version.
        SchemaError: a file was changed.
    """
    path = folder / RESULT
    if not path.is_file():
        raise RunError(
            f"There is no {RESULT}: no finished evaluation lies here.", "Run `specdistill eval` again.", file=folder
        )
    try:
        record = EvalResult.model_validate_json(path.read_bytes())
    except (ValidationError, ValueError) as exc:
        first = exc.errors()[0]["msg"] if isinstance(exc, ValidationError) else str(exc)
        raise RunError(f"The result cannot be read ({first}).", "Another version wrote it.", file=path) from exc
    for name, entry in record.files.items():
        if not (folder / name).is_file() or file_digest(folder / name) != entry.sha256:
            raise SchemaError(
                "The file is missing or is not the one the result was made with.",
                "Run `specdistill eval` again: what is answered stays, the numbers are made anew.",
                file=folder / name,
            )
    measures, numbers = (read_table(folder / f"{name}.parquet", FILES[name]) for name in ("measures", "numbers"))
    return Result(folder, record, measures, numbers)


def read_table(path: Path, table: Table) -> pl.DataFrame:
    """Rows of a Parquet file, valid by their schema.

    Raises:
        RunError: it cannot be read.
    """
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise RunError(f"This file cannot be read: {exc}.", "Run `specdistill eval` again.", file=path) from exc
    return table.validate(frame)
