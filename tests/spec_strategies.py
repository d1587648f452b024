"""Hypothesis strategies for policies, and small documents that several spec tests share."""

from __future__ import annotations

import string

from hypothesis import strategies as st

from specdistill.schemas.vocabulary import Outcome
from specdistill.specs.loader import linked
from specdistill.specs.model import Category, Clause, Example, Section, Spec
from specdistill.specs.words import SectionKind

word = st.text(string.ascii_letters + "äß中🙂", min_size=1, max_size=8)
words = st.lists(word, min_size=1, max_size=6).map(" ".join)
title = st.builds("{} {}".format, words, st.sampled_from(["& more", "(a, b)", "x: y", "C#", "`code`", "1.", "é!"]))
anchor = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,10}[A-Za-z0-9]", fullmatch=True)
value = st.text(string.ascii_letters + string.digits + " ._/'äß", min_size=1, max_size=10).map(str.strip).filter(bool)

paragraph = st.one_of(
    words.map(lambda text: f"{text}."),
    words.map(lambda text: f"- {text}\n- two [S-1]\n  going on"),
    words.map(lambda text: f"```text\n# no heading {{#no}}\n{text}\n```"),
    words.map(lambda text: f"#### {text}\n\nunder it"),
    words.map(lambda text: f"> {text}, see [there](#S-1) and [SH-R1]"),
    words.map(lambda text: f"1. {text}\n2. *two*\n\n       code"),
    words.map(lambda text: f"{text} | --- | $x_{{i}}$ {{curly}}"),
)
text = st.lists(paragraph, max_size=3).map("\n\n".join)
prose = st.lists(words.map(lambda text: f"{text}, see [S-1]."), max_size=2).map("\n\n".join)


@st.composite
def clauses(draw: st.DrawFn, name: str, category: str | None) -> Clause:
    return Clause(
        anchor=name,
        title=draw(st.one_of(st.just(""), title)),
        outcome=draw(st.sampled_from(Outcome)),
        text=draw(text),
        attributes=draw(st.dictionaries(st.sampled_from(["authority", "since", "class"]), value, max_size=2)),
        category=category,
    )


@st.composite
def sections(draw: st.DrawFn, names: list[str], category: str | None) -> tuple[Section, ...]:
    """Sections that together hold the clauses `names`."""
    made = []
    cuts = sorted(draw(st.lists(st.integers(0, len(names)), max_size=3)))
    for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(names)], strict=True)):
        kind = draw(st.sampled_from(SectionKind))
        section = Section(
            title=draw(st.one_of(st.just(""), st.sampled_from(["Comply", "Refuse", "Edge cases"]), title)),
            kind=kind,
            text=draw(prose),
            clauses=tuple(draw(clauses(name, category)) for name in names[start:end]),
            examples=tuple(
                Example(anchor=name, outcome=draw(st.sampled_from(Outcome)), prompt=draw(words), why=draw(words))
                for name in (names[start:end] if kind is SectionKind.EXAMPLES else [])
            ),
        )
        if section.title or section.text or section.clauses or section.examples or number == -1:
            made.append(section)
    return tuple(made)


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """Whole policies, in the form in which the reader gives them."""
    names = draw(st.lists(anchor, unique=True, max_size=8))
    ids = draw(st.lists(anchor, unique=True, min_size=1, max_size=3))
    share = len(names) // (len(ids) + 1)
    spec = Spec(
        id=draw(anchor),
        title=draw(title),
        version=draw(st.sampled_from(["1.0.0", "1.10", "2026-01-01", "yes"])),
        licence=draw(st.one_of(st.none(), title)),
        authors=tuple(draw(st.lists(words, max_size=2))),
        overview=draw(prose),
        style=draw(sections(names[:share], None)),
        categories=tuple(
            Category(
                id=name,
                title=draw(title),
                summary=draw(st.one_of(st.just(""), words)),
                sections=draw(sections(names[share * (n + 1) : share * (n + 2)], name)),
            )
            for n, name in enumerate(ids)
        ),
    )
    return linked(spec)
