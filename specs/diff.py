"""What changed between two versions of a policy, clause by clause.

A clause is the same clause while its anchor stays; one whose anchor alone changed is `renamed`. What is outside
clauses (overview, summaries, definitions, edge cases, examples) is compared as parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

from specdistill.specs.model import Category, Clause, Section, Spec
from specdistill.specs.render import render


class ChangeKind(StrEnum):
    """The six ways a clause can change. A change of one clause may be several at once."""

    ADDED = "added"
    REMOVED = "removed"
    RENAMED = "renamed"
    """Same title, text and outcome under another anchor: what cited the old one now cites nothing."""
    RE_OUTCOMED = "re-outcomed"
    REWORDED = "reworded"
    """Other title, text or attributes."""
    MOVED = "moved"
    """In another category, or at another place in its own."""


@dataclass(frozen=True)
class ClauseChange:
    """One clause that is not as it was.

    Attributes:
        kinds: in the order of `ChangeKind`; never empty.
        before: None for an added clause.
        after: None for a removed clause.
    """

    kinds: tuple[ChangeKind, ...]
    before: Clause | None
    after: Clause | None

    @property
    def clause(self) -> Clause:
        """The newer of the two."""
        clause = self.after or self.before
        if clause is None:
            raise ValueError("a change has a clause before or after it")
        return clause

    @property
    def anchor(self) -> str:
        """The clause's anchor, the new one if it was renamed."""
        return self.clause.anchor


@dataclass(frozen=True)
class PartChange:
    """Text outside clauses that is not as it was.

    Attributes:
        part: what it is: `overview`, `self-harm: Definitions`, `category violence`.
        kind: added, removed, reworded or moved.
        category: the category it is in; None for the overview, the style and the front matter.
    """

    part: str
    kind: ChangeKind
    before: str
    after: str
    category: str | None = None


@dataclass(frozen=True)
class SpecDiff:
    """All changes from one version to another, in the order of the newer one; removed ones last."""

    before: Spec
    after: Spec
    clauses: tuple[ClauseChange, ...]
    parts: tuple[PartChange, ...]

    def __bool__(self) -> bool:
        return bool(self.clauses or self.parts)

    def of_kind(self, kind: ChangeKind) -> tuple[ClauseChange, ...]:
        """The clause changes of one kind."""
        return tuple(change for change in self.clauses if kind in change.kinds)


def diff(before: Spec, after: Spec) -> SpecDiff:
    """Compare two versions of a policy."""
    old, new = before.by_anchor, after.by_anchor
    renamed = _renamed(old, new)
    shifted = _shifted(before, after)
    changes = []
    for anchor, clause in new.items():
        was = old.get(anchor) or old.get(renamed.get(anchor, ""))
        if was is None:
            changes.append(ClauseChange((ChangeKind.ADDED,), None, clause))
        elif kinds := tuple(_kinds(was, clause, moved=anchor in shifted)):
            changes.append(ClauseChange(kinds, was, clause))
    gone = set(old) - set(new) - set(renamed.values())
    changes += [ClauseChange((ChangeKind.REMOVED,), clause, None) for a, clause in old.items() if a in gone]
    return SpecDiff(before, after, tuple(changes), tuple(_parts(before, after)))


def stale_categories(before: Spec, after: Spec, *, examples: bool = False) -> dict[str, list[str]]:
    """Categories whose rendered text is not what it was, each with the reasons in words.

    Rows of these categories, and no others, have to be made anew. A category that is gone is in it too.
    """
    changes = diff(before, after)
    stale: dict[str, list[str]] = {}
    known = {category.id for category in after.categories}
    for category in before.categories:
        if category.id not in known:
            stale[category.id] = ["the category was removed"]
            continue
        old = render(before, category.id, examples=examples)
        new = render(after, category.id, examples=examples)
        if old.digest != new.digest:
            shown = {*old.shown, *new.shown}
            reasons = [
                f"{' and '.join(change.kinds)}: [{change.anchor}]"
                for change in changes.clauses
                if {clause.anchor for clause in (change.before, change.after) if clause} & shown
            ]
            reasons += [
                f"{part.kind}: {part.part}" for part in changes.parts if _is_shown(part, category.id, examples=examples)
            ]
            stale[category.id] = reasons or ["cross-references changed"]
    return stale


def _is_shown(part: PartChange, category: str, *, examples: bool) -> bool:
    """Whether the text shown for a category holds this part."""
    if part.part.startswith("front matter: "):
        return part.part == "front matter: title"
    if part.part.endswith(": examples") and not examples:
        return False
    everywhere = part.part in (f"{part.category}: title", f"{part.category}: summary", f"category {part.category}")
    return everywhere or part.category in (None, category)


