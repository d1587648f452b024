"""Human labels: one verdict a candidate, from an audit or from a file of `id,label`.

`audit/labels.parquet` of a run holds them; whoever has verdicts of people writes that table, and calibration reads it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.errors import SelectionError
from specdistill.schemas.table import Column, Table

LABELS = Table(
    "labels",
    "1.0.0",
    "What people decided about candidates: one row a candidate.",
    (
        Column("id", pl.String, "candidate_id."),
        Column("label", pl.Boolean, "Whether it should be accepted."),
        Column("score", pl.Float64, "How good they found it, 0 to 1, where they said so.", nullable=True),
        Column("source", pl.String, "Where the label comes from: a file's name, or `audit`.", nullable=True),
    ),
    key=("id",),
)
YES = frozenset({"1", "1.0", "true", "yes", "accept", "accepted", "good"})
NO = frozenset({"0", "0.0", "false", "no", "reject", "rejected", "bad"})


def read_labels(path: Path) -> pl.DataFrame:
    """Labels from a CSV (with a header), JSONL or Parquet file with `id`, `label` and, if given, `score`.

    A label is 1/0, true/false, yes/no or accept/reject, in any case; a score is 0 to 1.

    Returns:
        Rows of the labels table, sorted by id.

    Raises:
        SelectionError: the file cannot be read, or a row of it; with its line.
    """
    rows: dict[str, dict[str, Any]] = {}
    try:
        for line, row in _rows(path):
            found = _label(row, path, line)
            before = rows.setdefault(found["id"], found)
            if before != found:
                raise SelectionError(
                    f"'{found['id']}' is labelled twice, and differently.",
                    "Give one label a candidate: decide among several people first (`specdistill audit`).",
                    file=path,
                    line=line,
                )
    except (OSError, UnicodeDecodeError, csv.Error, pl.exceptions.PolarsError) as exc:
        raise SelectionError(f"The labels cannot be read: {exc}.", "Give a file with id,label.", file=path) from exc
    if not rows:
        raise SelectionError("The file has no labels.", "Give a file with id,label.", file=path)
    return LABELS.frame([row | {"source": path.name} for row in rows.values()]).sort("id")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line (of a table: row) numbers and rows of the file."""
    if path.suffix == ".parquet":
        yield from enumerate(pl.read_parquet(path).iter_rows(named=True), 1)
        return
    with open(path, encoding="utf-8-sig", newline="") as handle:
        if path.suffix in (".jsonl", ".ndjson"):
            for line, text in enumerate(handle, 1):
                if text.strip():
                    yield line, _object(text, path, line)
            return
        reader = csv.DictReader(handle)
        for row in reader:
            yield reader.line_num, {str(key).strip(): value for key, value in row.items()}


def _object(text: str, path: Path, line: int) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise SelectionError(f"This is not JSON: {exc}.", "Mend the line.", file=path, line=line) from exc
    if not isinstance(found, dict):
        raise SelectionError("This is no JSON object.", "Mend the line.", file=path, line=line)
    return found


def _label(row: dict[str, Any], path: Path, line: int) -> dict[str, Any]:
    """One row of the file as one of ours, but for `source`."""
    key, said = row.get("id"), str(row.get("label", "")).strip().lower()
    if not isinstance(key, str) or not key.strip() or (said not in YES and said not in NO):
        raise SelectionError(
            f"A row needs an id and a label of 1/0 or accept/reject; this one has id {key!r} and label {said!r}.",
            "The columns are id,label (and, where people gave one, score from 0 to 1).",
            file=path,
            line=line,
        )
    score = row.get("score")
    try:
        number = None if score in (None, "") else float(score)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = -1.0
    if number is not None and not 0 <= number <= 1:
        raise SelectionError(f"The score {score!r} is not from 0 to 1.", "Mend the row.", file=path, line=line)
    return {"id": key.strip(), "label": said in YES, "score": number}
