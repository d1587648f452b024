"""The words by which a policy says what it wants: section headings and outcome names, in obvious spellings.

Nothing is inferred from the prose of a rule. A heading that is not in these lists states no outcome.
"""

from __future__ import annotations

import re
from enum import StrEnum

from specdistill.schemas.vocabulary import Outcome


class SectionKind(StrEnum):
    """What a section of a category is for. The first three state the outcome of the clauses in them."""

    COMPLY = "comply"
    REFUSE = "refuse"
    SAFE_COMPLETE = "safe_complete"
    DEFINITIONS = "definitions"
    GUIDANCE = "guidance"
    EDGE_CASES = "edge_cases"
    EXAMPLES = "examples"
    OTHER = "other"

    @property
    def outcome(self) -> Outcome:
        """The outcome such a section states, `unspecified` for sections that state none."""
        return Outcome(self.value) if self in _STATING else Outcome.UNSPECIFIED


_STATING = frozenset({SectionKind.COMPLY, SectionKind.REFUSE, SectionKind.SAFE_COMPLETE})

_SPELLINGS: dict[SectionKind, str] = {
    SectionKind.COMPLY: (
        "comply|allow|allowed|allowed content|allowed requests|permitted|permitted content|permitted requests"
        "|acceptable|acceptable requests|what is allowed|full compliance|answer in full"
    ),
    SectionKind.REFUSE: (
        "refuse|refusal|disallow|disallowed|disallowed content|disallowed requests|not allowed|prohibited"
        "|prohibited content|prohibited requests|forbidden|hard refuse|what is not allowed"
    ),
    SectionKind.SAFE_COMPLETE: (
        "safe complete|safe completion|safe completions|needs safe completion|answer with care"
        "|respond with care|handle with care"
    ),
    SectionKind.DEFINITIONS: "definition|definitions|terms|glossary",
    SectionKind.GUIDANCE: (
        "guidance|guidelines|topic guidance|how to respond|safe completion guidance"
        "|safe completion guidelines|guidance for safe completion|guidance for safe completions"
    ),
    SectionKind.EDGE_CASES: "edge case|edge cases|borderline cases|hard cases|grey areas|gray areas",
    SectionKind.EXAMPLES: "example|examples|worked example|worked examples",
}
_KINDS = {word: kind for kind, words in _SPELLINGS.items() for word in words.split("|")}
_OUTCOMES = {word: kind.outcome for word, kind in _KINDS.items() if kind in _STATING}
_OUTCOMES["unspecified"] = Outcome.UNSPECIFIED


def _plain(text: str) -> str:
    """Lower case, words only: `Safe-complete:` and `safe_complete` are one spelling."""
    return re.sub(r"[\W_]+", " ", text.lower()).strip()


def kind_of_heading(title: str) -> SectionKind:
    """What a section is for by its heading; `other` unless the heading is one of the known spellings.

    A heading may go on after a colon or in brackets: `Refuse: weapons`, `Comply (allowed)`.
    """
    for part in (title, re.split(r"[:(–—]", title, maxsplit=1)[0]):
        if kind := _KINDS.get(_plain(part)):
            return kind
    return SectionKind.OTHER


def outcome_named(word: str) -> Outcome | None:
    """The outcome that a word or attribute value names, e.g. `Safe-complete`; None for any other word."""
    return _OUTCOMES.get(_plain(word))


def speaks_of_safe_completion(text: str) -> bool:
    """Whether a text names safe completion itself: the only thing that gives a guidance clause an outcome."""
    return re.search(r"\bsafe[-_ ]complet", text, re.IGNORECASE) is not None
