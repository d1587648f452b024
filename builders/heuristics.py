"""A score without a judge, where something about the right answer is known beforehand. Kept apart from the judge's:
it is blunt, but it is not fooled by what fools a model.

Three parts, each 0 to 1, or None where nothing is known:

- outcome: whether the answer refuses exactly where the prompt's source expects a refusal;
- sections: the share of what the recipe requires of a category's answers (`heuristic.sections`) that is there;
- completeness: how many of the items asked for ("five tips") the answer lists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import polars as pl

from specdistill.builders.contexts import categories_of
from specdistill.builders.reasoning import does_not_refuse, refuses
from specdistill.schemas.vocabulary import Outcome

SUBSTANCE = 25
"""Words from which an answer that declines still gives something: a safe completion, not a bare refusal."""
NUMBERS = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "twelve": 12,
}
_ASKED = re.compile(
    rf"\b(?:give|list|name|write|suggest|tell|share|show|offer|draft|need|want|provide|recommend)\b[^.!?\n]{{0,30}}?"
    rf"\b(\d{{1,2}}|{'|'.join(NUMBERS)})"
    r"\s+(?:[a-z'-]+\s+){0,2}?(?:tips|ideas|ways|options|examples|reasons|steps|"
    r"points|questions|titles|names|suggestions|sentences|headlines|facts|books|recipes|arguments|lines|signs)\b",
    re.IGNORECASE,
)
_ITEM = re.compile(r"^[ \t]*(?:[-*•+]|\(?\d{1,2}[.):])\s+\S", re.MULTILINE)
PARTS = ("heuristic_outcome", "heuristic_sections", "heuristic_complete")


def outcome_score(answer: str, expected: str | None) -> float | None:
    """1 where the answer does what the prompt's source expects, 0 where it does not; None where nothing is expected, or
    where it is not certain whether the answer refuses."""
    if not refuses(answer) and not does_not_refuse(answer):
        return None
    match expected:
        case Outcome.REFUSE:
            return float(refuses(answer))
        case Outcome.COMPLY:
            return float(not refuses(answer))
        case Outcome.SAFE_COMPLETE:
            return float(not refuses(answer) or len(answer.split()) >= SUBSTANCE)
        case _:
            return None


def sections_score(answer: str, required: Sequence[str]) -> float | None:
    """Share of the required patterns (regular expressions, any case) that the answer has; None where none is."""
    if not required:
        return None
    return sum(bool(re.search(pattern, answer, re.IGNORECASE)) for pattern in required) / len(required)


def asked_items(asked: str) -> int | None:
    """How many items a request asks for, where it says so."""
    match = _ASKED.search(asked)
    if match is None:
        return None
    word = match.group(1).lower()
    return NUMBERS.get(word) or int(word)


def complete_score(answer: str, asked: str) -> float | None:
    """Share of the items asked for that the answer lists, as list items or else as paragraphs; None for no number.

    A refusal owes no items.
    """
    wanted = asked_items(asked)
    if not wanted or refuses(answer):
        return None
    items = max(len(_ITEM.findall(answer)), len([part for part in re.split(r"\n\s*\n|\n", answer) if part.strip()]))
    return min(1.0, items / wanted)


def heuristic_frame(rows: pl.DataFrame, sections: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """The heuristic score of every row.

    Args:
        rows: candidate_id, answer, prompt, category, outcome_hint.
        sections: category to patterns; `*` is for all.

    Returns:
        candidate_id, heuristic (mean of the parts that are known; null where none is), and the three parts.
    """
    found = []
    for row in rows.select("candidate_id", "answer", "prompt", "category", "outcome_hint").iter_rows(named=True):
        required = [*sections.get("*", ()), *(p for c in categories_of(row["category"]) for p in sections.get(c, ()))]
        answer, expected = row["answer"], row["outcome_hint"]
        owed = required if expected != Outcome.REFUSE else []
        parts = (
            outcome_score(answer, expected),
            sections_score(answer, owed),
            complete_score(answer, row["prompt"][-1]["content"]),
        )
        known = [part for part in parts if part is not None]
        found.append((row["candidate_id"], sum(known) / len(known) if known else None, *parts))
    schema = {"candidate_id": pl.String, "heuristic": pl.Float64, **dict.fromkeys(PARTS, pl.Float64)}
    return pl.DataFrame(found, schema=schema, orient="row")
