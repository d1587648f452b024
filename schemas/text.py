"""Text that can be stored and shown: no lone surrogates, no NULs, nothing that a terminal obeys."""

from __future__ import annotations


def storable(text: str) -> str:
    """The text with lone surrogates and NULs replaced by U+FFFD, so that UTF-8, Parquet and SQLite can hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return text.replace("\x00", "\ufffd")


def visible(text: str) -> str:
    """The text with everything that a terminal obeys or hides as an escape: control characters (line ends and tabs
    excepted), marks that turn the writing direction, invisible and private characters."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else escaped(char) for char in text)


def escaped(char: str) -> str:
    """A character as JSON writes it: `\\u202e`, or two halves beyond U+FFFF."""
    halves = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{halves[at : at + 4]}" for at in range(0, len(halves), 4))
