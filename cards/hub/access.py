"""Who may do what: one token for the user, and links that carry their own proof."""

from __future__ import annotations

import hmac
import os
import secrets
import time
from hashlib import sha256
from pathlib import Path

TOKEN_FILE = "token"
USER = "local"
LIFETIME = 3600
"""Seconds an upload link or Xet token is good for."""


class Access:
    """The token of a local hub.

    State: the token, which is also the key that links are signed with.
    """

    def __init__(self, token: str) -> None:
        self.token = token

    @classmethod
    def of(cls, folder: Path) -> Access:
        """The token kept in a hub's folder (readable by its owner alone); made at the first start."""
        path = folder / TOKEN_FILE
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return cls(path.read_text(encoding="ascii").strip())
        with os.fdopen(handle, "w", encoding="ascii") as file:
            token = "hf_" + secrets.token_urlsafe(24).replace("-", "a").replace("_", "b")
            file.write(token + "\n")
        return cls(token)

    def is_user(self, authorization: str | None) -> bool:
        """Whether an Authorization header holds the token."""
        given = (authorization or "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), self.token.encode())

    def sign(self, *parts: str) -> str:
        """Proof that we made a link for these parts, good for `LIFETIME` seconds."""
        until = str(int(time.time()) + LIFETIME)
        return f"{until}.{self._mac(until, *parts)}"

    def is_signed(self, proof: str | None, *parts: str) -> bool:
        """Whether a proof fits the parts and has not run out."""
        until, _, mac = (proof or "").partition(".")
        fits = hmac.compare_digest(mac.encode(), self._mac(until, *parts).encode())
        return fits and until.isdigit() and int(until) > time.time()

    def _mac(self, *parts: str) -> str:
        return hmac.new(self.token.encode(), "\0".join(parts).encode(), sha256).hexdigest()
