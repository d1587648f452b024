"""Passages cut out of a document, made safe to stand in another place: fences closed, headings moved down."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.token import Token

CLAUSE_TEXT_LEVEL = 4
"""Headings inside a clause's text start at this level, below the headings that clauses have themselves."""

_HEADINGS = re.compile(r"^ {0,3}(?:#{1,6}(?:\s|$)|=+[ \t]*$|-+[ \t]*$)", re.MULTILINE)
_PROBE = "\n\n# end"


def block_tokens(text: str) -> list[Token]:
    """CommonMark blocks of a text, inline content unread."""
    markdown = MarkdownIt("commonmark")
    markdown.core.ruler.enableOnly(["normalize", "block"])
    return markdown.parse(text)


def trimmed(text: str) -> str:
    """Without empty lines at the start and white space at the end."""
    return re.sub(r"^(?:[ \t]*\n)+", "", text).rstrip()


def passage(text: str) -> str:
    """`trimmed`, with a code fence or HTML comment that the document never closed closed at the end."""
    text = trimmed(text)
    if not re.search(r"^ {0,3}(?:`{3}|~{3}|<)", text, re.MULTILINE):
        return text
    tokens = block_tokens(text + _PROBE)
    if tokens[-1].type == "heading_close":
        return text
    last = tokens[-1]
    end = last.markup if last.type == "fence" else "-->"
    closed = f"{text}\n{end}"
    return closed if block_tokens(closed + _PROBE)[-1].type == "heading_close" else text


def clause_passage(text: str) -> str:
    """A clause's text: a `passage` whose highest heading is at `CLAUSE_TEXT_LEVEL` or below."""
    text = passage(text)
    if not _HEADINGS.search(text):
        return text
    tokens = block_tokens(text)
    heads = [
        (token.map, int(token.tag[1]), tokens[number + 1].content)
        for number, token in enumerate(tokens)
        if token.type == "heading_open" and token.level == 0 and token.map
    ]
    down = CLAUSE_TEXT_LEVEL - min((level for _, level, _ in heads), default=CLAUSE_TEXT_LEVEL)
    if down <= 0:
        return text
    lines = text.split("\n")
    for (start, end), level, content in reversed(heads):
        mark = "#" * min(6, level + down)
        lines[start:end] = [f"{mark} {' '.join(content.split())}".rstrip()]
    return trimmed("\n".join(lines))
