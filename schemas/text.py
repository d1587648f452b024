"""Text that can be stored and shown: no lone surrogates, no NULs, nothing that a terminal obeys."""

from __future__ import annotations

from pathlib import PurePath


def storable(text: str) -> str:
    """The text with lone surrogates and NULs replaced by U+FFFD, so that UTF-8, Parquet and SQLite can hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return text.replace("\x00", "\ufffd")


def without_folder(name: str) -> str:
    """The last part of an absolute path; any other name as it is. What is published tells no folder of the machine."""
    return PurePath(name).name if PurePath(name).is_absolute() else name


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
