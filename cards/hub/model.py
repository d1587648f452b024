"""Commits, trees and errors of the local hub, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha1


class HubError(Exception):
    """A request that cannot be served.

    Args:
        status: HTTP status.
        code: the Hub's `X-Error-Code`, if it has one for this.
        more: further fields of the answer.
    """

    def __init__(self, status: int, message: str, code: str | None = None, **more: str) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.more = status, message, code, more


@dataclass(frozen=True)
class Entry:
    """One file of a tree.

    Attributes:
        sha256: its content.
        size: bytes.
        oid: git's name for the blob (for LFS, for its pointer).
        lfs: whether it is stored as LFS.
    """

    sha256: str
    size: int
    oid: str
    lfs: bool


@dataclass(frozen=True)
class Commit:
    """A commit. `tree` is path to entry."""

    oid: str
    parent: str | None
    title: str
    message: str
    created: str
    tree: Mapping[str, Entry]


@dataclass(frozen=True)
class Change:
    """One line of a commit: a path gets an entry, or (None) goes; a folder path ends in `/`."""

    path: str
    entry: Entry | None


def now() -> str:
    """UTC in the Hub's form."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def blob_oid(data: bytes) -> str:
    """Git's name for a blob."""
    return sha1(b"blob %d\x00" % len(data) + data, usedforsecurity=False).hexdigest()


def lfs_entry(digest: str, size: int) -> Entry:
    """The entry of an LFS file; its git name is that of the pointer."""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n"
    return Entry(digest, size, blob_oid(pointer.encode()), True)


def applied(tree: Mapping[str, Entry], changes: Sequence[Change]) -> dict[str, Entry]:
    """A tree after changes, in order.

    Raises:
        HubError: 404, a file or folder to delete is not there.
    """
    result = dict(tree)
    for change in changes:
        if change.entry is not None:
            result[change.path] = change.entry
        elif change.path.endswith("/"):
            inside = [path for path in result if path.startswith(change.path)]
            if not inside:
                raise HubError(404, f"A folder with this name doesn't exist: {change.path}", "EntryNotFound")
            for path in inside:
                del result[path]
        elif result.pop(change.path, None) is None:
            raise HubError(404, f"A file with this name doesn't exist: {change.path}", "EntryNotFound")
    return result
