"""Text taken over word for word from the spec: an n-word run that is also in the spec.

Words are compared without case, punctuation and Markdown, so a reformatted copy is a copy.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import polars as pl

_GAP = re.compile(r"[^\w]+|_+")


def plain_words(text: str) -> list[str]:
    """Lower-case words of a text, without punctuation and Markdown."""
    return _GAP.sub(" ", text.lower()).split()


def shingles(text: str, n: int) -> frozenset[str]:
    """Every run of `n` words of a text, as one string each; none for a shorter text."""
    words = plain_words(text)
    return frozenset(" ".join(words[start : start + n]) for start in range(len(words) - n + 1))


def shingles_of(texts: Iterable[str], n: int) -> frozenset[str]:
    """`shingles` of several texts together."""
    return frozenset(shingle for text in texts for shingle in shingles(text, n))


def copied_words(answer: str, spec_shingles: Collection[str], n: int) -> str | None:
    """The first run of `n` words that the answer shares with the spec, or None.

    Args:
        answer: the text to look in.
        spec_shingles: from `shingles` with the same `n`; a set.
    """
    words = plain_words(answer)
    for start in range(len(words) - n + 1):
        shingle = " ".join(words[start : start + n])
        if shingle in spec_shingles:
            return shingle
    return None


def copied_series(answers: pl.Series, spec_shingles: Collection[str]) -> pl.Series:
    """`copied_words` over a column: the shared run, null where there is none (one pass in Rust)."""
    nothing = pl.Series(answers.name, [None] * len(answers), dtype=pl.String)
    if not spec_shingles:
        return nothing
    # A space on both sides makes a run of whole words a plain substring.
    spaced = " " + answers.str.to_lowercase().str.replace_all(r"[^\w]+|_+", " ").str.strip_chars(" ") + " "
    patterns = [f" {shingle} " for shingle in sorted(spec_shingles)]
    hit = spaced.str.contains_any(patterns).fill_null(False)
    if not hit.any():
        return nothing
    n = next(iter(spec_shingles)).count(" ") + 1
    known = frozenset(spec_shingles)
    found = [copied_words(text, known, n) if bad else None for text, bad in zip(answers, hit, strict=True)]
    return pl.Series(answers.name, found, dtype=pl.String)
