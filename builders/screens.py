"""Filters before the judge: cheap, pure, each with a reason. The first that holds is the candidate's reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from specdistill.schemas.citations import cited_clauses
from specdistill.schemas.copying import copied_words, shingles_of
from specdistill.schemas.leak import find_leak
from specdistill.schemas.recipe import Screens
from specdistill.schemas.vocabulary import Arm, ParseOutcome, RejectReason

REPEAT_WORDS = 8
"""Length in words of a sequence that counts as repeated when it comes again."""
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


def repeat_share(text: str) -> float:
    """Share of a text's words that lie in an 8-word sequence seen earlier in it: 0 for none, near 1 for a loop."""
    words = text.split()
    if len(words) < 2 * REPEAT_WORDS:
        return 0.0
    seen: set[tuple[str, ...]] = set()
    repeated = [False] * len(words)
    for start in range(len(words) - REPEAT_WORDS + 1):
        sequence = tuple(words[start : start + REPEAT_WORDS])
        if sequence in seen:
            repeated[start : start + REPEAT_WORDS] = [True] * REPEAT_WORDS
        seen.add(sequence)
    return sum(repeated) / len(words)


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
    for name, text in (("reasoning", reasoning), ("answer", answer)):
        if (share := repeat_share(text)) > limits.max_repeat_share:
            return Finding(RejectReason.REPEATED_TEXT, f"{share:.0%} of the {name} is repeated")
    if leak := find_leak(answer, facts.anchors, candidate["prompt"][-1]["content"]):
        return Finding(RejectReason.LEAK, leak)
    if copied := copied_words(answer, facts.shingles, limits.copied_words):
        return Finding(RejectReason.SPEC_COPIED, copied)
    return invented(reasoning, facts.anchors) if candidate["arm"] == Arm.SPEC else None


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
