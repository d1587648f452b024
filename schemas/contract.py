"""Schemas as contracts between releases: what a release promises, and what changed for its readers.

A release states its columns in the `dataset_info` of its card. Removing or retyping a column, or dropping a config,
breaks readers; new columns and configs do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from specdistill.schemas.safe_yaml import read_yaml

Schemas = dict[str, dict[str, str]]
"""Config to column to type, in words."""


@dataclass(frozen=True)
class SchemaChange:
    """One difference.

    Attributes:
        column: empty when the whole config is concerned.
        what: in words.
        breaking: whether code that read the old form fails on the new one.
    """

    config: str
    column: str
    what: str
    breaking: bool

    def __str__(self) -> str:
        where = f"{self.config}.{self.column}" if self.column else self.config
        return f"{'breaking: ' if self.breaking else ''}{where} {self.what}"


def card_schemas(text: str) -> Schemas:
    """The columns that a card's front matter states; empty for a card without `dataset_info`."""
    if not text.startswith("---\n"):
        return {}
    block, closed, _ = text[4:].partition("\n---")
    try:
        matter = read_yaml(block) if closed else None
    except yaml.YAMLError:
        return {}
    infos = matter.get("dataset_info") if isinstance(matter, dict) else None
    found: Schemas = {}
    for info in infos if isinstance(infos, list) else [infos]:
        features = info.get("features") if isinstance(info, dict) else None
        if isinstance(info, dict):
            found[str(info.get("config_name", "default"))] = {
                str(feature.get("name")): type_text(feature)
                for feature in (features if isinstance(features, list) else [])
                if isinstance(feature, dict)
            }
    return found


def type_text(feature: Mapping[str, Any]) -> str:
    """A feature of a card as one line: `string`, `list<struct<role: string, content: string>>`."""
    for key in ("list", "sequence"):
        if key in feature:
            return f"list<{_inner(feature[key])}>"
    if "struct" in feature:
        return _inner(feature["struct"])
    return str(feature.get("dtype", "unknown"))


def _inner(value: Any) -> str:
    if isinstance(value, list):
        fields = [f"{item.get('name')}: {type_text(item)}" for item in value if isinstance(item, Mapping)]
        return "struct<" + ", ".join(fields) + ">"
    if isinstance(value, Mapping):
        return type_text(value)
    return str(value)


def schema_changes(old: Schemas, new: Schemas) -> list[SchemaChange]:
    """What changed for readers, breaking changes first."""
    changes = []
    for config in dict.fromkeys((*old, *new)):
        if config not in new:
            changes.append(SchemaChange(config, "", "is gone", True))
        elif config not in old:
            changes.append(SchemaChange(config, "", "is new", False))
        else:
            changes += _columns(config, old[config], new[config])
    return sorted(changes, key=lambda change: not change.breaking)


def _columns(config: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[SchemaChange]:
    changes = []
    for column in dict.fromkeys((*old, *new)):
        if column not in new:
            changes.append(SchemaChange(config, column, f"is gone; it was {old[column]}", True))
        elif column not in old:
            changes.append(SchemaChange(config, column, f"is new: {new[column]}", False))
        elif old[column] != new[column]:
            changes.append(SchemaChange(config, column, f"is {new[column]}; it was {old[column]}", True))
    return changes
