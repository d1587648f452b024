"""One request as the handlers see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from specdistill.cards.hub.access import USER, Access
from specdistill.cards.hub.model import Entry, HubError
from specdistill.cards.hub.store import HubStore, Repository
from specdistill.cards.hub.xet import XetStore

Answer = tuple[Any, dict[str, str]]
"""JSON body and headers."""


@dataclass(frozen=True)
class Call:
    """A request.

    Attributes:
        base: URL of this server, without a slash at the end.
        parts: named parts of the path, unquoted.
        query: query parameters, last one of a name.
        headers: lower-case names.
        body: the whole body; empty for uploads, which are streamed.
    """

    store: HubStore
    xet: XetStore
    access: Access
    base: str
    parts: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def known(self) -> bool:
        """Whether the caller holds the token."""
        return self.access.is_user(self.headers.get("authorization"))

    def need_user(self) -> None:
        """Refuse a caller without the token.

        Raises:
            HubError: 401.
        """
        if not self.known:
            raise HubError(401, "Invalid username or password.")

    def json(self) -> dict[str, Any]:
        """The body as a JSON object.

        Raises:
            HubError: 400.
        """
        try:
            found = json.loads(self.body or b"{}")
        except ValueError:
            raise HubError(400, "The body is no JSON.") from None
        if not isinstance(found, dict):
            raise HubError(400, "The body is no JSON object.")
        return found

    def repository(self, *, write: bool = False, content: bool = False) -> Repository:
        """The repository the path names, if the caller may see it.

        Args:
            write: the caller wants to change it.
            content: the caller wants its files, which a gated one gives only to the user.

        Raises:
            HubError: 401 or 404; a private repository looks like none to strangers.
        """
        repository = self.store.repository(self.parts["type"], f"{self.parts['org']}/{self.parts['name']}")
        if write:
            self.need_user()
        refs = repository.refs()
        if refs["private"] and not self.known:
            raise HubError(401, "Repository not found", "RepoNotFound")
        if content and refs["gated"] and not self.known:
            raise HubError(401, "Access to this repository is restricted.", "GatedRepo")
        return repository


def file_record(path: str, entry: Entry, xet: XetStore) -> dict[str, Any]:
    """A file as listings show it."""
    record: dict[str, Any] = {"type": "file", "path": path, "oid": entry.oid, "size": entry.size}
    if entry.lfs:
        record["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": 134}
        if name := xet.hash_of(entry.sha256):
            record["xetHash"] = name
    return record


def whoami() -> dict[str, Any]:
    """The one user of a local hub."""
    return {
        "type": "user",
        "id": USER,
        "name": USER,
        "fullname": "user of this local hub",
        "orgs": [],
        "auth": {"type": "access_token", "accessToken": {"displayName": "local", "role": "write"}},
    }
