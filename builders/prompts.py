"""From source rows to the prompts table: keys, exact duplicates, twins, groups."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.builders.sources import read_source
from specdistill.schemas.digest import digest
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.rows import PROMPTS


def prompt_id(messages: list[dict[str, str]]) -> str:
    """Key of a conversation: white space at the ends and Unicode form aside, equal text has equal key."""
    return digest("prompt", [[turn["role"], " ".join(turn["content"].split())] for turn in messages])


def read_prompts(recipe: Recipe, categories: list[str], base: Path, seeds: list[Path]) -> pl.DataFrame:
    """All prompts of a recipe as the prompts table, ordered by category so that shared prefixes follow each other.

    Exact duplicates (same conversation) are dropped, the first one stays.

    Raises:
        PromptError: a source cannot be read or has faulty rows.
    """
    rows: list[dict[str, Any]] = []
    for source in recipe.prompts:
        rows += read_source(source, categories, base, seeds)
    return prompt_table(rows)


def prompt_table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Source rows as the prompts table. `twin_id` goes from source ids to prompt ids; unknown twins are null."""
    by_source_id: dict[str, str] = {}
    unique: dict[str, dict[str, Any]] = {}
    for row in rows:
        key = prompt_id(row["prompt"])
        if row["source_id"] is not None:
            by_source_id.setdefault(row["source_id"], key)
        unique.setdefault(key, {**row, "prompt_id": key})
    for row in unique.values():
        twin = by_source_id.get(row["twin_id"]) if row["twin_id"] else None
        row["twin_id"] = twin if twin in unique and twin != row["prompt_id"] else None
    groups = connected(unique, ((row["prompt_id"], row["twin_id"]) for row in unique.values() if row["twin_id"]))
    for key, row in unique.items():
        row["group_id"] = groups[key]
    return PROMPTS.frame(list(unique.values())).sort("category", maintain_order=True)


def connected(keys: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Union-find: each key to the smallest key it is connected to through pairs."""
    parent = {key: key for key in keys}

    def root(key: str) -> str:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for left, right in pairs:
        a, b = sorted((root(left), root(right)))
        parent[b] = a
    return {key: root(key) for key in parent}
