"""Text that can be stored and shown: no lone surrogates, no NULs."""

from __future__ import annotations


def storable(text: str) -> str:
    """The text with lone surrogates and NULs replaced by U+FFFD, so that UTF-8, Parquet and SQLite can hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return text.replace("\x00", "\ufffd")
