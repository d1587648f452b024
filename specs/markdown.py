"""Reading Markdown by lines: front matter, headings and anchored blocks, each with the lines it takes up.

CommonMark decides what is a heading, a list item or fenced code (markdown-it-py, block rules only);
everything between the blocks we look for stays the source text, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from markdown_it.token import Token

from specdistill.schemas.safe_yaml import read_yaml
from specdistill.specs.findings import Finding
from specdistill.specs.passage import block_tokens, trimmed
from specdistill.specs.references import ANCHOR

_VALUE = r"""(?:"[^"]*"|'[^']*'|[^\s"'{}]+)"""
_ITEM = rf"(?:[A-Za-z_][\w.-]*={_VALUE}|\.[A-Za-z][\w-]*)"
_BLOCK = re.compile(
    rf"(?<![\\`{{$])\{{:?[ \t]*(?:#(?P<anchor>{ANCHOR})(?P<more>(?:\s+{_ITEM})*)"
    rf"|(?P<only>{_ITEM}(?:\s+{_ITEM})*))\s*\}}\s*$"
)
_MARKER = re.compile(r"^\s*(?:[-*+]|\d{1,9}[.)])(?:\s+|$)")


@dataclass(frozen=True)
class Attributes:
    """What `{#anchor key=value .class}` at the end of a line says."""

    anchor: str | None
    values: dict[str, str]


@dataclass(frozen=True)
class Block:
    """A heading, or a paragraph or list item that carries an anchor.

    Attributes:
        start: 0-based first line; `end` is one past the last.
        level: 1 to 6 for headings, 0 otherwise.
        title: of a heading, without its attributes.
        lead: the anchored paragraph, without its attributes and marker.
        rest: first line after `lead`; the lines from there to `end` belong to the same list item.
        indent: columns of the list marker, which `rest` is indented by.
    """

    start: int
    end: int
    level: int
    title: str
    lead: str
    attributes: Attributes | None
    rest: int = 0
    indent: int = 0

    @property
    def anchor(self) -> str | None:
        """Its anchor, if any."""
        return self.attributes.anchor if self.attributes else None


@dataclass
class Document:
    """One Markdown file, read: its lines, front matter, blocks in order, and what could not be read."""

    file: str
    lines: list[str]
    front: dict[str, Any]
    front_lines: dict[str, int]
    blocks: list[Block]
    findings: list[Finding] = field(default_factory=list)
    has_front: bool = False
    body_start: int = 0
    """0-based first line after the front matter."""

    def body(self, block: Block) -> str:
        """Text of an anchored paragraph or list item, without the anchored items nested in it."""
        inner = [other for other in self.blocks if block.rest <= other.start < block.end]
        holes = {line for other in inner for line in range(other.start, other.end)}
        rest = ["" if number in holes else self.lines[number] for number in range(block.rest, block.end)]
        dedented = [line[min(block.indent, len(line) - len(line.lstrip())) :] for line in rest]
        return trimmed("\n".join([block.lead, *dedented]))


def split_attributes(text: str) -> tuple[str, Attributes | None]:
    """The text and the attribute block at its end, if it has one that can be read."""
    match = _BLOCK.search(text)
    if match is None:
        return text, None
    items = re.findall(_ITEM, match["more"] or match["only"] or "")
    values: dict[str, str] = {}
    for item in items:
        key, _, value = ("class", "", item[1:]) if item.startswith(".") else item.partition("=")
        values[key] = value[1:-1] if value[:1] in "\"'" and value else value
    return text[: match.start()].rstrip(), Attributes(match["anchor"], values)


