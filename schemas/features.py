"""Hugging Face `Features` of a table, from the same definition as its Polars schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from specdistill.errors import SchemaError
from specdistill.schemas.table import Table

if TYPE_CHECKING:
    from datasets import Features

_PLAIN: dict[type[pl.DataType], str] = {
    pl.String: "string",
    pl.Boolean: "bool",
    pl.Int32: "int32",
    pl.Int64: "int64",
    pl.Float32: "float32",
    pl.Float64: "float64",
}


def features(table: Table) -> Features:
    """What `load_dataset` gives for this table.

    Raises:
        SchemaError: a column has a type that has no counterpart.
    """
    from datasets import Features

    return Features({column.name: feature(column.dtype) for column in table.columns})


def feature(dtype: Any) -> Any:
    """One Polars type as a feature.

    Raises:
        SchemaError: it has no counterpart.
    """
    from datasets import List, Value

    instance = dtype() if isinstance(dtype, type) else dtype
    if isinstance(instance, pl.List):
        return List(feature(instance.inner))
    if isinstance(instance, pl.Struct):
        return {field.name: feature(field.dtype) for field in instance.fields}
    if name := _PLAIN.get(type(instance)):
        return Value(name)
    known = ", ".join(str(kind) for kind in (*_PLAIN, pl.List, pl.Struct))
    raise SchemaError(f"A column of type {instance} cannot be published.", f"Known types: {known}.")
