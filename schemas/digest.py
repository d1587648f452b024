"""Content keys. One hash, one encoding, so that keys made in different rooms agree."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any


def digest(*parts: Any) -> str:
    """A 128-bit hex key of any JSON-able parts; equal content has equal key, whatever the order of dict keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
