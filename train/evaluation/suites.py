"""What is asked: prompts of a published set's held-out split, a file, or a public set, each in several variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.builders.prompts import prompt_id
from specdistill.builders.sources import as_messages, prompt_fault, raw_rows
from specdistill.errors import PromptError, UsageError
from specdistill.schemas.digest import digest
from specdistill.schemas.evaluation import ITEMS
from specdistill.schemas.recipe import PromptSource
from specdistill.schemas.vocabulary import Outcome
from specdistill.train.data import PublishedSet
from specdistill.train.evaluation.public import PUBLIC
from specdistill.train.evaluation.transforms import family_of, transformed

HELD_OUT = "held_out"


@dataclass(frozen=True)
class Suite:
    """Prompts of one origin.

    Attributes:
        name: of the suite.
        rows: prompts with prompt_id, prompt, category, outcome_hint, twin_id, clauses, source.
        origin: what is recorded of where they come from.
    """

    name: str
    rows: list[dict[str, Any]]
    origin: dict[str, Any] = field(default_factory=dict)


def held_out(published: PublishedSet, split: str = "test", limit: int | None = None) -> Suite:
    """The prompts of a split, with the clauses that accepted reasonings on them cite.

    Args:
        limit: only so many, categories and outcomes in turn.

    Raises:
        UsageError: the set has no such split.
    """
    prompts = published.load("prompts", split).to_list()
    counts = published.manifest.counts.get("sft") or {}
    accepted = published.load("sft", split).to_list() if counts.get(split) else []
    clauses: dict[str, list[list[str]]] = {}
    for row in accepted:
        clauses.setdefault(row["prompt_id"], []).append(row["clauses"])
    rows = [
        {
            "prompt_id": row["id"],
            "prompt": row["prompt"],
            "category": row["category"],
            "outcome_hint": row["outcome_hint"],
            "twin_id": row["twin_id"],
            # One reference: what most accepted reasonings agree on is not known better than by the first of them.
            "clauses": sorted(clauses[row["id"]][0]) if row["id"] in clauses else None,
            "source": f"{published.source.name}/prompts/{split}",
        }
        for row in prompts
    ]
    origin = {"dataset": published.source.name, "split": split}
    return Suite(HELD_OUT, in_turn(rows, limit), origin)


def from_file(path: Path, limit: int | None = None) -> Suite:
    """Prompts of a .jsonl, .csv or .parquet file: `prompt`, and as far as known `category`, `outcome_hint`, `clauses`.

    Raises:
        PromptError: it cannot be read, or rows are faulty.
    """
    source = PromptSource(path=Path(path.name))
    rows = read_rows(raw_rows(source, path.parent, []), {}, None, None)
    return Suite(path.stem, in_turn(rows, limit), {"file": path.name})


def from_hub(name: str, limit: int | None = None) -> Suite:
    """A public set by its name here (`xstest`) or its hub id, with `@revision` where given.

    Raises:
        UsageError: its columns are not known.
        PromptError: it cannot be read.
    """
    asked, _, revision = name.partition("@")
    found = PUBLIC.get(asked) or next((one for one in PUBLIC.values() if one.hub == asked), None)
    if found is None:
        known = ", ".join(f"{key} ({one.hub})" for key, one in PUBLIC.items())
        raise UsageError(f"'{name}' is no public set that is known here.", f"Known: {known}. Or give a file.")
    source = PromptSource(hub=found.hub, revision=revision or None, config=found.config, split=found.split)
    rows = read_rows(raw_rows(source, Path(), []), {"prompt": found.prompt, "id": found.id}, found.outcome, found.where)
    origin = {"hub": found.hub, "revision": revision or None, "licence": found.licence}
    return Suite(found.name, in_turn(rows, limit), origin)


def read_rows(raw: Any, columns: Mapping[str, str | None], outcome: Any, where: Any) -> list[dict[str, Any]]:
    """Rows of a source in ours; duplicates of one conversation are dropped.

    Args:
        outcome: expected outcome of a row, from the row; None to read `outcome_hint`.
        where: which rows are taken; None for all.
    """
    rows: dict[str, dict[str, Any]] = {}
    faults = []
    for name, number, row in raw:
        if where is not None and not where(row):
            continue
        prompt = row.get(columns.get("prompt") or "prompt")
        expected = outcome(row) if outcome else row.get("outcome_hint") or None
        if fault := prompt_fault(prompt):
            faults.append(f"{name}:{number}: {fault}")
            continue
        if expected is not None and expected not in tuple(Outcome):
            faults.append(f"{name}:{number}: unknown outcome_hint '{expected}' (known: {', '.join(Outcome)})")
            continue
        turns = as_messages(prompt)
        key = prompt_id(turns)
        rows.setdefault(
            key,
            {
                "prompt_id": key,
                "prompt": turns,
                "category": row.get("category") or None,
                "outcome_hint": expected,
                "twin_id": None,
                "clauses": as_list(row.get("clauses")),
                "source": f"{name}:{number}",
            },
        )
    if faults:
        raise PromptError("These prompts cannot be used:\n  " + "\n  ".join(faults[:10]) + "\n", "Mend the rows.")
    return list(rows.values())


def as_list(value: Any) -> list[str] | None:
    """Clauses as a list: a list, or text with commas."""
    if value in (None, ""):
        return None
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else [str(part) for part in value]


def in_turn(rows: Sequence[dict[str, Any]], limit: int | None) -> list[dict[str, Any]]:
    """At most `limit` rows: categories and outcomes in turn, by prompt_id within; then ordered by category."""
    lanes: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: str(row["prompt_id"])):
        lanes.setdefault((row["category"] or "", row["outcome_hint"] or ""), []).append(row)
    # Lanes in an order of no meaning: a small limit must not take the first categories of the alphabet.
    turns = [(place, digest("lane", lane), row) for lane, found in lanes.items() for place, row in enumerate(found)]
    turns.sort(key=lambda turn: turn[:2])
    kept = [row for *_, row in turns[: limit if limit is not None else len(turns)]]
    return sorted(kept, key=lambda row: (row["category"] or "", row["prompt_id"]))


def items_of(
    suites: Sequence[Suite], variants: Sequence[str] = ("plain",), variant_limit: int | None = None
) -> pl.DataFrame:
    """Every suite in every variant, as the items table; ordered so that equal categories are neighbours.

    Args:
        variants: names of transforms; `plain` is always there.
        variant_limit: transforms of only so many prompts of each suite, categories and outcomes in turn.

    Raises:
        UsageError: an unknown variant, or two suites of one name.
    """
    names = [suite.name for suite in suites]
    if len(set(names)) < len(names):
        raise UsageError(f"Two suites are called alike ({', '.join(names)}).", "Rename one of the files.")
    rows = []
    for suite in suites:
        outcomes = {row["prompt_id"]: row["outcome_hint"] for row in suite.rows}
        chosen = {row["prompt_id"] for row in in_turn(suite.rows, variant_limit)}
        for variant in dict.fromkeys(("plain", *variants)):
            family = family_of(variant)
            if family == "translation":
                continue  # an engine makes these: see `translating`
            for row in suite.rows:
                if variant == "plain" or row["prompt_id"] in chosen:
                    rows.append(item(suite.name, row, variant, transformed(row["prompt"], variant), outcomes))
    return ITEMS.frame(rows)


def item(
    suite: str, row: Mapping[str, Any], variant: str, prompt: list[dict[str, str]], outcomes: Mapping[str, str | None]
) -> dict[str, Any]:
    """One row of the items table."""
    return {
        "item_id": digest("item", row["prompt_id"], suite, variant, prompt),
        "suite": suite,
        "variant": variant,
        "family": family_of(variant),
        "prompt": prompt,
        "twin_outcome": outcomes.get(row["twin_id"]) if row["twin_id"] else None,
        **{name: row[name] for name in ("prompt_id", "category", "outcome_hint", "twin_id", "clauses", "source")},
    }


def suite_record(items: pl.DataFrame, suites: Sequence[Suite]) -> dict[str, dict[str, Any]]:
    """What `result.json` says of each suite: its size, variants and a digest that says when two suites are the same."""
    found = {}
    for suite in suites:
        own = items.filter(pl.col("suite") == suite.name)
        found[suite.name] = {
            "items": own.height,
            "prompts": own["prompt_id"].n_unique(),
            "variants": own["variant"].unique(maintain_order=True).to_list(),
            "digest": digest("suite", sorted(own["item_id"].to_list())),
            "origin": suite.origin,
        }
    return found
