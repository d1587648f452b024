"""From source rows to the prompts table: keys, twins, groups."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.builders.cleaning.clean import Links
from specdistill.builders.cleaning.texts import whole_text
from specdistill.builders.commits import Commits
from specdistill.builders.sources import source_rows
from specdistill.builders.steps import Step, nobody
from specdistill.schemas.digest import digest
from specdistill.schemas.pool import POOL_SCHEMA, REMOVED
from specdistill.schemas.recipe import PromptSource, Recipe
from specdistill.schemas.rows import PROMPTS
from specdistill.schemas.similar import near_within

READ_ROWS = 5_000
"""Source rows that are held as Python objects at once."""


def prompt_id(messages: list[dict[str, str]]) -> str:
    """Key of a conversation: white space at the ends and Unicode form aside, equal text has equal key."""
    return digest("prompt", [[turn["role"], " ".join(turn["content"].split())] for turn in messages])


def read_pool(
    recipe: Recipe,
    categories: list[str],
    base: Path,
    seeds: list[Path],
    step: Step = nobody,
    commits: Commits | None = None,
) -> pl.DataFrame:
    """All rows of a recipe's sources, in their order: the pool that is cleaned.

    Args:
        commits: what hub datasets were found at already.

    Raises:
        PromptError: a source cannot be read or has faulty rows.
    """

    names, nameless = file_names(recipe.prompts, base, seeds), recipe.classifier is not None

    def rows() -> Iterator[dict[str, Any]]:
        for source in recipe.prompts:
            yield from source_rows(source, categories, base, seeds, unlabelled=nameless, commits=commits, names=names)

    frames, done, left = [pl.DataFrame(schema=POOL_SCHEMA)], 0, rows()
    while part := list(islice(left, READ_ROWS)):
        frames.append(pool_frame(part))
        done += len(part)
        step("reading prompts", done, 0)
    return pl.concat(frames)


def file_names(sources: Sequence[PromptSource], base: Path, seeds: list[Path]) -> dict[Path, str]:
    """What the rows of each file say they come from; ids and groups are a file's own, so no two files have one name.

    That is the file's name, as ever. Where several have it, a file of the recipe is named by its path from the recipe's
    folder, and a file of the spec's library as such.
    """
    listed = [base / source.path for source in sources if source.path]
    library = seeds if any(source.library for source in sources) else []
    often = Counter(Path(path).name for path in {os.path.abspath(path) for path in (*listed, *library)})
    longer = {path: f"library:{path.name}" for path in library}
    longer |= {path: Path(os.path.relpath(path, base)).as_posix() for path in listed}
    return {path: name if often[path.name] > 1 else path.name for path, name in longer.items()}


def pool_frame(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """Source rows as a pool: keys made, the rest as the source has it."""
    made = [
        {name: row.get(name) for name in PLAIN}
        | {
            "prompt_id": (key := prompt_id(row["prompt"])),
            "group_id": key,
            "twin_source": row.get("twin_id"),
            "group_source": row.get("group"),
        }
        for row in rows
    ]
    return pl.DataFrame(made, schema=POOL_SCHEMA, strict=True)


PLAIN = ("prompt", "category", "outcome_hint", "source", "source_id", "lineage", "source_score")


def prompt_table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Source rows as the prompts table, without cleaning: only equal conversations are dropped, the first one stays."""
    pool = pool_frame(rows)
    return tabled(pool, pool.unique("prompt_id", keep="first", maintain_order=True))


