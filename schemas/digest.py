"""Content keys. One hash, one encoding, so that keys made in different rooms agree."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
"""One encoder for all: making one costs as much as encoding a small key."""


def digest(*parts: Any) -> str:
    """A 128-bit hex key of any JSON-able parts; equal content has equal key, whatever the order of dict keys."""
    return blake2b(_encode(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
