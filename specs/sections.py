"""From the blocks of a document to sections and clauses.

A heading with an anchor is a clause; so is a paragraph or list item that ends in one. A heading without one
is a section, unless it lies inside a clause: then it is part of the clause's text. A section's heading may
state the outcome of the clauses in it (`## Refuse`), also through further headings below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from specdistill.schemas.vocabulary import Outcome
from specdistill.specs.examples import read_examples
from specdistill.specs.findings import Finding
from specdistill.specs.markdown import Block, Document
from specdistill.specs.model import Clause, Example, Section
from specdistill.specs.passage import clause_passage, passage
from specdistill.specs.words import SectionKind, kind_of_heading, outcome_named, speaks_of_safe_completion


@dataclass
class _Clause:
    block: Block
    section: _Section
    lines: list[str] = field(default_factory=list)


@dataclass
class _Section:
    title: str
    kind: SectionKind
    level: int
    line: int | None
    lines: list[tuple[int, str]] = field(default_factory=list)
    clauses: list[_Clause] = field(default_factory=list)


def default_outcome(kind: SectionKind, section: str, title: str, text: str) -> Outcome:
    """The outcome of a clause without `outcome=`: its section's, or what a guidance clause says itself."""
    if kind is SectionKind.GUIDANCE and speaks_of_safe_completion(f"{section}\n{title}\n{text}"):
        return Outcome.SAFE_COMPLETE
    return kind.outcome


def read_sections(document: Document, start: int, end: int, category: str | None) -> tuple[Section, ...]:
    """The sections between two lines (0-based, end excluded). Faults are added to `document.findings`."""
    blocks = [block for block in document.blocks if start <= block.start < end]
    sections = [_Section("", SectionKind.OTHER, 0, None)]
    open_clauses: list[_Clause] = []
    headings: list[_Section] = []
    cursor = start
    for number, block in enumerate(blocks):
        _pour(document, cursor, block.start, open_clauses, sections[-1])
        if block.level:
            open_clauses = [clause for clause in open_clauses if clause.block.level < block.level]
            if block.anchor is None and open_clauses and _states_outcome(block, blocks[number + 1 :]):
                open_clauses = []
            if block.anchor is None and open_clauses:
                open_clauses[-1].lines += document.lines[block.start : block.end]
                cursor = max(cursor, block.end)
                continue
            headings = [section for section in headings if section.level < block.level]
            if block.anchor is None:
                headings.append(_open_section(document, block, headings))
                sections.append(headings[-1])
            elif not open_clauses and sections[-1].level >= block.level:
                # The clause stands beside the last section, not in it: go back to the enclosing one.
                outer = headings[-1].kind if headings else SectionKind.OTHER
                sections.append(_Section("", outer, headings[-1].level if headings else 0, block.start + 1))
        if block.anchor is not None:
            clause = _Clause(block, sections[-1])
            sections[-1].clauses.append(clause)
            if block.level:
                open_clauses.append(clause)
            if not block.level:
                _part(open_clauses, sections[-1], block.end - 1)
        cursor = max(cursor, block.end)
    _pour(document, cursor, end, open_clauses, sections[-1])
    read = [_finished(document, section, category) for section in sections]
    return tuple(section for section in read if section.title or section.text or section.clauses or section.examples)


def _states_outcome(block: Block, following: Sequence[Block]) -> bool:
    """Whether an unanchored heading gives the anchored blocks right under it their outcome."""
    inside = following[:1]
    return (
        bool(inside)
        and inside[0].anchor is not None
        and (inside[0].level == 0 or inside[0].level > block.level)
        and kind_of_heading(block.title).outcome is not Outcome.UNSPECIFIED
    )


def _pour(document: Document, start: int, end: int, clauses: Sequence[_Clause], section: _Section) -> None:
    """Give plain lines to the innermost open clause, else to the section."""
    before = clauses[-1].lines[-1:] if clauses else [line for _, line in section.lines[-1:]]
    if before and not before[0].strip():  # no two runs of empty lines where a block was taken out between
        while start < end and not document.lines[start].strip():
            start += 1
    lines = document.lines[start:end]
    if clauses:
        clauses[-1].lines += lines
    else:
        section.lines += [(start + number, line) for number, line in enumerate(lines)]


def _part(clauses: Sequence[_Clause], section: _Section, line: int) -> None:
    """An empty line where a block was taken out, so that what was apart does not become one paragraph."""
    if clauses:
        if clauses[-1].lines and clauses[-1].lines[-1].strip():
            clauses[-1].lines.append("")
    elif section.lines and section.lines[-1][1].strip():
        section.lines.append((line, ""))


def _open_section(document: Document, block: Block, outer: Sequence[_Section]) -> _Section:
    values = block.attributes.values if block.attributes else {}
    stated = values.get("kind") or values.get("outcome")
    kind = kind_of_heading(stated if stated is not None else block.title)
    if kind is SectionKind.OTHER:
        if stated is not None and stated != SectionKind.OTHER:
            document.findings.append(
                Finding(document.file, block.start + 1, "bad-kind", f"No kind of section is called '{stated}'.")
            )
        if stated is None and outer:
            kind = outer[-1].kind
    return _Section(block.title, kind, block.level, block.start + 1)


def _finished(document: Document, section: _Section, category: str | None) -> Section:
    text = passage("\n".join(line for _, line in section.lines))
    examples: tuple[Example, ...] = ()
    rest = text
    if section.kind is SectionKind.EXAMPLES:
        examples, rest, findings = read_examples(section.lines, document.file)
        document.findings += findings
    return Section(
        title=section.title,
        kind=section.kind,
        text=rest,
        clauses=tuple(_clause(document, clause, category) for clause in section.clauses),
        examples=examples,
        file=document.file,
        line=section.line or next((number + 1 for number, line in section.lines if line.strip()), None),
    )


def _clause(document: Document, draft: _Clause, category: str | None) -> Clause:
    block = draft.block
    own = document.body(block) if not block.level else ""
    text = clause_passage("\n".join([own, *draft.lines]))
    values = dict(block.attributes.values) if block.attributes else {}
    stated = values.pop("outcome", None)
    outcome = default_outcome(draft.section.kind, draft.section.title, block.title, text)
    if stated is not None:
        named = outcome_named(stated)
        if named is None:
            document.findings.append(
                Finding(
                    document.file,
                    block.start + 1,
                    "bad-outcome",
                    f"Clause '{block.anchor}' has outcome={stated}; known: comply, refuse, safe_complete.",
                )
            )
        outcome = named or Outcome.UNSPECIFIED
    return Clause(
        anchor=block.anchor or "",
        title=block.title,
        outcome=outcome,
        text=text,
        attributes=values,
        category=category,
        file=document.file,
        line=block.start + 1,
    )
