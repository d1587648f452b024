"""What the front matter of our files may say, and what is missing from it."""

from __future__ import annotations

from collections.abc import Sequence

from specdistill.specs.findings import Finding
from specdistill.specs.markdown import Document

SPEC_KEYS = ("id", "title", "version", "licence", "authors", "categories")
CATEGORY_KEYS = ("id", "title", "summary")
STYLE_KEYS = ("kind", "title")
_ALSO = {"license": "licence", "author": "authors"}


def _spellings(key: str) -> list[str]:
    return [other for other, ours in _ALSO.items() if ours == key]


def word(document: Document, key: str) -> str:
    """A front matter value on one line; empty where there is none."""
    value = document.front.get(key, "")
    return " ".join(str(value).split()) if isinstance(value, str) else ""


def spec_head(document: Document, fallback: str) -> dict[str, object]:
    """The fields of a spec that its front matter gives."""
    front = {_ALSO.get(key, key): value for key, value in document.front.items()}
    authors = front.get("authors") or ()
    names = [authors] if isinstance(authors, str) else [str(name) for name in authors]
    head: dict[str, object] = {
        "id": word(document, "id") or fallback,
        "authors": tuple(name.strip() for name in names if name.strip()),
        "licence": " ".join(str(front.get("licence") or "").split()) or None,
    }
    if version := word(document, "version"):
        head["version"] = version
    return head


def front_findings(document: Document, known: Sequence[str], needed: Sequence[str]) -> list[Finding]:
    """Missing front matter, missing values, and keys nobody reads."""
    found = []
    if not document.has_front:
        return [Finding(document.file, 1, "no-front-matter", f"Front matter is missing: {', '.join(known)}.")]
    keys = {_ALSO.get(key, key) for key in document.front}
    for key in needed:
        if key not in keys or not any(document.front.get(name) for name in (key, *_spellings(key))):
            found.append(Finding(document.file, 1, f"no-{key}", f"The front matter has no '{key}'.", "warning"))
    for key in document.front:
        if _ALSO.get(key, key) not in known:
            line = document.front_lines.get(key, 1)
            found.append(
                Finding(
                    document.file,
                    line,
                    "unknown-key",
                    f"'{key}' is not read; known keys: {', '.join(known)}.",
                    "warning",
                )
            )
    return found
