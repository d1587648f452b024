"""Which parts of a long document are its categories.

The categories are the highest headings that have anchored rules under them. A single unanchored heading above
all others, or before the first of them, is the document's title. A document whose headings are themselves the
rules, or whose highest headings are outcome sections (`## Refuse`), is one category.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from specdistill.schemas.vocabulary import Outcome
from specdistill.specs.findings import Finding
from specdistill.specs.markdown import Block, Document
from specdistill.specs.model import Category, Clause, Section
from specdistill.specs.passage import clause_passage, passage
from specdistill.specs.sections import read_sections
from specdistill.specs.words import SectionKind, kind_of_heading, outcome_named


@dataclass(frozen=True)
class Unplaced:
    """Text of a document that became part of no category."""

    file: str
    line: int
    title: str
    text: str
    why: str


@dataclass(frozen=True)
class Split:
    """A document taken apart."""

    title: str
    overview: str
    categories: tuple[Category, ...]
    unplaced: tuple[Unplaced, ...]


def slug(title: str) -> str:
    """A heading as an id: `Self-harm & suicide` becomes `self-harm-suicide`."""
    plain = unicodedata.normalize("NFKD", title.lower())
    words = re.findall(r"[^\W_]+", "".join(char for char in plain if not unicodedata.combining(char)))
    return "-".join(words) or "category"


def title_block(document: Document) -> Block | None:
    """The single unanchored highest heading that stands before every other block, if there is one."""
    heads = [block for block in document.blocks if block.level]
    if not heads or document.blocks[0] is not heads[0] or heads[0].anchor is not None:
        return None
    top = heads[0]
    alone = all(block.level > top.level for block in heads[1:])
    return top if alone and kind_of_heading(top.title) is SectionKind.OTHER else None


def split_document(document: Document, fallback: str) -> Split:
    """Title, overview, categories and what belongs to none. Faults are added to `document.findings`.

    Args:
        fallback: id of the category if the document is a single one.
    """
    top = title_block(document)
    start = top.end if top else document.body_start
    end = len(document.lines)
    title = str(document.front.get("title") or (top.title if top else "") or fallback)
    heads = [block for block in document.blocks if block.level and block is not top]
    level = min((block.level for block in heads), default=0)
    tops = [block for block in heads if block.level == level]
    if not _are_categories(document, tops, end):
        return Split(title, "", (_whole(document, start, end, fallback, title),), ())
    stops = [block.start for block in tops[1:]] + [end]
    leads = top is None and tops[0] is document.blocks[0] and not tops[0].anchor
    if leads and not _anchored(document, tops[0].end, stops[0]):
        # `# Title`, then further `# Headings` that are the categories.
        title = str(document.front.get("title") or tops[0].title or fallback)
        start, tops, stops = tops[0].end, tops[1:], stops[1:]
    overview = passage("\n".join(document.lines[start : tops[0].start]))
    categories: list[Category] = []
    unplaced: list[Unplaced] = []
    taken: dict[str, int] = {}
    for block, stop in zip(tops, stops, strict=True):
        if block.anchor is None and not _anchored(document, block.end, stop):
            text = passage("\n".join(document.lines[block.end : stop]))
            unplaced.append(
                Unplaced(document.file, block.start + 1, block.title, text, "no anchor in or under this heading")
            )
            continue
        categories.append(_category(document, block, stop, taken))
    early = [block for block in document.blocks if start <= block.start < tops[0].start and block.anchor]
    for block in early:
        document.findings.append(
            Finding(
                document.file,
                block.start + 1,
                "unread-anchor",
                f"The rule '{block.anchor}' stands before the first category heading, so it belongs to none.",
            )
        )
    return Split(title, overview, tuple(categories), tuple(unplaced))


def _anchored(document: Document, start: int, end: int) -> list[Block]:
    return [block for block in document.blocks if block.anchor and start <= block.start < end]


def _are_categories(document: Document, tops: list[Block], end: int) -> bool:
    """Whether the highest headings are categories: none is an outcome section, and some hold rules. Definitions or
    examples may stand beside several that do; beside one they are its sections."""
    kinds = [SectionKind.OTHER if block.anchor else kind_of_heading(block.title) for block in tops]
    if not tops or any(kind.outcome is not Outcome.UNSPECIFIED for kind in kinds):
        return False
    stops = [block.start for block in tops[1:]] + [end]
    holding = [
        kind for kind, block, stop in zip(kinds, tops, stops, strict=True) if _anchored(document, block.end, stop)
    ]
    needed = 1 if set(kinds) <= {SectionKind.OTHER} else 2
    return holding.count(SectionKind.OTHER) >= needed


def _whole(document: Document, start: int, end: int, fallback: str, title: str) -> Category:
    front = document.front
    return Category(
        id=str(front.get("id") or fallback),
        title=title,
        summary=" ".join(str(front.get("summary") or "").split()),
        sections=read_sections(document, start, end, str(front.get("id") or fallback)),
        file=document.file,
        line=1,
    )


def _category(document: Document, block: Block, stop: int, taken: dict[str, int]) -> Category:
    """One category of several; its own anchor is its id."""
    wanted = block.anchor or slug(block.title)
    taken[wanted] = taken.get(wanted, 0) + 1
    name = wanted if taken[wanted] == 1 or block.anchor else f"{wanted}-{taken[wanted]}"
    values = dict(block.attributes.values) if block.attributes else {}
    summary = values.pop("summary", "")
    sections = read_sections(document, block.end, stop, name)
    if block.anchor and not any(section.clauses for section in sections):
        # A rule without parts: the heading is the category and its text the only clause.
        outcome = outcome_named(values.pop("outcome", "unspecified"))
        text = clause_passage("\n".join(document.lines[block.end : stop]))
        rule = Clause(
            anchor=block.anchor,
            title=block.title,
            text=text,
            attributes=values,
            category=name,
            file=document.file,
            line=block.start + 1,
            outcome=outcome or Outcome.UNSPECIFIED,
        )
        sections = (Section(clauses=(rule,), file=document.file),)
    return Category(
        id=name,
        title=block.title or name,
        summary=summary,
        sections=sections,
        file=document.file,
        line=block.start + 1,
    )
