"""spec(category): what a model is shown. The same policy and categories always give the same text.

Overview of all categories, the style principles, the full detail of one category (or of several, for
prompts that touch more than one), and the clauses of other categories that it refers
to (arXiv 2412.16339, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from specdistill.errors import SpecError
from specdistill.schemas.digest import digest
from specdistill.schemas.vocabulary import Outcome
from specdistill.specs.model import Category, Clause, Section, Spec
from specdistill.specs.references import cited
from specdistill.specs.words import SectionKind

OUTCOME_TITLES = {
    Outcome.COMPLY: "Comply",
    Outcome.REFUSE: "Refuse",
    Outcome.SAFE_COMPLETE: "Safe-complete",
    Outcome.UNSPECIFIED: "Other rules",
}
_NAMED_IN_ERROR = 6


@dataclass(frozen=True)
class Rendered:
    """A rendered spec(category).

    Attributes:
        text: what the model is shown, Markdown.
        digest: digest of `text`; rows carry it.
        categories: ids shown in full, in the policy's order.
        anchors: every known anchor that is visible in the text, in order; citing one of them is no invention.
        shown: those of them whose clause is given in full.
        parts: name and text of each part, which joined by blank lines are `text`.
        tokens: by the `count` given; None without one.
    """

    text: str
    digest: str
    categories: tuple[str, ...]
    anchors: tuple[str, ...]
    shown: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]
    tokens: int | None = None


def render(
    spec: Spec,
    categories: str | Sequence[str],
    *,
    examples: bool = False,
    budget: int | None = None,
    count: Callable[[str], int] | None = None,
) -> Rendered:
    """What a model is shown for one category, or for the union of several.

    Args:
        categories: one id, or several in any order; the text does not depend on the order.
        examples: also show the worked examples.
        budget: most tokens by `count`.
        count: tokens of a text, by the generator's tokenizer.

    Raises:
        SpecError: an unknown category, or more tokens than the budget; then it says by how many and names the
            largest parts with their sizes.
        ValueError: a budget without a `count`, or no category at all.
    """
    if budget is not None and count is None:
        raise ValueError("a token budget needs a function that counts tokens")
    wanted = [categories] if isinstance(categories, str) else list(categories)
    if not wanted:
        raise ValueError("name at least one category")
    ids = {spec.category(name).id for name in wanted}
    chosen = [category for category in spec.categories if category.id in ids]
    parts = [*_common_parts(spec)]
    for category in chosen:
        parts += category_parts(category, examples=examples)
    own = {clause.anchor for clause in (*spec.style_clauses, *(c for cat in chosen for c in cat.clauses))}
    pulled = cross_references(spec, chosen, examples=examples)
    if pulled:
        parts.append(("cross-referenced clauses", _appendix(spec, pulled)))
    text = "\n\n".join(part for _, part in parts) + "\n"
    full = own | {clause.anchor for clause in pulled}
    shown = tuple(anchor for anchor in spec.anchors if anchor in full)
    mentioned = [anchor for anchor in cited(text, spec.by_anchor) if anchor in spec.by_anchor]
    tokens = count(text) if count else None
    rendered = Rendered(
        text=text,
        digest=digest(text),
        categories=tuple(category.id for category in chosen),
        anchors=tuple(dict.fromkeys([*mentioned, *shown])),
        shown=shown,
        parts=tuple(parts),
        tokens=tokens,
    )
    if budget is not None and count is not None and tokens is not None and tokens > budget:
        raise _too_long(spec, rendered, tokens, budget, count)
    return rendered


def category_text(category: Category, *, examples: bool = False) -> str:
    """One category in full, without overview, style and cross-references."""
    return "\n\n".join(text for _, text in category_parts(category, examples=examples))


def cross_references(spec: Spec, chosen: Sequence[Category], *, examples: bool = False) -> list[Clause]:
    """Clauses of other categories that these categories or the style refer to, in the policy's order.

    One step only: what a pulled-in clause refers to in turn is not pulled in.
    """
    texts = [text for category in chosen for _, text in category_parts(category, examples=examples)]
    texts += [text for section in spec.style for _, text in _style_parts(section)]
    named = {anchor for text in texts for anchor in cited(text, spec.by_anchor)}
    own = {clause.anchor for category in chosen for clause in category.clauses}
    return [c for c in spec.clauses if c.anchor in named and c.anchor not in own and c.category is not None]


def clause_text(clause: Clause, note: str = "") -> str:
    """One clause as shown: a heading with its anchor in brackets, then the rule."""
    facts = [f"{key}: {value}" for key, value in sorted(clause.attributes.items())]
    facts += [note] if note else []
    extra = f" ({'; '.join(facts)})" if facts else ""
    title = f"{clause.title} " if clause.title else ""
    return f"#### {title}[{clause.anchor}]{extra}" + (f"\n{clause.text}" if clause.text else "")


def overview(spec: Spec) -> str:
    """The policy's overview and the summaries of all categories: what a classifier is shown."""
    return "\n\n".join(text for _, text in _common_parts(spec)[:2])


