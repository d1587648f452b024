"""A policy in memory: a spec of categories of sections of clauses, as plain frozen values.

Places (`file`, `line`, `root`) say where a value was read from and are no part of what it says: digests and
`content()` leave them out, so a spec written to another folder is the same spec.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from specdistill.errors import SpecError
from specdistill.schemas.digest import digest
from specdistill.schemas.vocabulary import Outcome
from specdistill.specs.words import SectionKind

PLACES = {"file", "line", "root"}
"""Fields that say where something was read, not what it is."""


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def content(self) -> dict[str, Any]:
        """Everything that is said, without where it was read: equal content is the same policy."""
        dumped: dict[str, Any] = _without_places(self.model_dump(mode="json"))
        return dumped

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields replaced, which computes its digest and indexes anew."""
        copied = super().model_copy(update=update, deep=deep)
        for name in set(copied.__dict__) - set(type(self).model_fields):
            del copied.__dict__[name]
        return copied

    @cached_property
    def digest(self) -> str:
        """Digest of `content()`."""
        return digest(self.content())


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(item) for key, item in value.items() if key not in PLACES}
    return [_without_places(item) for item in value] if isinstance(value, list | tuple) else value


class Clause(_Value):
    """The smallest citable rule."""

    anchor: str
    """Stable name, cited as `[anchor]`."""
    title: str = ""
    """Heading; empty for a clause that is a paragraph or list item."""
    outcome: Outcome = Outcome.UNSPECIFIED
    text: str = ""
    """The rule in Markdown."""
    attributes: dict[str, str] = Field(default_factory=dict)
    """What the attribute block says beside the anchor and the outcome, e.g. {"authority": "user"}."""
    references: tuple[str, ...] = ()
    """Anchors that the text refers to, in order, without its own."""
    category: str | None = None
    """Id of its category; None for clauses of the style document."""
    file: str | None = None
    line: int | None = None

    @property
    def name(self) -> str:
        """The title, or the first words of the text."""
        if self.title:
            return self.title
        words = self.text.split()
        return " ".join(words[:8]) + (" …" if len(words) > 8 else "")

    @cached_property
    def digest(self) -> str:
        """Digest of what the clause says: outcome, title, text, attributes; not its anchor or place."""
        return digest(self.outcome, self.title, self.text, self.attributes)


class Example(_Value):
    """A worked example: this prompt, this outcome, because of this."""

    anchor: str
    outcome: Outcome
    prompt: str
    why: str = ""
    file: str | None = None
    line: int | None = None


class Section(_Value):
    """One part of a category under a heading of its own."""

    title: str = ""
    """Heading; empty for what stands before the first heading."""
    kind: SectionKind = SectionKind.OTHER
    text: str = ""
    """Markdown that belongs to no clause."""
    clauses: tuple[Clause, ...] = ()
    examples: tuple[Example, ...] = ()
    file: str | None = None
    line: int | None = None


class Category(_Value):
    """One area of the policy."""

    id: str
    title: str
    summary: str = ""
    """One or two sentences; shown to the models for every category."""
    sections: tuple[Section, ...] = ()
    file: str | None = None
    line: int | None = None

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """All its clauses in document order, guidance included."""
        return tuple(clause for section in self.sections for clause in section.clauses)

    @property
    def examples(self) -> tuple[Example, ...]:
        """All its worked examples in document order."""
        return tuple(example for section in self.sections for example in section.examples)

    def of_kind(self, kind: SectionKind) -> tuple[Section, ...]:
        """Its sections of one kind."""
        return tuple(section for section in self.sections if section.kind is kind)


class Spec(_Value):
    """A whole policy."""

    id: str
    title: str
    version: str = "0.0.0"
    """Semantic version; 0.0.0 where the document states none."""
    licence: str | None = None
    authors: tuple[str, ...] = ()
    overview: str = ""
    """Markdown that holds for every category."""
    style_title: str = "Style"
    style: tuple[Section, ...] = ()
    """How to comply, refuse and safe-complete."""
    categories: tuple[Category, ...] = ()
    root: str | None = None
    """Folder or file it was read from."""

    def category(self, category: str) -> Category:
        """One category by id.

        Raises:
            SpecError: there is no such category; names the nearest known one.
        """
        for known in self.categories:
            if known.id == category:
                return known
        ids = [known.id for known in self.categories]
        near = get_close_matches(category, ids, n=1, cutoff=0.5)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        raise SpecError(
            f"The spec '{self.id}' has no category '{category}'.",
            f"{hint}Known: {', '.join(ids) or 'none'}.",
            file=self.root,
        )

    @property
    def style_clauses(self) -> tuple[Clause, ...]:
        """Clauses of the style document."""
        return tuple(clause for section in self.style for clause in section.clauses)

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """Every clause: style first, then the categories in order."""
        return self.style_clauses + tuple(c for category in self.categories for c in category.clauses)

    @cached_property
    def by_anchor(self) -> dict[str, Clause]:
        """Anchor to clause."""
        return {clause.anchor: clause for clause in self.clauses}

    @property
    def anchors(self) -> tuple[str, ...]:
        """Every anchor that can be cited, style and guidance included, in document order."""
        return tuple(self.by_anchor)

    def parts(self) -> Iterator[tuple[str | None, Section]]:
        """(category id, section) of the style (None) and of every category."""
        for section in self.style:
            yield None, section
        for category in self.categories:
            for section in category.sections:
                yield category.id, section
