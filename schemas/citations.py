"""Which clauses a text cites, and which it makes up.

A citation is an anchor in square brackets (`[SH-R1]`, `[SH-R1, SH-S2]`, `[SH-R1](#SH-R1)`) or, where it
cannot be an ordinary word, the bare anchor. An invented clause is a token of the same *shape* as the spec's
anchors that is none of them; shapes are read off the anchors, so any spec's naming works.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import polars as pl

_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-"))
_BRACKET = r"[\w\])]?\[[^\[\]\n]{1,120}\](?:\([^()\s]{0,200}\))?"
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*")
_BEFORE = (
    r"(?i:clauses?|rules?|sections?|anchors?|articles?|polic(?:y|ies)|guidelines?"
    r"|per|under|citing|cites?|see|§)"
)
"""Words that make the short code after them a citation: `clause S1`, `under S1`."""
_LEAD = re.compile(rf"^{_BEFORE}\s*:?\s*(?=\S)")
_JOIN = re.compile(r"\s*[,;/&]\s*|\s+(?:and|or|to)\s+")
_RUN = re.compile(r"[A-Z]+|[a-z]+|\d+|[^A-Za-z0-9]")


@dataclass(frozen=True)
class AnchorShapes:
    """What the anchors of one spec look like.

    Attributes:
        anchors: all of them.
        folded: case-folded spelling to anchor, to take `[sh-r1]` for SH-R1.
        shape: matches a whole token of the anchors' shape; None when all are plain words such as `privacy`.
        bare: what can be found without brackets: coded anchors and tokens of a shape no ordinary text has.
    """

    anchors: frozenset[str]
    folded: dict[str, str]
    shape: re.Pattern[str] | None
    bare: str | None

    @property
    def snippet(self) -> str:
        """Everything that may be a citation, as a pattern that Python and Polars (Rust) both read."""
        return _BRACKET + (f"|{self.bare}" if self.bare else "")


def shapes_of(anchors: Collection[str]) -> AnchorShapes:
    """Read the shapes off a spec's anchors (cached)."""
    return _shapes(frozenset(anchors))


@lru_cache(maxsize=32)
def _shapes(anchors: frozenset[str]) -> AnchorShapes:
    folded = {anchor.casefold(): anchor for anchor in sorted(anchors)}
    whole: set[str] = set()
    bare: set[str] = set()
    for anchor in sorted(anchors, key=lambda text: (-len(text), text)):
        runs = _RUN.findall(anchor)
        digits = any(run.isdigit() for run in runs)
        letters = [run for run in runs if run.isalpha()]
        separated = any(not run.isalnum() for run in runs)
        if digits and letters:
            whole.add("".join(_generalise(run) for run in runs))
            if separated and len(letters) > 1:  # SH-R1: nothing else looks like that, whatever its letters
                bare.add(rf"\b{''.join(_generalise(run) for run in runs)}\b")
            elif separated:  # ST-1: only with the spec's own letters, or AK-47 would be a clause
                bare.add(rf"\b{''.join(_known_letters(run) for run in runs)}\b")
            else:  # S1, B12: only after a word that says it is cited
                bare.add(rf"\b{_BEFORE}\s{{0,3}}{''.join(_known_letters(run) for run in runs)}\b")
        elif "_" in anchor:
            whole.add(r"[a-z]+(?:_[a-z0-9]+)+")
            bare.add(rf"\b{re.escape(anchor)}\b")
        else:
            bare.add(rf"\b{_BEFORE}\s{{0,3}}['\"`“]{re.escape(anchor)}['\"`”]")
    return AnchorShapes(
        anchors,
        folded,
        re.compile("|".join(sorted(whole))) if whole else None,
        "|".join(sorted(bare)) if bare else None,
    )


def _generalise(run: str) -> str:
    """A run of characters as the class it stands for: `SH` as two capitals, `12` as up to three digits."""
    if run.isdigit():
        return r"\d{1,3}"
    if run.isalpha():
        return f"[{'A-Z' if run.isupper() else 'a-z'}]{{{len(run)}}}"
    return re.escape(run)


def _known_letters(run: str) -> str:
    return r"\d{1,3}" if run.isdigit() else re.escape(run)


