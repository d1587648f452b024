"""A diff of two policies for readers: word by word, and as Markdown for a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any, Literal, NamedTuple

from specdistill.specs.diff import ChangeKind, ClauseChange, SpecDiff
from specdistill.specs.model import Clause
from specdistill.specs.semver import Advice, Level


class Run(NamedTuple):
    """A stretch of words that is in one version only, or in both."""

    side: Literal["both", "before", "after"]
    text: str


def word_runs(before: str, after: str) -> list[Run]:
    """The two texts as runs: joining `both` and `before` gives the old text, `both` and `after` the new one."""
    left, right = _words(before), _words(after)
    runs: list[Run] = []
    for tag, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if tag == "equal":
            runs.append(Run("both", "".join(left[a:b])))
            continue
        runs += [Run("before", "".join(left[a:b]))] if b > a else []
        runs += [Run("after", "".join(right[c:d]))] if d > c else []
    return runs


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|\s+|[^\w\s]", text)


def clause_lines(clause: Clause | None) -> str:
    """A clause as compared: anchor, outcome, category and attributes on the first line, then title and text."""
    if clause is None:
        return ""
    facts = [str(clause.outcome), clause.category or "style"]
    facts += [f"{key}={value}" for key, value in sorted(clause.attributes.items())]
    head = f"[{clause.anchor}] {', '.join(facts)}"
    return "\n".join(part for part in (head, clause.title, clause.text) if part)


def advice_line(advice: Advice) -> str:
    """The version advice in one line."""
    if advice.level is Level.NONE:
        return f"Nothing changed; version {advice.stated} may stay."
    step = f"{advice.level.name.lower()} ({', '.join(advice.reasons[:4])}{' …' if len(advice.reasons) > 4 else ''})"
    if advice.needed is None:
        return f"These changes are {step}; '{advice.current}' is no semantic version."
    if advice.enough:
        return f"These changes are {step}; version {advice.stated} says so."
    return f"These changes are {step}: the version should be {advice.needed} or later, not {advice.stated}."


def diff_markdown(changes: SpecDiff, advice: Advice) -> str:
    """The whole diff as a Markdown page: advice, a table of changed clauses, and every change word by word."""
    before, after = changes.before, changes.after
    lines = [f"# {after.title}: {before.version} → {after.version}", "", advice_line(advice), ""]
    if changes.clauses:
        lines += ["| clause | change | outcome | category |", "| --- | --- | --- | --- |"]
        lines += [_row(change) for change in changes.clauses]
        lines.append("")
    for change in changes.clauses:
        lines += [f"## [{change.anchor}] {' and '.join(change.kinds)}", "", *_clause_body(change), ""]
    if changes.parts:
        lines += ["## Outside clauses", ""]
    for part in changes.parts:
        lines += [f"### {part.part}: {part.kind}", "", *_quoted(part.before, part.after), ""]
    return "\n".join(lines).rstrip() + "\n"


def _row(change: ClauseChange) -> str:
    before, after = change.before or change.clause, change.after or change.clause
    anchor = _arrow(before.anchor, after.anchor)
    places = _arrow(before.category or "style", after.category or "style")
    cells = [anchor, ", ".join(change.kinds), _arrow(before.outcome, after.outcome), places]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def _clause_body(change: ClauseChange) -> Iterator[str]:
    before, after = change.before, change.after
    ours = "\n".join(part for part in (before.title, before.text) if part) if before else ""
    theirs = "\n".join(part for part in (after.title, after.text) if part) if after else ""
    if before and after and before.attributes != after.attributes:
        yield f"Attributes: {before.attributes} → {after.attributes}"
        yield ""
    yield from _quoted(ours, theirs)


def _quoted(before: str, after: str) -> Iterator[str]:
    """Word-level changes as a quotation, with removed words struck out and added ones bold."""
    marked = ""
    for run in word_runs(before, after):
        marked += run.text if run.side == "both" else _marked(run.text, "~~" if run.side == "before" else "**")
    for line in marked.split("\n"):
        yield f"> {line}".rstrip()


def _marked(text: str, mark: str) -> str:
    """Every line of a text between marks, its outer white space outside of them."""
    return "\n".join(
        re.sub(r"^(\s*)(.*?)(\s*)$", rf"\1{mark}\2{mark}\3", line, flags=re.DOTALL) if line.strip() else line
        for line in text.split("\n")
    )


def diff_json(changes: SpecDiff, advice: Advice) -> dict[str, Any]:
    """The whole diff for machines."""

    def clause(value: Clause | None) -> dict[str, Any] | None:
        return value.content() | {"digest": value.digest} if value else None

    return {
        "before": {"id": changes.before.id, "version": changes.before.version, "digest": changes.before.digest},
        "after": {"id": changes.after.id, "version": changes.after.version, "digest": changes.after.digest},
        "clauses": [
            {
                "anchor": change.anchor,
                "kinds": [str(kind) for kind in change.kinds],
                "before": clause(change.before),
                "after": clause(change.after),
            }
            for change in changes.clauses
        ],
        "parts": [
            {"part": p.part, "kind": str(p.kind), "category": p.category, "before": p.before, "after": p.after}
            for p in changes.parts
        ],
        "counts": {str(kind): len(changes.of_kind(kind)) for kind in ChangeKind},
        "advice": {
            "level": advice.level.name.lower(),
            "reasons": list(advice.reasons),
            "needed": advice.needed,
            "stated": advice.stated,
            "enough": advice.enough,
        },
    }
