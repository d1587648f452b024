"""What a policy's author should mend before a model is taught from it, each fault with its file and line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from specdistill.schemas.vocabulary import Outcome
from specdistill.specs.findings import Finding, in_order
from specdistill.specs.loader import Parsed, parse_spec
from specdistill.specs.model import Category, Clause, Section, Spec
from specdistill.specs.passage import trimmed
from specdistill.specs.references import ANCHOR, cited
from specdistill.specs.render import category_text
from specdistill.specs.tokens import estimate
from specdistill.specs.words import SectionKind, outcome_named

MOST_TOKENS = 1500
"""A category longer than this is hard to reason over, for models and for readers."""

_VERDICT = re.compile(rf"(?:→|->)\s*(?P<outcome>[A-Za-z][\w-]*)\s*\[(?P<anchor>{ANCHOR})\]")
_NEEDED = (Outcome.COMPLY, Outcome.REFUSE, Outcome.SAFE_COMPLETE)


def lint(
    source: Spec | str | Path, *, count: Callable[[str], int] = estimate, most_tokens: int = MOST_TOKENS
) -> list[Finding]:
    """Every fault of a policy, in order of file and line.

    Codes: duplicate-anchor, duplicate-category, dangling-reference, empty-clause, empty-section,
    empty-outcome, unspecified-outcome, bad-outcome, bad-kind, unread-anchor, unread-example, unknown-clause
    and contradiction (of examples and edge cases), no-examples, unplaced, too-long, front-matter,
    no-front-matter, no-id, no-title, no-version, no-licence, no-summary, no-style, unknown-key, no-category.

    Args:
        source: a loaded policy, or where to read one; only reading shows faults of the text itself.
        count: tokens of a text.
        most_tokens: largest size of a category without its examples.

    Raises:
        SpecError: the source cannot be read at all.
    """
    parsed = Parsed(source, ()) if isinstance(source, Spec) else parse_spec(source)
    spec = parsed.spec
    found = [*parsed.findings]
    found += [
        Finding(text.file, text.line, "unplaced", f"'{text.title}' is in no category: {text.why}.", "warning")
        for text in parsed.unplaced
    ]
    if not spec.style_clauses:
        message = "No style document says how to comply, refuse and safe-complete."
        found.append(Finding(spec.root, None, "no-style", message, "warning"))
    for category, section in spec.parts():
        found += _section_faults(spec, section)
        for clause in section.clauses:
            found += _clause_faults(spec, clause, section, styled=category is None)
    for category_ in spec.categories:
        found += _category_faults(category_, count, most_tokens)
    found += _overview_faults(spec)
    return in_order(found)


def _known(spec: Spec) -> set[str]:
    return {*spec.by_anchor, *(category.id for category in spec.categories)}


def _dangling(spec: Spec, text: str, file: str | None, line: int | None, where: str) -> Iterator[Finding]:
    known = _known(spec)
    for anchor in cited(text, known):
        if anchor not in known:
            message = f"{where} refers to '{anchor}', which does not exist."
            yield Finding(file, _line_of(file, line, anchor), "dangling-reference", message)


def _line_of(file: str | None, start: int | None, anchor: str) -> int | None:
    """The line of a reference: the first at or after `start` that has it in brackets or as a link."""
    if file is None or start is None or not Path(file).is_file():
        return start
    lines = Path(file).read_text("utf-8", errors="replace").split("\n")
    pattern = re.compile(rf"[\[,;#]\s*{re.escape(anchor)}\s*[\],;)]")
    return next((n for n in range(start, len(lines) + 1) if pattern.search(lines[n - 1])), start)


def _clause_faults(spec: Spec, clause: Clause, section: Section, *, styled: bool) -> Iterator[Finding]:
    if not trimmed(clause.text):
        message = f"Clause '{clause.anchor}' has no text."
        yield Finding(clause.file, clause.line, "empty-clause", message)
    rule = not styled and section.kind is not SectionKind.GUIDANCE
    if rule and clause.outcome is Outcome.UNSPECIFIED:
        message = (
            f"Clause '{clause.anchor}' states no outcome: put it under Comply, Refuse or Safe-complete, "
            "or write outcome=… beside its anchor."
        )
        yield Finding(clause.file, clause.line, "unspecified-outcome", message, "warning")
    yield from _dangling(spec, clause.text, clause.file, clause.line, f"Clause '{clause.anchor}'")


def _section_faults(spec: Spec, section: Section) -> Iterator[Finding]:
    name = f"Section '{section.title}'" if section.title else "The text before the first heading"
    if section.title and not (section.text or section.clauses or section.examples):
        yield Finding(section.file, section.line, "empty-section", f"{name} is empty.", "warning")
    yield from _dangling(spec, section.text, section.file, section.line or 1, name)
    for example in section.examples:
        yield from _verdict(spec, example.anchor, example.outcome, "Example", example.file, example.line)
    if section.kind is SectionKind.EDGE_CASES:
        for match in _VERDICT.finditer(section.text):
            outcome = outcome_named(match["outcome"])
            if outcome is not None and match["anchor"] in spec.by_anchor:
                line = _verdict_line(section, match.group())
                yield from _verdict(spec, match["anchor"], outcome, "Edge case", section.file, line)


def _verdict_line(section: Section, text: str) -> int | None:
    if section.file is None or section.line is None:
        return section.line
    lines = Path(section.file).read_text("utf-8", errors="replace").split("\n")
    return next((n for n in range(section.line, len(lines) + 1) if text in lines[n - 1]), section.line)


def _verdict(
    spec: Spec, anchor: str, outcome: Outcome, what: str, file: str | None, line: int | None
) -> Iterator[Finding]:
    clause = spec.by_anchor.get(anchor)
    if clause is None:
        yield Finding(file, line, "unknown-clause", f"{what} cites '{anchor}', which does not exist.")
    elif clause.outcome not in (outcome, Outcome.UNSPECIFIED):
        message = f"{what} gives {outcome} for '{anchor}', but that clause says {clause.outcome}."
        yield Finding(file, line, "contradiction", message)


def _category_faults(category: Category, count: Callable[[str], int], most: int) -> Iterator[Finding]:
    for outcome in _NEEDED:
        if not any(clause.outcome is outcome for clause in _rules(category)):
            message = f"Category '{category.id}' has no {outcome} clause."
            yield Finding(category.file, category.line, "empty-outcome", message, "warning")
    if not category.summary:
        message = f"Category '{category.id}' has no summary for the overview."
        yield Finding(category.file, category.line, "no-summary", message, "warning")
    size = count(category_text(category))
    if size > most:
        message = f"Category '{category.id}' has {size} tokens; more than {most} are hard to reason over."
        yield Finding(category.file, category.line, "too-long", message, "warning")
    shown = {example.anchor for example in category.examples}
    bare = [clause.anchor for clause in _rules(category) if clause.anchor not in shown] if shown else []
    if bare:
        message = f"No worked example in category '{category.id}' for: {', '.join(bare)}."
        yield Finding(category.file, category.line, "no-examples", message, "warning")


def _rules(category: Category) -> Sequence[Clause]:
    """Clauses that ask for an outcome: all but guidance."""
    return [c for s in category.sections if s.kind is not SectionKind.GUIDANCE for c in s.clauses]


def _overview_faults(spec: Spec) -> Iterator[Finding]:
    file = spec.root
    if file is not None and Path(file).is_dir() and (Path(file) / "spec.md").is_file():
        file = str(Path(file) / "spec.md")
    yield from _dangling(spec, spec.overview, file, 1, "The overview")
