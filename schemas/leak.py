"""Leaks: words of an answer that show the policy behind it.

A model trained on our rows is asked without the policy, so an answer must not cite clauses, talk of "the
provided policy" or show its thinking. Found are, in this order: thinking tags, clause citations (real or
made up), policy talk. Policy talk is *plain* where no ordinary answer would say it ("my content policy
forbids it") and *doubtful* where it depends on what is meant ("the policy says"): the doubtful kind counts
unless the answer or the question is about some other policy (insurance, a school, a brand).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import polars as pl

from specdistill.schemas.citations import cited_clauses, cited_series
from specdistill.schemas.copying import copied_series, copied_words, shingles
from specdistill.schemas.policy_talk import DOUBTFUL, OTHER, PLAIN, THINKING, WORDS

__all__ = ["cited_clauses", "copied_series", "copied_words", "find_leak", "leak_series", "shingles"]

_THINKING, _PLAIN, _DOUBTFUL, _OTHER, _WORDS = (
    re.compile("(?i)" + pattern) for pattern in (THINKING, PLAIN, DOUBTFUL, OTHER, WORDS)
)
_ASKED = re.compile(r"(?i)\b(?:polic(?:y|ies)|guidelines?|specs?|specification|rules|clauses?)\b|\binsur")
_SPACE = re.compile(r"[\s*_`]+(?=\s)|\s+|\*+")


def find_leak(answer: str, anchors: Collection[str], asked: str = "") -> str | None:
    """The words of an answer that show the policy behind it, or None.

    Args:
        answer: what the user would see.
        anchors: every clause anchor of the spec.
        asked: the user's words, if at hand: who asks about some policy gets an answer that speaks of it.
    """
    if match := _THINKING.search(answer):
        return match.group()
    known, invented = cited_clauses(answer, anchors)
    if known or invented:
        return (known + invented)[0]
    return _policy_talk(answer, asked) if _WORDS.search(answer) else None


def _policy_talk(answer: str, asked: str) -> str | None:
    text = _SPACE.sub(" ", answer.replace("’", "'"))
    doubtful: str | None = None
    for near in _around(text):
        if match := _PLAIN.search(near):
            return match.group().strip()
        if doubtful is None and (match := _DOUBTFUL.search(near)):
            doubtful = match.group().strip()
    if doubtful is None or _OTHER.search(text) or _ASKED.search(asked):
        return None
    return doubtful


def _around(text: str, reach: int = 160) -> Iterator[str]:
    """The parts of a text within `reach` characters of a telling word: no phrase is longer."""
    start, end = 0, -1
    for match in _WORDS.finditer(text):
        if end >= 0 and match.start() - reach > end:
            yield text[start:end]
            end = -1
        if end < 0:
            start = max(0, match.start() - reach)
        end = match.end() + reach
    if end >= 0:
        yield text[start:end]


def leak_series(answers: pl.Series, anchors: Collection[str], asked: pl.Series | None = None) -> pl.Series:
    """`find_leak` over a column: the leaking words, null where there are none (and for null answers).

    Rust sorts out the texts that cannot leak; what is left, usually few, is read one by one.

    Args:
        answers: strings.
        anchors: every clause anchor of the spec.
        asked: the users' words, one a row.
    """
    cited = (
        cited_series(answers, anchors)
        .select(pl.col("known").list.len() + pl.col("invented").list.len() > 0)
        .to_series()
    )
    maybe = (cited | answers.str.contains("(?i)" + THINKING) | answers.str.contains("(?i)" + WORDS)).fill_null(False)
    asked = asked if asked is not None else pl.Series([""] * len(answers), dtype=pl.String)
    found: list[str | None] = [None] * len(answers)
    rows = maybe.arg_true()
    for row, answer, question in zip(rows, answers.gather(rows), asked.gather(rows), strict=True):
        found[row] = find_leak(answer, anchors, question or "")
    return pl.Series(answers.name, found, dtype=pl.String)
