"""Evaluation sets as texts: files and hub datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.builders.commits import Commits
from specdistill.builders.file_source import file_rows
from specdistill.builders.sources import hub_rows
from specdistill.errors import PromptError
from specdistill.schemas.recipe_prompts import EvalSet, PromptSource
from specdistill.schemas.text import storable


def read_eval_sets(sets: list[EvalSet], base: Path, commits: Commits | None = None) -> pl.DataFrame:
    """The prompts of all evaluation sets.

    Args:
        commits: what hub datasets were found at already.

    Returns:
        set (its name), row (1-based), text; a row that holds several texts is several rows.

    Raises:
        PromptError: a set cannot be read, has no such column, or holds no text.
    """
    frames, commits = [], commits or Commits()
    for asked in sets:
        rows = [(number, text) for number, row in set_rows(asked, base, commits) for text in texts_of(row, asked)]
        if not rows:
            raise PromptError(
                f"The evaluation set '{asked.name}' holds no text in column '{asked.column}'.",
                "Check `column:` and `split:` under `decontaminate:` in the recipe.",
            )
        frame = pl.DataFrame(rows, schema={"row": pl.Int64, "text": pl.String}, orient="row")
        frames.append(frame.select(pl.lit(asked.name).alias("set"), "row", "text"))
    return pl.concat(frames) if frames else pl.DataFrame(schema={"set": pl.String, "row": pl.Int64, "text": pl.String})


def set_rows(asked: EvalSet, base: Path, commits: Commits) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(1-based row, row) of one set."""
    if asked.path:
        rows = file_rows(base / asked.path)
    else:
        source = PromptSource(hub=asked.hub, revision=asked.revision, config=asked.config, split=asked.split)
        rows = hub_rows(source, commits)
    for number, (_, _, row) in enumerate(rows, start=1):
        yield number, row


def texts_of(row: Mapping[str, Any], asked: EvalSet) -> Iterator[str]:
    """The texts of one row: a string, the user's turns of a conversation, or each of a list of strings.

    Raises:
        PromptError: there is no such column, or it holds something else.
    """
    if asked.column not in row:
        raise PromptError(
            f"The evaluation set '{asked.name}' has no column '{asked.column}' "
            f"(columns: {', '.join(map(str, list(row)[:8]))}).",
            "Name it with `column:` under `decontaminate:` in the recipe.",
        )
    value = row[asked.column]
    if isinstance(value, str):
        yield from [storable(value)] if value.strip() else []
    elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
        turns = [str(turn.get("content") or "") for turn in value if turn.get("role", "user") == "user"]
        if text := "\n".join(turn for turn in turns if turn.strip()):
            yield storable(text)
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        yield from (storable(item) for item in value if item.strip())
    elif value is not None:
        raise PromptError(
            f"Column '{asked.column}' of the evaluation set '{asked.name}' holds a {type(value).__name__}.",
            "It must hold text, a list of messages, or a list of texts.",
        )
