"""Prompt sources: JSONL, CSV, Parquet, hub datasets, and the seed prompts of a spec library.

Every row keeps where it came from (`prompts.jsonl:12`). All faults of a file are collected before anything is
reported, each with file and line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from specdistill.builders.commits import Commits, split_id
from specdistill.builders.contexts import categories_of
from specdistill.builders.file_source import Raw, file_rows
from specdistill.errors import PromptError
from specdistill.schemas.recipe import PromptSource
from specdistill.schemas.recipe_prompts import PROMPT_COLUMNS
from specdistill.schemas.text import storable
from specdistill.schemas.vocabulary import Outcome

ROLES = ("system", "user", "assistant")
SHOWN_FAULTS = 10
MAX_PROMPT_CHARS = 1_000_000
"""Most characters of one prompt: no model reads more."""


def read_source(
    source: PromptSource, categories: list[str], base: Path, seeds: list[Path], *, unlabelled: bool = False
) -> list[dict[str, Any]]:
    """`source_rows` all at once."""
    return list(source_rows(source, categories, base, seeds, unlabelled=unlabelled))


def source_rows(
    source: PromptSource,
    categories: list[str],
    base: Path,
    seeds: list[Path],
    *,
    unlabelled: bool = False,
    commits: Commits | None = None,
    names: Mapping[Path, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of one source in our columns, one at a time.

    Args:
        source: as in the recipe.
        categories: ids the spec knows.
        base: folder that relative paths are relative to.
        seeds: seed prompt files of the spec library.
        unlabelled: whether rows without a category are let through (a classifier gives them one).
        commits: what hub datasets were found at already.
        names: what a file's rows say they come from, where that is not its name.

    Yields:
        Dicts with prompt (messages), source and, each possibly None, category, outcome_hint, twin_id, source_id,
        group, source_score, lineage.

    Raises:
        PromptError: the source cannot be read, or rows are faulty (told after the last): the first ten, with lines; or
            `columns` names one that no row has.
    """
    raw = raw_rows(source, base, seeds, commits or Commits(), names or {})
    rows = checked_rows(raw, source, categories, base, unlabelled)
    if source.per_category is None:
        yield from rows
    else:
        yield from balanced(list(rows), source.per_category)


def checked_rows(
    rows: Iterator[Raw], source: PromptSource, categories: list[str], base: Path, unlabelled: bool
) -> Iterator[dict[str, Any]]:
    """The rows without faults; raises at the end if there were any, or if a mapped column never came."""
    faults: list[str] = []
    many = given = 0
    unseen, there = set(source.columns.values()), dict[str, None]()
    for name, number, raw in rows:
        if unseen:
            unseen -= raw.keys()
            there |= dict.fromkeys(raw)
        row = {ours: raw.get(source.columns.get(ours, ours)) for ours in PROMPT_COLUMNS}
        if source.category is not None:
            row["category"] = source.category
        fault = fault_of(row, categories, raw, source, unlabelled)
        if fault:
            many += 1
            faults += [f"{name}:{number}: {fault}"] if many <= SHOWN_FAULTS else []
            continue
        yield clean_row(row, f"{name}:{number}")
        given += 1
        if source.limit and given >= source.limit:
            break
    if faults:
        more = f" and {many - SHOWN_FAULTS} more" if many > SHOWN_FAULTS else ""
        raise PromptError(
            "These prompts cannot be used:\n  " + "\n  ".join(faults) + more + "\n",
            "Mend or remove the rows, or map columns with `columns:` in the recipe.",
        )
    if given and unseen:
        raise missing_columns(source, base, unseen, list(there))


def missing_columns(source: PromptSource, base: Path, unseen: set[str], there: list[str]) -> PromptError:
    """The error for mapped columns that no row of a source has: what was meant by them would be lost in silence."""
    maps = ", ".join(f"{ours}: {theirs}" for ours, theirs in source.columns.items() if theirs in unseen)
    return PromptError(
        f"No row{f' of {source.hub}' if source.hub else ''} has a column that `columns:` maps: {{{maps}}} "
        f"(columns: {', '.join(map(str, there[:8]))}).",
        "Correct the name in the recipe, or leave the entry out.",
        file=base / source.path if source.path else None,
        key="columns",
    )


def balanced(rows: list[dict[str, Any]], per_category: int) -> list[dict[str, Any]]:
    """The first N rows of each category, its expected outcomes in turn; order of the source otherwise."""
    queues: dict[str, dict[str | None, list[int]]] = {}
    for number, row in enumerate(rows):
        queues.setdefault(row["category"], {}).setdefault(row["outcome_hint"], []).append(number)
    kept: list[int] = []
    for outcomes in queues.values():
        turns = sorted(
            (position, lane, number)
            for lane, numbers in enumerate(outcomes.values())
            for position, number in enumerate(numbers)
        )
        kept += [number for _, _, number in turns[:per_category]]
    return [rows[number] for number in sorted(kept)]


