"""What of a recipe decides which rows become data: rewriting, pairs, the heuristic score, filters."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from specdistill.schemas.recipe_prompts import Share, Strict


class Repair(Strict):
    """Answers that leak a phrase only are written again without it, and judged again."""

    samples: int = Field(default=1, ge=1)
    """Rewrites a leaking answer."""


class Constitution(Strict):
    """Answers of the contrast arm are criticised by the spec and revised: chosen sides of constitutional pairs."""

    samples: int = Field(default=1, ge=1)
    """Revisions an answer."""


class Pairwise(Strict):
    """Pairs are judged against each other too, in both orders; only what both orders confirm stays a pair."""

    samples: int = Field(default=1, ge=1)
    """Judge samples a pair and order."""


class Preference(Strict):
    """Which pairs are made."""

    min_margin: Share = 0.2
    """Least difference of the scores."""
    noise_factor: float = Field(default=1.0, ge=0.0)
    """The difference must be larger than so many standard errors of itself."""
    pairs_per_prompt: int = Field(default=1, ge=1)
    max_length_ratio: float | None = Field(default=None, ge=1.0)
    """Longest answer of a pair over the shorter one, in characters; none means no limit."""
    max_chosen_longer: Share | None = None
    """Largest share of pairs whose chosen answer is the longer one; of those beyond it the narrowest margins go."""
    pairwise: Pairwise | None = None


class Heuristic(Strict):
    """What is known about right answers beforehand, for the heuristic score of the reward set."""

    sections: dict[str, list[str]] = Field(default_factory=dict)
    """Category (or `*`) to regular expressions that an answer to it must match, refusals excepted."""

    @field_validator("sections")
    @classmethod
    def patterns_compile(cls, sections: dict[str, list[str]]) -> dict[str, list[str]]:
        """Every pattern is a regular expression."""
        for patterns in sections.values():
            for pattern in patterns:
                try:
                    re.compile(pattern)
                except re.error as exc:
                    raise ValueError(f"'{pattern}' is no regular expression: {exc}") from exc
        return sections


FilterName = Literal["truncated", "empty_answer", "malformed", "wrong_language", "vacillating", "contradiction"]
"""Filters that judge texts by signs, and so can be wrong: benchmarks/results/filters.md says how often."""


class Screens(Strict):
    """Filters before the judge."""

    min_reasoning_chars: int = Field(default=20, ge=0)
    max_repeat_share: Share = 0.5
    """Most of the text that repeated 8-word sequences may make up."""
    copied_words: int = Field(default=25, ge=5)
    """This many words in a row equal to the spec's text in an answer count as copied."""
    without: list[FilterName] = Field(default_factory=list)
    """Filters that are not applied; what cannot be read is always rejected."""