def read_document(text: str, file: str) -> Document:
    """A Markdown file as a `Document`. Never raises; what cannot be read is in `findings`."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "\ufffd")
    lines = text.split("\n")
    document = Document(file, lines, {}, {}, [])
    _read_front(document)
    body = [""] * document.body_start + lines[document.body_start :]
    tokens = block_tokens("\n".join(body))
    document.blocks = sorted(_blocks(document, tokens), key=lambda block: (block.start, -block.end))
    return document


def _read_front(document: Document) -> None:
    """Front matter between `---` lines, every value as the text that stands there."""
    lines = document.lines
    if lines[0].rstrip() != "---":
        return
    end = next((n for n in range(1, len(lines)) if lines[n].rstrip() in ("---", "...")), None)
    if end is None:
        document.findings.append(
            Finding(document.file, 1, "front-matter", "The front matter has no closing '---' line.")
        )
        return
    document.body_start, document.has_front = end + 1, True
    try:
        front = read_yaml("\n".join(lines[1:end]), strings=True)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = mark.line + 2 if mark else 1
        reason = getattr(exc, "problem", None) or "it is not YAML"
        document.findings.append(
            Finding(document.file, line, "front-matter", f"The front matter cannot be read: {reason}.")
        )
        return
    if front is None:
        return
    if not isinstance(front, dict):
        document.findings.append(
            Finding(document.file, 1, "front-matter", "The front matter is not a list of `key: value` lines.")
        )
        return
    document.front = front
    for number in range(1, end):
        key = lines[number].partition(":")[0].strip()
        if key in front:
            document.front_lines.setdefault(key, number + 1)


def _blocks(document: Document, tokens: list[Token]) -> Iterator[Block]:
    """Top-level headings, and anchored paragraphs and list items anywhere in lists."""
    items: list[tuple[int, int]] = []
    quotes = 0
    for number, token in enumerate(tokens):
        if token.type == "list_item_open" and token.map:
            items.append((token.map[0], _last_line(document, token.map[1])))
        elif token.type == "list_item_close":
            items.pop()
        elif token.type in ("blockquote_open", "blockquote_close"):
            quotes += 1 if token.type.endswith("open") else -1
        elif token.type == "heading_open" and token.level == 0 and token.map:
            content = " ".join(tokens[number + 1].content.split())
            title, attributes = split_attributes(content)
            if attributes is None:
                _warn_unread(document, token.map[0], content)
            yield Block(token.map[0], token.map[1], int(token.tag[1]), title.strip(), "", attributes)
        elif token.type == "paragraph_open" and token.map:
            content = tokens[number + 1].content
            if "{" not in content:
                continue
            if items and not quotes:
                yield from _item_blocks(document, items[-1], token.map[0], content)
            elif quotes:
                _warn_unread(document, token.map[0], content)
            else:
                yield from _paragraph_blocks(document, token.map[0], content)


def _last_line(document: Document, end: int) -> int:
    while end > 0 and not document.lines[end - 1].strip():
        end -= 1
    return end


def _paragraph_blocks(document: Document, start: int, content: str) -> Iterator[Block]:
    """One block for every line of a paragraph that ends in an anchor; the rest is plain."""
    begin = 0
    rows = content.split("\n")
    for number, row in enumerate(rows):
        text, attributes = split_attributes(row)
        if attributes is None or attributes.anchor is None:
            _warn_unread(document, start + number, row)
            continue
        body = trimmed("\n".join([*rows[begin:number], text]))
        end = start + number + 1
        yield Block(start + begin, end, 0, "", body, attributes, end)
        begin = number + 1


def _item_blocks(document: Document, item: tuple[int, int], start: int, content: str) -> Iterator[Block]:
    """One block for every line of an item that ends in an anchor; the last takes the rest of it."""
    rows = content.split("\n")
    ends = [number for number, row in enumerate(rows) if _anchor_of(row)]
    if start != item[0]:
        ends = []
    for number, row in enumerate(rows):
        if number not in ends:
            _warn_unread(document, start + number, row)
    marker = _MARKER.match(document.lines[item[0]])
    indent = len(marker.group()) if marker else 0
    begin = 0
    for number in ends:
        text, attributes = split_attributes(rows[number])
        lead = trimmed("\n".join([*rows[begin:number], text]))
        line = start + number + 1
        yield Block(start + begin, item[1] if number == ends[-1] else line, 0, "", lead, attributes, line, indent)
        begin = number + 1


def _anchor_of(text: str) -> str | None:
    attributes = split_attributes(text)[1]
    return attributes.anchor if attributes else None


def _warn_unread(document: Document, line: int, text: str) -> None:
    """Report something that looks like an anchor but is not one."""
    if match := re.search(r"\{:?\s*#[^}]*\}?", text):
        document.findings.append(
            Finding(
                document.file,
                line + 1,
                "unread-anchor",
                f"'{match.group()}' is not read as an anchor: write {{#anchor key=value}}, with letters, "
                "digits and '_.:-' only, at the end of a heading, a paragraph or a list item's paragraph.",
            )
        )