def cited_clauses(text: str, anchors: Collection[str]) -> tuple[list[str], list[str]]:
    """The clauses a text cites.

    Args:
        text: usually a reasoning.
        anchors: every anchor of the spec it was shown.

    Returns:
        (known, invented): anchors that exist, and citations of clauses that do not; each once, in order.
    """
    shapes = shapes_of(anchors)
    known: dict[str, None] = {}
    invented: dict[str, None] = {}
    for match in re.finditer(shapes.snippet, text.translate(_DASHES)):
        real, made_up = _read(match.group(), shapes)
        known.update(dict.fromkeys(real))
        invented.update(dict.fromkeys(made_up))
    return list(known), list(invented)


def _read(snippet: str, shapes: AnchorShapes) -> tuple[list[str], list[str]]:
    """One bracket or bare token as (known, invented)."""
    start = snippet.find("[", 0, 2)
    if start < 0:
        return _sort(_TOKEN.findall(snippet), shapes, folded=False)
    inside, _, link = snippet[start + 1 :].partition("]")
    items = [_LEAD.sub("", item.strip()) for item in _JOIN.split(inside)]
    if not all(_TOKEN.fullmatch(item) for item in items):  # prose in brackets: only what counts without them
        known: list[str] = []
        invented: list[str] = []
        for match in re.finditer(shapes.bare, inside) if shapes.bare else ():
            real, made_up = _read(match.group(), shapes)
            known += real
            invented += made_up
        return known, invented
    if start or (link and not link.startswith("(#")):  # `table[privacy]`, or a link to elsewhere
        items = [item for item in items if _coded(item)]
    return _sort(items, shapes, folded=True)


def _sort(tokens: list[str], shapes: AnchorShapes, *, folded: bool) -> tuple[list[str], list[str]]:
    """Tokens as (anchors, made-up anchors); what is neither is dropped."""
    known: list[str] = []
    invented: list[str] = []
    for token in (token.rstrip(".:-") for token in tokens):
        anchor = token if token in shapes.anchors else shapes.folded.get(token.casefold()) if folded else None
        if anchor is not None:
            known.append(anchor)
        elif shapes.shape is not None and (
            shapes.shape.fullmatch(token) or (folded and shapes.shape.fullmatch(token.upper()))
        ):
            invented.append(token)
    return known, invented


def _coded(token: str) -> bool:
    """Whether a token is a code rather than a word: it has a digit or an underscore."""
    return any(char.isdigit() or char == "_" for char in token)


def cited_series(texts: pl.Series, anchors: Collection[str]) -> pl.DataFrame:
    """`cited_clauses` over a column: Rust finds the snippets, each distinct one is read once.

    Returns:
        known, invented: lists of strings, one row a text; null texts cite nothing.
    """
    shapes = shapes_of(anchors)
    texts = texts.fill_null("")
    # Most texts have plain hyphens only; replace_many costs a copy of the others.
    texts = texts.str.replace_many(["‐", "‑", "‒", "–", "—", "−"], ["-"] * 6)
    found = pl.DataFrame(
        {
            "row": pl.int_range(len(texts), eager=True, dtype=pl.UInt32),
            "snippet": texts.str.extract_all(shapes.snippet),
        }
    )
    long = found.explode("snippet").drop_nulls("snippet")
    distinct = long["snippet"].unique()
    read = [_read(snippet, shapes) for snippet in distinct.to_list()]
    lists = pl.List(pl.String)
    table = pl.DataFrame(
        {
            "snippet": distinct,
            "known": pl.Series([known for known, _ in read], dtype=lists),
            "invented": pl.Series([invented for _, invented in read], dtype=lists),
        }
    )
    merged = (
        long.join(table, on="snippet", maintain_order="left")
        .group_by("row", maintain_order=True)
        .agg(
            pl.col("known").explode(keep_nulls=False, empty_as_null=False).unique(maintain_order=True),
            pl.col("invented").explode(keep_nulls=False, empty_as_null=False).unique(maintain_order=True),
        )
    )
    empty = pl.lit([], dtype=lists)
    return (
        found.select("row")
        .join(merged, on="row", how="left", maintain_order="left")
        .select(pl.col("known").fill_null(empty), pl.col("invented").fill_null(empty))
    )
