"""Untrusted text as data: fenced so that it cannot close its own fence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from specdistill.schemas.digest import digest


def quote(label: str, text: str) -> str:
    """Text between tags that carry a digest of the text itself.

    A text cannot contain its own digest, so nothing inside can end the quotation and speak as us.
    """
    tag = f"{label}-{digest(text)[:8]}"
    return f"<{tag}>\n{text}\n</{tag}>"


def policy(text: str) -> str:
    """The rendered spec between fixed tags.

    Every request, generation and judging alike, begins with this very text, so a server's prefix cache computes it
    once; therefore no digest of it in the tag.
    """
    return f"<policy>\n{text}\n</policy>"


def transcript(messages: Sequence[dict[str, Any]]) -> str:
    """A conversation, each turn quoted with its role, so that no turn can speak for another."""
    return "\n\n".join(quote(str(message["role"]), str(message["content"])) for message in messages)