def _renamed(old: dict[str, Clause], new: dict[str, Clause]) -> dict[str, str]:
    """New anchor to old anchor, for clauses that are word for word the same and the only ones so."""
    gone: dict[str, list[str]] = {}
    come: dict[str, list[str]] = {}
    for anchor in [anchor for anchor in old if anchor not in new]:
        gone.setdefault(old[anchor].digest, []).append(anchor)
    for anchor in [anchor for anchor in new if anchor not in old]:
        come.setdefault(new[anchor].digest, []).append(anchor)
    pairs = [(come[digest], gone[digest]) for digest in come if digest in gone]
    return {ours[0]: theirs[0] for ours, theirs in pairs if len(ours) == len(theirs) == 1}


def _shifted(before: Spec, after: Spec) -> set[str]:
    """Anchors whose place among the clauses that stayed in their category is another one."""
    found: set[str] = set()
    groups: list[tuple[list[str], list[str]]] = [
        ([c.anchor for c in before.style_clauses], [c.anchor for c in after.style_clauses])
    ]
    old = {category.id: category for category in before.categories}
    for category in after.categories:
        if category.id in old:
            ours, theirs = old[category.id].clauses, category.clauses
            # A clause under another outcome stands elsewhere because of that: it is re-outcomed, not moved.
            outcomes = {clause.anchor: clause.outcome for clause in ours}
            same = {clause.anchor for clause in theirs if outcomes.get(clause.anchor) is clause.outcome}
            groups.append(
                ([c.anchor for c in ours if c.anchor in same], [c.anchor for c in theirs if c.anchor in same])
            )
    for ours_, theirs_ in groups:
        both = set(ours_) & set(theirs_)
        left, right = [a for a in ours_ if a in both], [a for a in theirs_ if a in both]
        matcher = SequenceMatcher(None, left, right, autojunk=False)
        kept = {left[n] for block in matcher.get_matching_blocks() for n in range(block.a, block.a + block.size)}
        found |= both - kept
    return found


def _kinds(was: Clause, now: Clause, *, moved: bool) -> Iterator[ChangeKind]:
    if was.anchor != now.anchor:
        yield ChangeKind.RENAMED
    if was.outcome is not now.outcome:
        yield ChangeKind.RE_OUTCOMED
    if (was.title, was.text, was.attributes) != (now.title, now.text, now.attributes):
        yield ChangeKind.REWORDED
    if was.category != now.category or moved:
        yield ChangeKind.MOVED


def _parts(before: Spec, after: Spec) -> Iterator[PartChange]:
    """Changes outside clauses."""
    for name in ("id", "title", "version", "licence"):
        yield from _text(f"front matter: {name}", getattr(before, name) or "", getattr(after, name) or "")
    yield from _text("front matter: authors", ", ".join(before.authors), ", ".join(after.authors))
    yield from _text("overview", before.overview, after.overview)
    yield from _text("style: title", before.style_title, after.style_title)
    yield from _section_texts("style", None, before.style, after.style)
    old = {category.id: category for category in before.categories}
    new = {category.id: category for category in after.categories}
    for name, category in new.items():
        if name not in old:
            yield PartChange(f"category {name}", ChangeKind.ADDED, "", category.title, name)
        else:
            yield from _category_parts(old[name], category)
    for name, category in old.items():
        if name not in new:
            yield PartChange(f"category {name}", ChangeKind.REMOVED, category.title, "", name)
    ours, theirs = [name for name in old if name in new], [name for name in new if name in old]
    if ours != theirs:
        yield PartChange("order of categories", ChangeKind.MOVED, ", ".join(ours), ", ".join(theirs))


def _category_parts(was: Category, now: Category) -> Iterator[PartChange]:
    yield from _text(f"{now.id}: title", was.title, now.title, now.id)
    yield from _text(f"{now.id}: summary", was.summary, now.summary, now.id)
    yield from _section_texts(now.id, now.id, was.sections, now.sections)
    yield from _text(f"{now.id}: examples", _example_text(was), _example_text(now), now.id)


def _example_text(category: Category) -> str:
    return "\n".join(f'- [{e.anchor}] {e.outcome}: "{e.prompt}" — {e.why}' for e in category.examples)


def _section_texts(
    name: str, category: str | None, was: tuple[Section, ...], now: tuple[Section, ...]
) -> Iterator[PartChange]:
    """Text that stands in sections but in no clause, by section heading."""
    old, new = _texts(was), _texts(now)
    for title in dict.fromkeys([*new, *old]):
        yield from _text(f"{name}: {title or 'introduction'}", old.get(title, ""), new.get(title, ""), category)


def _texts(sections: tuple[Section, ...]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for section in sections:
        if section.text:
            title = section.title or str(section.kind)
            texts[title] = "\n\n".join(text for text in (texts.get(title), section.text) if text)
    return texts


def _text(part: str, before: str, after: str, category: str | None = None) -> Iterator[PartChange]:
    if before == after:
        return
    kind = ChangeKind.REWORDED if before and after else ChangeKind.ADDED if after else ChangeKind.REMOVED
    yield PartChange(part, kind, before, after, category)
