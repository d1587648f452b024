"""Filters before the judge: cheap, pure, each with a reason. The first that holds is the candidate's reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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


def screen_frame(candidates: pl.DataFrame, prompts: pl.DataFrame, facts: SpecFacts, limits: Screens) -> pl.DataFrame:
    """Screen every candidate.

    Args:
        candidates: rows of the candidates table.
        prompts: rows of the prompts table, for what was asked.

    Returns:
        candidate_id, reason (null when it passes), detail, clauses (anchors its reasoning cites that exist).
    """
    rows = candidates.select("prompt_id", "arm", "parse", "reasoning", "answer", "error").join(
        prompts.select("prompt_id", "prompt"), on="prompt_id", how="left", maintain_order="left"
    )
    found = [screen(row, facts, limits) for row in rows.iter_rows(named=True)]
    cited = [sorted(cited_clauses(text or "", facts.anchors)[0]) for text in candidates["reasoning"].to_list()]
    return pl.DataFrame(
        {
            "candidate_id": candidates["candidate_id"],
            "reason": pl.Series([finding.reason.value if finding else None for finding in found], dtype=pl.String),
            "detail": pl.Series([finding.detail if finding else None for finding in found], dtype=pl.String),
            "clauses": pl.Series(cited, dtype=pl.List(pl.String)),
        }
    )