def clean_row(row: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A valid row in storable form."""
    return {
        "prompt": as_messages(row["prompt"]),
        "category": said(row["category"]),
        "outcome_hint": row["outcome_hint"] or None,
        "twin_id": said(row["twin_id"]),
        "source": source,
        "source_id": said(row["id"]),
        "group": said(row["group"]),
        "source_score": None if row["score"] in (None, "") else float(row["score"]),
        "lineage": said(row["lineage"]),
    }


def said(value: Any) -> str | None:
    """A cell as text; None for an empty one, JSON for a structure."""
    if value is None or value == "":
        return None
    if isinstance(value, dict | list):
        return storable(json.dumps(value, ensure_ascii=False, sort_keys=True, default=str))
    return storable(str(value))


def as_messages(prompt: Any) -> list[dict[str, str]]:
    """A prompt as a conversation: a string is one user turn, a JSON list of turns is read as one."""
    if isinstance(prompt, str):
        turns = turns_in(prompt)
        prompt = turns if turns is not None else [{"role": "user", "content": prompt}]
    return [{"role": turn["role"], "content": storable(turn["content"])} for turn in prompt]


def turns_in(text: str) -> list[Any] | None:
    """The conversation that a string holds as JSON (as CSV files do), or None for ordinary text."""
    if not text.lstrip().startswith("[{"):
        return None
    try:
        turns = json.loads(text)
    except (ValueError, RecursionError):
        return None
    looks = isinstance(turns, list) and all(isinstance(turn, dict) and "role" in turn for turn in turns)
    return turns if looks else None


def fault_of(
    row: Mapping[str, Any],
    categories: list[str],
    raw: Mapping[str, Any],
    source: PromptSource,
    unlabelled: bool = False,
) -> str | None:
    """What is wrong with one row, in words, or None."""
    prompt = row["prompt"]
    if prompt is None:
        wanted = source.columns.get("prompt", "prompt")
        return f"no column '{wanted}' (columns: {', '.join(map(str, list(raw)[:8]))})"
    if fault := prompt_fault(prompt):
        return fault
    category = row["category"]
    if category in (None, "") and not unlabelled:
        return "no category (give a column, `category:` for the whole source, or a `classifier:`)"
    for name in categories_of(str(category)) if category not in (None, "") else []:
        if name not in categories:
            return f"unknown category '{name}' (the spec has: {', '.join(categories)})"
    if row["outcome_hint"] and row["outcome_hint"] not in tuple(Outcome):
        return f"unknown outcome_hint '{row['outcome_hint']}' (known: {', '.join(Outcome)})"
    if row["score"] not in (None, "") and not is_number(row["score"]):
        return f"score '{row['score']}' is no number"
    return None


def is_number(value: Any) -> bool:
    """Whether a cell is a finite number or the text of one."""
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def prompt_fault(prompt: Any) -> str | None:
    """What is wrong with a prompt, in words, or None."""
    if isinstance(prompt, str):
        turns = turns_in(prompt)
        if turns is None:
            return too_long(prompt) if prompt.strip() else "empty prompt"
        prompt = turns
    if not isinstance(prompt, list) or not prompt:
        return "a prompt is a string or a list of {role, content}"
    for place, turn in enumerate(prompt):
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str):
            return f"turn {place + 1} is not {{role, content}} with text"
        if turn.get("role") not in ROLES:
            return f"turn {place + 1} has role '{turn.get('role')}' (known: {', '.join(ROLES)})"
        if turn["role"] == "system" and place > 0:
            return f"turn {place + 1}: a system turn can only come first"
    if prompt[-1]["role"] != "user":
        return "the last turn is not the user's"
    return (
        too_long(*(turn["content"] for turn in prompt)) if prompt[-1]["content"].strip() else "the last turn is empty"
    )


def too_long(*texts: str) -> str | None:
    """That these texts together are no prompt, in words, or None."""
    size = sum(map(len, texts))
    return f"a prompt of {size:,} characters (most: {MAX_PROMPT_CHARS:,})" if size > MAX_PROMPT_CHARS else None


def raw_rows(
    source: PromptSource,
    base: Path,
    seeds: list[Path],
    commits: Commits | None = None,
    names: Mapping[Path, str] | None = None,
) -> Iterator[Raw]:
    """Rows as the source has them."""
    if source.hub:
        yield from hub_rows(source, commits or Commits())
        return
    if source.library and not seeds:
        raise PromptError("This spec has no seed prompts.", "Name a file or hub dataset instead.")
    for path in [base / source.path] if source.path else seeds:
        name = (names or {}).get(path, path.name)
        yield from ((name, number, row) for _, number, row in file_rows(path))


def hub_rows(source: PromptSource, commits: Commits) -> Iterator[Raw]:
    """Rows of a hub dataset at a fixed commit, streamed. They are named by the revision asked for, else the commit.

    Raises:
        PromptError: it cannot be found or read.
    """
    from datasets import load_dataset

    name, revision = split_id(str(source.hub), source.revision)
    commit = commits.of(name, revision)
    try:
        rows = load_dataset(name, source.config, split=source.split, revision=commit, streaming=True)
        for number, row in enumerate(rows, start=1):
            yield f"{name}@{revision or commit[:12]}", number, row
    except PromptError:
        raise
    except Exception as exc:  # datasets raises a dozen kinds; wrapped where it enters
        raise PromptError(
            f"The hub dataset '{name}' (config {source.config}, split {source.split}) cannot be read: {exc}.",
            "Check id, revision, config and split, and that the hub can be reached.",
        ) from exc
