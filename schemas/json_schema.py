"""JSON Schema and prose of a table, from the same definition as its Polars schema and its `Features`."""

from __future__ import annotations

from typing import Any

import polars as pl

from specdistill.errors import SchemaError
from specdistill.schemas.table import MAY_BE_NULL, Column, Table

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_SCALARS: dict[type[pl.DataType], dict[str, Any]] = {
    pl.String: {"type": "string"},
    pl.Boolean: {"type": "boolean"},
    pl.Int32: {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    pl.Int64: {"type": "integer"},
    pl.Float32: {"type": "number"},
    pl.Float64: {"type": "number"},
}


def json_schema(table: Table) -> dict[str, Any]:
    """JSON Schema (2020-12) of one row. Further columns are allowed, as everywhere."""
    return {
        "$schema": DRAFT,
        "$id": f"urn:specdistill:{table.name}:{table.version}",
        "title": table.name,
        "description": table.doc,
        "type": "object",
        "properties": {column.name: column_schema(column) for column in table.columns},
        "required": [column.name for column in table.columns if not column.nullable],
    }


def column_schema(column: Column) -> dict[str, Any]:
    """JSON Schema of one column."""
    schema = type_schema(column.dtype)
    if column.values:
        schema = schema | {"enum": [*map(str, column.values), *([None] if column.nullable else [])]}
    if column.nullable:
        schema = schema | {"type": [schema["type"], "null"]}
    if column.name == "schema_version":
        schema = schema | {"pattern": r"^\d+\.\d+\.\d+$"}
    return {"description": column.doc, **schema}


def type_schema(dtype: Any) -> dict[str, Any]:
    """JSON Schema of a Polars type.

    Raises:
        SchemaError: it has no counterpart.
    """
    instance = dtype() if isinstance(dtype, type) else dtype
    if isinstance(instance, pl.List):
        return {"type": "array", "items": type_schema(instance.inner)}
    if isinstance(instance, pl.Struct):
        fields = {field.name: nullable(type_schema(field.dtype), field.name) for field in instance.fields}
        required = [name for name in fields if name not in MAY_BE_NULL]
        return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}
    if found := _SCALARS.get(type(instance)):
        return dict(found)
    raise SchemaError(f"A column of type {instance} has no JSON Schema.", "Use strings, numbers, lists and structs.")


def nullable(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """A turn without a reasoning has null there; the other fields of a turn are always given."""
    return schema | {"type": [schema["type"], "null"]} if name in MAY_BE_NULL else schema


def type_words(dtype: Any) -> str:
    """A Polars type in words: `list of {role, content}`."""
    instance = dtype() if isinstance(dtype, type) else dtype
    if isinstance(instance, pl.List):
        return f"list of {type_words(instance.inner)}"
    if isinstance(instance, pl.Struct):
        return "{" + ", ".join(field.name for field in instance.fields) + "}"
    return str(instance).lower()


def prose(table: Table) -> str:
    """The table in Markdown: what it holds, and every column with its type and meaning."""
    lines = [
        f"## {table.name} {table.version}",
        "",
        table.doc,
        "",
        "| column | type | meaning |",
        "| --- | --- | --- |",
    ]
    for column in table.columns:
        kind = type_words(column.dtype) + (", may be null" if column.nullable else "")
        values = f" One of {', '.join(map(str, column.values))}." if column.values else ""
        lines.append(f"| `{column.name}` | {kind} | {column.doc}{values} |")
    return "\n".join([*lines, ""])