def tabled(
    pool: pl.DataFrame, kept: pl.DataFrame, removed: pl.DataFrame | None = None, links: Links | None = None
) -> pl.DataFrame:
    """The prompts table of a cleaned pool, ordered by category so that shared prefixes follow each other.

    `twin_id` goes from the source's ids to prompt ids; a twin that was removed as a double is the row it doubled; an
    unknown or removed twin is null. Rows share a `group_id` when they are twins, share a source's group, are linked,
    or are near-duplicates by the rule that publishing checks.

    Args:
        pool: all rows, for what twins mean.
        kept: the rows that stay.
        removed: rows of the `removed` table.
        links: pairs of prompt ids that must stay together.
    """
    kept = kept.with_columns(twins(pool, kept, REMOVED.empty() if removed is None else removed))
    pairs: list[tuple[str, str]] = list(links or ())
    pairs += list(kept.select("prompt_id", "twin_id").drop_nulls().iter_rows())
    named = kept.drop_nulls("group_source").with_columns(origin().alias("origin"))
    firsts = named.select("prompt_id", pl.col("prompt_id").first().over("origin", "group_source").alias("first"))
    pairs += list(firsts.filter(pl.col("prompt_id") != pl.col("first")).iter_rows())
    near = near_within(kept.select(pl.col("prompt_id").alias("id"), whole_text().alias("text")))
    pairs += list(near.select("left", "right").iter_rows())
    kept = kept.drop("group_id").join(connected(kept["prompt_id"], pairs), on="prompt_id", maintain_order="left")
    return PROMPTS.validate(kept.select(PROMPTS.names).sort("category", maintain_order=True))


def origin() -> pl.Expr:
    """Where a row comes from, without its line: ids of a source are its own."""
    return pl.col("source").str.replace(r":\d+$", "")


def twins(pool: pl.DataFrame, kept: pl.DataFrame, removed: pl.DataFrame) -> pl.Series:
    """`twin_id` of the kept rows."""
    asked = kept.select(origin().alias("origin"), pl.col("twin_source").alias("source_id")).drop_nulls().unique()
    if asked.is_empty():
        return pl.Series("twin_id", [None] * kept.height, dtype=pl.String)
    named = pool.select(origin().alias("origin"), "source_id", "prompt_id")
    ids: dict[tuple[str, str], str] = {}
    for place, key, prompt in named.join(
        asked, on=["origin", "source_id"], how="semi", maintain_order="left"
    ).iter_rows():
        ids.setdefault((place, key), prompt)
    instead = dict(removed.select("prompt_id", "matched_id").drop_nulls().iter_rows())
    stays = set(kept["prompt_id"].to_list())
    found: list[str | None] = []
    for place, own, twin in kept.select(origin().alias("origin"), "prompt_id", "twin_source").iter_rows():
        other = ids.get((place, twin)) if twin is not None else None
        seen = set()
        while other is not None and other not in stays and other not in seen:
            seen.add(other)
            other = instead.get(other)
        found.append(other if other in stays and other != own else None)
    return pl.Series("twin_id", found, dtype=pl.String)


def connected(keys: pl.Series, pairs: Iterable[tuple[str, str]]) -> pl.DataFrame:
    """Union-find: each key with the smallest key that it is connected to through pairs of them.

    Only keys that are in a pair are held as Python objects.

    Args:
        keys: distinct.

    Returns:
        prompt_id (the key), group_id.
    """
    known, linked = keys.alias("prompt_id").to_frame(), list(pairs)
    there = set(known.join(linked_keys(linked), on="prompt_id", how="semi")["prompt_id"].to_list())
    parent = {key: key for key in there}

    def root(key: str) -> str:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for left, right in linked:
        if left in there and right in there:
            a, b = sorted((root(left), root(right)))
            parent[b] = a
    schema = {"prompt_id": pl.String, "group_id": pl.String}
    found = pl.DataFrame([(key, root(key)) for key in sorted(there)], schema=schema, orient="row")
    joined = known.join(found, on="prompt_id", how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("group_id", "prompt_id").alias("group_id"))


def linked_keys(pairs: Iterable[tuple[str, str]]) -> pl.DataFrame:
    """All keys of pairs: prompt_id."""
    return pl.DataFrame({"prompt_id": [key for pair in pairs for key in pair]}, schema={"prompt_id": pl.String})
