"""Filters before the judge: cheap, pure, each with a reason. The first that holds is the candidate's reason."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from specdistill.builders.filters import cut_off, no_answer, repeated_text, wrong_format, wrong_language
from specdistill.builders.reasoning import contradiction, vacillates
from specdistill.builders.rewriting import only_a_phrase
from specdistill.schemas.citations import cited_clauses
from specdistill.schemas.copying import copied_words, shingles_of
from specdistill.schemas.leak import find_leak
from specdistill.schemas.recipe import Screens
from specdistill.schemas.vocabulary import Arm, ParseOutcome, RejectReason

PARSE_REASONS = {
    ParseOutcome.FAILED: RejectReason.CALL_FAILED,
    ParseOutcome.TRUNCATED: RejectReason.TRUNCATED,
    ParseOutcome.EMPTY: RejectReason.EMPTY_ANSWER,
    ParseOutcome.MALFORMED: RejectReason.MALFORMED,
}

LOOKED_AT = ["candidate_id", "prompt_id", "arm", "parse", "reasoning", "answer", "error"]
"""Columns of a candidate that the screens need, besides its prompt."""
SCREENED = {
    "candidate_id": pl.String(),
    "reason": pl.String(),
    "detail": pl.String(),
    "clauses": pl.List(pl.String),
}
RECENT = 10_000
"""Findings that are remembered: more than are made between two parts of candidates."""


@dataclass(frozen=True)
class SpecFacts:
    """What the screens need to know of the spec.

    Attributes:
        anchors: every citable anchor.
        shingles: word sequences of the spec's text, to find copies.
    """

    anchors: frozenset[str]
    shingles: frozenset[str]

    @classmethod
    def of(cls, clauses: pl.DataFrame, words: int) -> SpecFacts:
        """From the clause table; `words` is how many in a row count as copied."""
        return cls(frozenset(clauses["anchor"].to_list()), shingles_of(clauses["text"].to_list(), words))


@dataclass(frozen=True)
class Finding:
    """Why a candidate does not go on.

    Attributes:
        reason: the first reason that holds.
        detail: what exactly was found.
    """

    reason: RejectReason
    detail: str | None = None


def screen(candidate: Mapping[str, Any], facts: SpecFacts, limits: Screens) -> Finding | None:
    """The first thing that is wrong with a candidate, or None.

    Args:
        candidate: needs arm, parse, reasoning, answer, error, and prompt (an answer to a question about policies may
            speak of policies).
    """
    parse = ParseOutcome(candidate["parse"])
    if parse in PARSE_REASONS:
        return Finding(PARSE_REASONS[parse], candidate["error"])
    reasoning, answer = candidate["reasoning"] or "", candidate["answer"]
    if len(reasoning) < limits.min_reasoning_chars:
        return Finding(RejectReason.NO_REASONING, f"{len(reasoning)} characters of reasoning")
    asked = candidate["prompt"][-1]["content"]
    for check in (
        lambda: answer_finding(answer, asked, limits),
        lambda: repetition(reasoning, answer, limits),
        lambda: spec_finding(answer, asked, facts, limits),
    ):
        if finding := check():
            return finding
    # What a model without the spec reasons is no target: its faults make it an honest rejected side.
    return None if candidate["arm"] == Arm.CONTRAST else reasoning_finding(reasoning, answer, facts, limits)


def repairable(candidate: Mapping[str, Any], facts: SpecFacts, limits: Screens) -> bool:
    """Whether a candidate's one fault is a phrase of its answer that leaks, which a rewrite can mend."""
    found = screen(candidate, facts, limits)
    if found is None or found.reason != RejectReason.LEAK or candidate["arm"] != Arm.SPEC:
        return False
    reasoning, answer = candidate["reasoning"], candidate["answer"]
    if reasoning_finding(reasoning, answer, facts, limits):
        return False
    return only_a_phrase(answer, facts.anchors, candidate["prompt"][-1]["content"]) is not None


