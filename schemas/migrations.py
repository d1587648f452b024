"""From rows of an earlier schema version to today's.

A minor version adds columns; a major one may do anything. Each step that is more than "new columns that may be null"
has a function here, and its old form lives on in the tests as a fixture that must keep loading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from specdistill.errors import SchemaError
from specdistill.schemas.configs import TABLES
from specdistill.schemas.table import Table


@dataclass(frozen=True)
class Step:
    """One change of a config's format.

    Attributes:
        note: what changed, for people.
        upgrade: rows of `before` to rows of `after`, without `schema_version`, which is set for it.
    """

    before: str
    after: str
    note: str
    upgrade: Callable[[pl.DataFrame], pl.DataFrame]


HISTORY: Mapping[str, tuple[Step, ...]] = {}
"""Config to its steps, oldest first. 1.0.0 is the first version of every config."""


def parsed(version: str) -> tuple[int, int, int]:
    """A version as numbers.

    Raises:
        SchemaError: it is none.
    """
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise SchemaError(f"'{version}' is no schema version.", "The rows were not written by specdistill.")
    return int(parts[0]), int(parts[1]), int(parts[2])


def version_of(frame: pl.DataFrame, table: Table) -> str:
    """The one version all rows state.

    Raises:
        SchemaError: none, or several.
    """
    if "schema_version" not in frame.columns:
        raise SchemaError(
            f"The rows have no schema_version, so they are not of config '{table.name}'.",
            "Only rows that specdistill published can be migrated.",
        )
    found = frame["schema_version"].unique().sort().to_list()
    if len(found) != 1 or found[0] is None:
        named = ", ".join(str(version) for version in found) or "none"
        raise SchemaError(f"The rows state several schema versions ({named}).", "Migrate files of one version each.")
    return str(found[0])


def migrate(
    frame: pl.DataFrame, config: str, history: Mapping[str, tuple[Step, ...]] = HISTORY
) -> tuple[pl.DataFrame, list[str]]:
    """Rows of any earlier version as rows of today's.

    Args:
        frame: rows of one config, with `schema_version`.

    Returns:
        The rows, valid by today's schema and with its columns in order, and what was done, in words (nothing for rows
        of today).

    Raises:
        SchemaError: an unknown config or version, a newer one, or rows that do not fit even then.
    """
    table = TABLES.get(config)
    if table is None:
        raise SchemaError(f"There is no config '{config}'.", f"Known: {', '.join(TABLES)}.")
    version = version_of(frame, table)
    if parsed(version) > parsed(table.version):
        raise SchemaError(
            f"The rows have schema version {version} of '{config}'; this specdistill knows {table.version}.",
            "Install a newer specdistill.",
        )
    done = []
    for step in history.get(config, ()):
        if step.before == version:
            frame, version = step.upgrade(frame.drop("schema_version")), step.after
            frame = frame.with_columns(pl.lit(version).alias("schema_version"))
            done.append(f"{step.before} to {step.after}: {step.note}")
    if version != table.version:
        frame, more = added_columns(frame, table, version)
        done.append(more)
    return table.validate(frame).select(table.names), done


def added_columns(frame: pl.DataFrame, table: Table, version: str) -> tuple[pl.DataFrame, str]:
    """A minor version without a step of its own: the new columns may be null.

    Raises:
        SchemaError: it is not that simple, so the version is unknown.
    """
    missing = [column for column in table.columns if column.name not in frame.columns]
    lacking = [column.name for column in missing if not column.nullable]
    if parsed(version)[0] != parsed(table.version)[0] or lacking:
        why = f": column '{lacking[0]}' is missing" if lacking else ""
        raise SchemaError(
            f"Schema version {version} of '{table.name}' cannot be brought to {table.version}{why}.",
            "The version is unknown to this specdistill; build the set again from its run.",
        )
    frame = frame.with_columns(
        *(pl.lit(None, dtype=column.dtype).alias(column.name) for column in missing),
        pl.lit(table.version).alias("schema_version"),
    )
    names = ", ".join(column.name for column in missing) or "none"
    return frame, f"{version} to {table.version}: new columns, null ({names})"
