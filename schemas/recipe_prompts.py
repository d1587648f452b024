"""What a recipe says of its prompts: sources, cleaning, evaluation sets to keep apart from."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
OutcomeName = Literal["comply", "refuse", "safe_complete"]


PROMPT_COLUMNS = ("prompt", "category", "outcome_hint", "twin_id", "id", "group", "score", "lineage")
"""What a row of a prompt source may have."""


def known_column(name: str) -> str:
    """The name of a column of ours.

    Raises:
        ValueError: it is none; names the nearest.
    """
    if name in PROMPT_COLUMNS:
        return name
    near = difflib.get_close_matches(name, PROMPT_COLUMNS, n=1)
    hint = f"the nearest is '{near[0]}'" if near else f"ours are {', '.join(PROMPT_COLUMNS)}"
    raise ValueError(f"`columns:` maps ours to theirs, and '{name}' is none of ours; {hint}")


class Strict(BaseModel):
    """Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PromptSource(Strict):
    """One source of prompts: a local file (JSONL, CSV, Parquet), a hub dataset, or the spec's own seed prompts."""

    path: Path | None = None
    """A .jsonl, .csv or .parquet file, relative to the recipe."""
    hub: str | None = None
    """A hub dataset id, optionally `id@revision`."""
    library: str | None = None
    """`seeds`: the seed prompts shipped with the spec library."""
    revision: str | None = None
    config: str | None = None
    split: str = "train"
    columns: dict[Annotated[str, AfterValidator(known_column)], str] = Field(default_factory=dict)
    """Ours to theirs: {prompt: question, category: topic}. Ours: prompt, category, outcome_hint, twin_id, id, group
    (rows that share it, such as translations, stay on one side of a split), score, lineage."""
    category: str | None = None
    """One category for every row, where the source has none."""
    limit: int | None = Field(default=None, ge=1)
    """Only the first N rows."""
    per_category: int | None = Field(default=None, ge=1)
    """Only the first N rows of each category, outcomes in turn."""

    @model_validator(mode="after")
    def one_source(self) -> PromptSource:
        """Exactly one of path, hub, library."""
        named = [name for name in ("path", "hub", "library") if getattr(self, name)]
        if len(named) != 1:
            raise ValueError(f"name exactly one of path, hub, library (found: {', '.join(named) or 'none'})")
        if self.library not in (None, "seeds"):
            raise ValueError("library must be 'seeds'")
        return self


class EvalSet(Strict):
    """A set that prompts must not overlap with: a local file or a hub dataset."""

    path: Path | None = None
    """A .jsonl, .csv or .parquet file, relative to the recipe."""
    hub: str | None = None
    """A hub dataset id, optionally `id@revision`."""
    revision: str | None = None
    config: str | None = None
    split: str = "test"
    column: str = "prompt"
    """Text, list of messages, or list of texts."""

    @model_validator(mode="after")
    def one_source(self) -> EvalSet:
        """Exactly one of path, hub."""
        if bool(self.path) == bool(self.hub):
            raise ValueError("name exactly one of path, hub")
        return self

    @property
    def name(self) -> str:
        """What report and card call it: a file's name without its folder, a hub id with its revision."""
        if self.path:
            return self.path.name
        return f"{self.hub}@{self.revision}" if self.revision else str(self.hub)


class Overlap(Strict):
    """From when on a prompt counts as contaminated by an evaluation set."""

    words: int = Field(default=8, ge=4, le=50)
    """Length of a word n-gram; three words or fewer are everywhere."""
    share: Share = 0.5
    """Least share of an evaluation prompt's n-grams that occur in the prompt (PaLM, arXiv 2204.02311: 0.7 of 8-grams);
    a shorter evaluation prompt is one n-gram."""
    similarity: Share | None = 0.9
    """Least cosine similarity of static embeddings; null turns it off."""


class Clean(Strict):
    """Which prompts of the sources stay. Equal ones (but for case, spaces and punctuation) never do."""

    min_chars: int = Field(default=2, ge=1)
    max_chars: int = Field(default=32_000, ge=1)
    """Of the whole conversation."""
    languages: list[str] = Field(default_factory=list)
    """ISO 639-1 codes to keep; empty keeps all. Prompts whose language is not clear stay."""
    near: Share | None = 0.8
    """Least Jaccard similarity of character 5-grams of a near-duplicate; null keeps them."""
    meaning: Share | None = 0.95
    """Least cosine similarity of static embeddings of a duplicate in meaning; null keeps them."""
    private: Literal["flag", "remove", "ignore"] = "flag"
    """What happens to prompts with secrets or personal data."""


class Evaluation(Strict):
    """Prompts held out for evaluation: the best of each category by the source's `score`, apart from training."""

    per_category: int = Field(ge=1)
