"""One definition of a table: columns with types and prose, from which every other form is derived.

Polars schema (inside), Hugging Face `Features` and JSON Schema (outside) and the prose on the card come from the
same `Table`, so they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl

from specdistill.errors import SchemaError

MAY_BE_NULL = frozenset({"reasoning_content"})
"""Fields of a turn that may be null; the others are always given."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: as users see it.
        dtype: the Polars type.
        doc: one sentence with the unit, for the card.
        nullable: whether null has a meaning here (the doc says which).
        values: the closed set of values, if any.
    """

    name: str
    dtype: Any
    doc: str
    nullable: bool = False
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A named, versioned list of columns.

    Attributes:
        version: semantic; removing or retyping a column is major, adding one is minor.
        key: columns that identify a row.
    """

    name: str
    version: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = field(default=())

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [column.name for column in self.columns]

    @property
    def schema(self) -> pl.Schema:
        """The Polars schema."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    def empty(self) -> pl.DataFrame:
        """A frame with these columns and no rows."""
        return pl.DataFrame(schema=self.schema)

    def frame(self, rows: list[dict[str, Any]]) -> pl.DataFrame:
        """Rows as a frame of exactly this schema, missing keys null, unknown keys refused.

        Raises:
            SchemaError: a row has a key that is no column, or a value of another type.
        """
        known = set(self.names)
        for number, row in enumerate(rows):
            if unknown := set(row) - known:
                raise SchemaError(
                    f"Row {number} of table '{self.name}' has unknown columns {sorted(unknown)}.",
                    f"Known columns: {', '.join(self.names)}.",
                )
        try:
            return pl.DataFrame(rows, schema=self.schema, strict=True)
        except (pl.exceptions.PolarsError, TypeError, OverflowError) as exc:
            raise SchemaError(
                f"Rows do not fit table '{self.name}' version {self.version}: {exc}",
                "Check the types against `specdistill schema show`.",
            ) from exc

    def completed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Exactly these columns; those that may be null and are missing (rows of an earlier version) are null.

        Raises:
            polars.exceptions.ColumnNotFoundError: a column that is never null is missing.
        """
        missing = [c for c in self.columns if c.nullable and c.name not in frame.columns]
        return frame.with_columns(pl.lit(None, dtype=c.dtype).alias(c.name) for c in missing).select(self.names)

    def type_problems(self, schema: pl.Schema) -> list[str]:
        """Columns that are missing or of another type, in words. Extra columns are allowed."""
        found = []
        for column in self.columns:
            if column.name not in schema:
                found.append(f"column '{column.name}' is missing")
            elif schema[column.name] != column.dtype:
                found.append(f"column '{column.name}' is {schema[column.name]}, not {column.dtype}")
        return found

    def problems(self, frame: pl.DataFrame, limit: int = 10) -> list[str]:
        """What does not fit, at most `limit` entries; empty when the frame is valid. More columns are fine."""
        found: list[str] = []
        for column in self.columns:
            if column.name not in frame.columns:
                found.append(f"column '{column.name}' is missing")
                continue
            series = frame[column.name]
            if series.dtype != column.dtype:
                found.append(f"column '{column.name}' is {series.dtype}, not {column.dtype}")
                continue
            bad = series.is_null() if not column.nullable else pl.zeros(0, dtype=pl.Int8, eager=True)
            if not column.nullable and bad.any():
                found.append(f"column '{column.name}' is null in rows {bad.arg_true().head(limit).to_list()}")
            if column.values:
                wrong = series.is_not_null() & ~series.is_in(list(column.values))
                if wrong.any():
                    rows = wrong.arg_true().head(limit).to_list()
                    found.append(f"column '{column.name}' has values outside {list(column.values)} in rows {rows}")
            if isinstance(series.dtype, pl.List):
                holed = series.list.eval(_holes(series.dtype.inner)).list.any()
                if holed.any():
                    rows = holed.arg_true().head(limit).to_list()
                    found.append(f"column '{column.name}' has a null entry or field in its lists in rows {rows}")
            if column.name == "schema_version":
                other = series.is_not_null() & (series != self.version)
                if other.any():
                    rows = other.arg_true().head(limit).to_list()
                    found.append(f"column 'schema_version' is not {self.version} in rows {rows}")
        if self.key and all(name in frame.columns for name in self.key):
            doubled = frame.height - frame.select(self.key).n_unique()
            if doubled:
                found.append(f"{doubled} rows share the key {list(self.key)} with another row")
        return found[:limit]

    def validate(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame itself when it is valid.

        Raises:
            SchemaError: naming the first ten problems.
        """
        if found := self.problems(frame):
            raise SchemaError(
                f"Table '{self.name}' version {self.version} is not valid: " + "; ".join(found) + ".",
                "The rows were not written by this version; `specdistill schema migrate` upgrades older ones.",
            )
        return frame


def _holes(inner: Any) -> pl.Expr:
    """Whether an entry of a list is null, or has a null where a turn's field is always given.

    An expression for `list.eval`, which sees the entries of all rows as one column and copies none of their text.
    """
    entry = pl.element()
    null = entry.is_null()
    for part in inner.fields if isinstance(inner, pl.Struct) else ():
        if part.name not in MAY_BE_NULL:
            null |= entry.struct.field(part.name).is_null()
    return null
