"""Taking over a policy that somebody wrote as Markdown: our layout, and a report of what has no place in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from specdistill.errors import DiskError, SpecError, UsageError
from specdistill.schemas.vocabulary import Outcome
from specdistill.specs.findings import Finding, in_order
from specdistill.specs.layout import write_spec
from specdistill.specs.loader import Parsed, parse_spec
from specdistill.specs.model import Section, Spec
from specdistill.specs.words import SectionKind

UNPLACED = "unplaced.md"
"""Beside the imported policy: the text that became part of no category. Never read."""

_PROSE = (SectionKind.DEFINITIONS, SectionKind.GUIDANCE, SectionKind.EDGE_CASES, SectionKind.EXAMPLES)


@dataclass(frozen=True)
class ImportReport:
    """What an import made and what it could not place.

    Attributes:
        spec: the policy as read.
        folder: where it was written.
        unresolved: what needs a person, in order of file and line of the source: `no-anchor` (text that nothing
            can cite), `no-outcome` (a clause that states none), and everything the reader complained about.
    """

    spec: Spec
    folder: Path
    unresolved: tuple[Finding, ...]


def import_spec(source: str | Path, folder: str | Path, *, overwrite: bool = False) -> ImportReport:
    """Read any Markdown policy (a file, or a folder of them) and write it in our layout.

    Text that is part of no category is written to `unplaced.md` beside it, so nothing is lost.

    Raises:
        SpecError: the source cannot be read, has no anchor at all, or has one twice.
        UsageError: the folder is not empty and `overwrite` is false.
        DiskError: the folder cannot be written.
    """
    root = Path(folder)
    if root.exists() and not overwrite and (not root.is_dir() or any(root.iterdir())):
        raise UsageError(f"'{root}' exists and is not empty.", "Name another folder, or pass --overwrite.")
    parsed = parse_spec(source)
    wrong = [f for f in parsed.findings if f.code in ("duplicate-anchor", "duplicate-category", "front-matter")]
    if wrong:
        places = "; ".join(f"line {f.line}: {f.message}" for f in wrong[:5])
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise SpecError(
            f"The document does not say one thing: {places}{more}.".replace("..", "."),
            "Give every clause and category a name of its own.",
            file=wrong[0].file,
            line=wrong[0].line,
        )
    if not parsed.spec.clauses:
        raise SpecError(
            "The document has no anchored rule.",
            "End each rule's heading or paragraph with an anchor, e.g. {#do_not_lie authority=user}.",
            file=source,
        )
    write_spec(parsed.spec, root)
    try:
        leftovers = unplaced_text(parsed)
        if leftovers:
            (root / UNPLACED).write_text(leftovers, encoding="utf-8")
        else:
            (root / UNPLACED).unlink(missing_ok=True)
    except OSError as exc:
        cause = f"The spec cannot be written to {root}: {exc.strerror or exc}."
        raise DiskError(cause, "Free some space or name another folder.") from exc
    return ImportReport(parsed.spec, root, tuple(unresolved(parsed)))


def unresolved(parsed: Parsed) -> list[Finding]:
    """What a person has to look at, each with its place in the source."""
    found = [*parsed.findings]
    for text in parsed.unplaced:
        message = f"'{text.title}' is in no category: {text.why}; kept in {UNPLACED}."
        found.append(Finding(text.file, text.line, "no-anchor", message, "warning"))
    for category, section in parsed.spec.parts():
        found += _section_gaps(section, styled=category is None)
    return in_order(found)


def _section_gaps(section: Section, *, styled: bool) -> list[Finding]:
    found = []
    if section.text and section.kind not in _PROSE:
        name = f"'{section.title}'" if section.title else "the introduction"
        message = f"Text of {name} has no anchor: it is shown, but nothing can cite it."
        found.append(Finding(section.file, section.line, "no-anchor", message, "warning"))
    for clause in section.clauses:
        rule = not styled and section.kind is not SectionKind.GUIDANCE
        if rule and clause.outcome is Outcome.UNSPECIFIED:
            message = f"Clause '{clause.anchor}' states no outcome; it is unspecified."
            found.append(Finding(clause.file, clause.line, "no-outcome", message, "warning"))
    return found


def unplaced_text(parsed: Parsed) -> str:
    """The unplaced texts as Markdown, each under its heading with its place in the source; empty if there is none."""
    passages = [
        f"## {text.title}\n\n*{Path(text.file).name}, line {text.line}: {text.why}*\n\n{text.text}".rstrip()
        for text in parsed.unplaced
    ]
    return "\n\n".join(["# Not part of the policy", *passages]) + "\n" if passages else ""