def answer_finding(answer: str, asked: str, limits: Screens) -> Finding | None:
    """An answer that is none, is cut, or is in another form or language than a user expects."""
    for reason, found in (
        (RejectReason.EMPTY_ANSWER, no_answer(answer)),
        (RejectReason.MALFORMED, wrong_format(answer)),
        (RejectReason.TRUNCATED, cut_off(answer)),
        (RejectReason.WRONG_LANGUAGE, wrong_language(answer, asked)),
    ):
        if found and reason.value not in limits.without:
            return Finding(reason, found)
    return None


def repetition(reasoning: str, answer: str, limits: Screens) -> Finding | None:
    """Text that repeats itself, in either part."""
    for name, text in (("reasoning", reasoning), ("answer", answer)):
        if found := repeated_text(text, limits.max_repeat_share):
            return Finding(RejectReason.REPEATED_TEXT, f"{name}: {found}")
    return None


def spec_finding(answer: str, asked: str, facts: SpecFacts, limits: Screens) -> Finding | None:
    """An answer that shows the policy behind it."""
    if leak := find_leak(answer, facts.anchors, asked):
        return Finding(RejectReason.LEAK, leak)
    if copied := copied_words(answer, facts.shingles, limits.copied_words):
        return Finding(RejectReason.SPEC_COPIED, copied)
    return None


def reasoning_finding(reasoning: str, answer: str, facts: SpecFacts, limits: Screens) -> Finding | None:
    """A reasoning that makes up clauses, goes back and forth, or does not lead to the answer."""
    if finding := invented(reasoning, facts.anchors):
        return finding
    for reason, found in (
        (RejectReason.VACILLATING, vacillates(reasoning)),
        (RejectReason.CONTRADICTION, contradiction(reasoning, answer)),
    ):
        if found and reason.value not in limits.without:
            return Finding(reason, found)
    return None


def invented(reasoning: str, anchors: Collection[str]) -> Finding | None:
    """A citation of a clause that does not exist: such models start to make clauses up (arXiv 2509.15541)."""
    _, unknown = cited_clauses(reasoning, anchors)
    return Finding(RejectReason.INVENTED_CLAUSE, ", ".join(sorted(unknown))) if unknown else None


class Screening:
    """Looks at candidates as a recipe asks. One that was just looked at is not looked at again.

    State: what was last found, by candidate_id.
    """

    def __init__(self, facts: SpecFacts, limits: Screens) -> None:
        self.facts, self.limits = facts, limits
        self._recent: dict[str, Finding | None] = {}

    def find(self, candidate: Mapping[str, Any]) -> Finding | None:
        """`screen` of a candidate with its candidate_id."""
        key = candidate["candidate_id"]
        if key not in self._recent:
            if len(self._recent) >= RECENT:
                del self._recent[next(iter(self._recent))]
            self._recent[key] = screen(candidate, self.facts, self.limits)
        return self._recent[key]

    def frame(self, candidates: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
        """What is found in candidates: candidate_id, reason (null when it passes), detail, clauses (anchors its
        reasoning cites that exist)."""
        rows = []
        for row in candidates:
            found, cited = self.find(row), cited_clauses(row["reasoning"] or "", self.facts.anchors)[0]
            said = (found.reason.value, found.detail) if found else (None, None)
            rows.append((row["candidate_id"], *said, sorted(cited)))
        return pl.DataFrame(rows, SCREENED, orient="row")


def screen_frame(candidates: pl.DataFrame, prompts: pl.DataFrame, facts: SpecFacts, limits: Screens) -> pl.DataFrame:
    """Screen every candidate.

    Args:
        candidates: rows of the candidates table.
        prompts: rows of the prompts table, for what was asked.

    Returns:
        As `Screening.frame`.
    """
    rows = candidates.select(LOOKED_AT).join(
        prompts.select("prompt_id", "prompt"), on="prompt_id", how="left", maintain_order="left"
    )
    return Screening(facts, limits).frame(rows.iter_rows(named=True))