def _common_parts(spec: Spec) -> list[tuple[str, str]]:
    overview = f"# {spec.title}" + (f"\n\n{spec.overview}" if spec.overview else "")
    lines = [f"- {c.title} (`{c.id}`){': ' + c.summary if c.summary else ''}" for c in spec.categories]
    parts = [("overview", overview), ("category summaries", "## All categories\n\n" + "\n".join(lines))]
    style = [item for section in spec.style for item in _style_parts(section)]
    if style:
        name, text = style[0]
        style[0] = (name, f"## {spec.style_title}\n\n{text}")
    return parts + style


def _style_parts(section: Section) -> list[tuple[str, str]]:
    head = "\n\n".join(part for part in (f"### {section.title}" if section.title else "", section.text) if part)
    parts = [(f"style: {section.title or 'introduction'}", head)] if head else []
    return parts + [(f"style [{clause.anchor}]", clause_text(clause)) for clause in section.clauses]


def category_parts(category: Category, *, examples: bool = False) -> list[tuple[str, str]]:
    """(name, text) of the parts of one category, in the order shown.

    Definitions, further context, the clauses by outcome, guidance, edge cases, and on request the examples.
    """
    parts: list[tuple[str, str]] = [(f"{category.id}: title", f"## {category.title} in full")]

    def add(section: Section, fallback: str) -> None:
        if section.text:
            title = section.title or fallback
            parts.append((f"{category.id}: {title}", f"### {title}\n\n{section.text}"))

    for section in category.of_kind(SectionKind.DEFINITIONS):
        add(section, "Definitions")
    for section in category.of_kind(SectionKind.OTHER):
        add(section, "Context")
    for outcome, title in OUTCOME_TITLES.items():
        group: list[tuple[str, str]] = []
        for section in category.sections:
            if section.kind is SectionKind.GUIDANCE:
                continue
            if section.text and section.kind.outcome is outcome is not Outcome.UNSPECIFIED:
                group.append((f"{category.id}: {section.title or title}", section.text))
            group += [(f"[{c.anchor}]", clause_text(c)) for c in section.clauses if c.outcome is outcome]
        parts += _headed(title, group)
    for section in category.of_kind(SectionKind.GUIDANCE):
        group = [(f"{category.id}: guidance", section.text)] if section.text else []
        group += [(f"[{clause.anchor}]", clause_text(clause)) for clause in section.clauses]
        parts += _headed(section.title or "Guidance", group)
    for section in category.of_kind(SectionKind.EDGE_CASES):
        add(section, "Edge cases")
    if examples:
        parts += _example_parts(category)
    return parts


def _headed(title: str, group: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The group with a heading before its first part; nothing for an empty group."""
    if not group:
        return []
    (name, text), *rest = group
    return [(name, f"### {title}\n\n{text}"), *rest]


def _example_parts(category: Category) -> list[tuple[str, str]]:
    shown = [f'- [{e.anchor}] {e.outcome}: "{e.prompt}"{" — " + e.why if e.why else ""}' for e in category.examples]
    texts = [section.text for section in category.of_kind(SectionKind.EXAMPLES) if section.text]
    body = "\n\n".join([*texts, "\n".join(shown)] if shown else texts)
    return [(f"{category.id}: examples", f"### Examples\n\n{body}")] if body else []


def _appendix(spec: Spec, pulled: Sequence[Clause]) -> str:
    titles = {category.id: category.title for category in spec.categories}
    clauses = []
    for clause in pulled:
        outcome = "" if clause.outcome is Outcome.UNSPECIFIED else f", {clause.outcome}"
        clauses.append(clause_text(clause, f"{titles.get(clause.category or '', clause.category)}{outcome}"))
    return "## Clauses of other categories referred to above\n\n" + "\n\n".join(clauses)


def _too_long(spec: Spec, rendered: Rendered, tokens: int, budget: int, count: Callable[[str], int]) -> SpecError:
    sizes = sorted(((count(text), name) for name, text in rendered.parts), key=lambda pair: (-pair[0], pair[1]))
    largest = ", ".join(f"{name} ({size})" for size, name in sizes[:_NAMED_IN_ERROR])
    names = ", ".join(rendered.categories)
    return SpecError(
        f"spec({names}) has {tokens} tokens, {tokens - budget} over the budget of {budget}.",
        f"Cut or shorten its largest parts (tokens): {largest}; or raise the budget.",
        file=spec.root,
    )
