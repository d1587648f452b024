"""How work that takes a while says how far it is."""

from __future__ import annotations

from collections.abc import Callable

Step = Callable[[str, int, int], None]
"""Told (what is done, rows done, rows in all or 0 where nobody knows)."""


def nobody(name: str, done: int, total: int) -> None:
    """Nobody is told."""
