"""File contents by SHA-256. An object exists complete or not at all, and is never changed."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from specdistill.schemas.files import sync_folder

SHA256 = re.compile(r"[0-9a-f]{64}")


class Incoming:
    """A file being received: written, hashed, and kept under its digest.

    State: an open temporary file and the digest so far.
    """

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.path = objects.root / "incoming" / secrets.token_hex(12)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.handle = open(self.path, "wb")  # noqa: SIM115 - closed in `keep` or `drop`
        self.state = sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Take the next piece."""
        self.handle.write(data)
        self.state.update(data)
        self.size += len(data)

    @property
    def digest(self) -> str:
        """SHA-256 of what has come so far."""
        return self.state.hexdigest()

    def keep(self) -> str:
        """Make it an object. Returns its digest."""
        self.handle.flush()
        os.fsync(self.handle.fileno())
        self.handle.close()
        place = self.objects.path(self.digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.path, place)
        sync_folder(place.parent)
        return self.digest

    def drop(self) -> None:
        """Forget it."""
        self.handle.close()
        with suppress(FileNotFoundError):
            self.path.unlink()


class Objects:
    """The contents of all files of all repositories.

    State: a folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Where an object lies.

        Raises:
            ValueError: not a SHA-256 in hex; such a name must never reach the disk.
        """
        if not SHA256.fullmatch(digest):
            raise ValueError(f"not a SHA-256: {digest!r}")
        return self.root / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Whether the object is there."""
        return SHA256.fullmatch(digest) is not None and self.path(digest).is_file()

    def put(self, data: bytes) -> str:
        """Store a small file. Returns its digest."""
        with self.receive() as incoming:
            incoming.write(data)
            return incoming.keep()

    def read(self, digest: str) -> bytes:
        """A small file."""
        return self.path(digest).read_bytes()

    @contextmanager
    def receive(self) -> Iterator[Incoming]:
        """Receive a file; it is forgotten unless `keep` is called."""
        incoming = Incoming(self)
        try:
            yield incoming
        finally:
            incoming.drop()


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically."""
    import json

    from specdistill.schemas.files import write_whole

    write_whole(path, json.dumps(value, separators=(",", ":"), sort_keys=True).encode())
