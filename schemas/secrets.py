"""Keys and tokens have no place in a recipe: it is copied into the run, the manifest and every release.

What is refused here is never quoted, not even in the error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

LOOKS_SECRET = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{12,}"
    r"|Bearer\s+[A-Za-z0-9._~+/-]{12,})"
)
"""Forms of keys that are easy to know; the scan before a release knows hundreds more."""
_NAMES = """
apikey hftoken token accesstoken authtoken useauthtoken authorization password passwd secret clientsecret
"""
NAMES = frozenset(_NAMES.split())
"""Keys that ask for a secret, without case, `-` and `_`."""

Place = tuple[Any, ...]


def secret_places(values: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """(place, what it holds) of everything in a document that is, or asks for, a secret."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            name = re.sub(r"[-_]", "", str(key)).lower()
            if name in NAMES and value is not None:
                yield (*place, key), f"'{key}' asks for a secret"
            else:
                yield from secret_places(value, (*place, key))
    elif isinstance(values, list | tuple):
        for number, value in enumerate(values):
            yield from secret_places(value, (*place, number))
    elif isinstance(values, str):
        if LOOKS_SECRET.search(values):
            yield place, "this looks like a key or token"
        elif has_password(values):
            yield place, "this address holds a user name or password"


def has_password(text: str) -> bool:
    """Whether a text is an address with something before the `@` of its host."""
    if "://" not in text or "@" not in text:
        return False
    try:
        return "@" in urlsplit(text.strip()).netloc
    except ValueError:
        return False
