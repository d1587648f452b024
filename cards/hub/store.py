"""Repositories on disk: immutable commits, and one atomically replaced file of refs per repository.

    repos/TYPE/ORG/NAME/refs.json            branches, tags, pull requests, private, gated
    repos/TYPE/ORG/NAME/commits/OID.json     parent, message, time, and the whole tree
    objects/                                 file contents (`objects.Objects`)

Killing the process at any moment leaves every ref on a commit whose tree and objects are complete: objects are
durable before the commit, the commit before the ref.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha1
from pathlib import Path
from typing import Any

from specdistill.cards.hub.model import Change, Commit, Entry, HubError, applied, blob_oid, now
from specdistill.cards.hub.objects import Objects, write_json

TYPES = ("models", "datasets", "spaces")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
REF = re.compile(r"(?!.*(\.\.|//|@\{|\.lock$))[A-Za-z0-9][A-Za-z0-9._/+-]{0,199}")
OID = re.compile(r"[0-9a-f]{40}")
GITATTRIBUTES = "".join(
    f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n"
    for ending in ("arrow", "bin", "gguf", "gz", "parquet", "pt", "safetensors", "zip", "zst")
)
DEFAULT_BRANCH = "main"


class Repository:
    """One repository.

    State: its folder. Nothing is cached, so several processes may serve one folder.
    """

    def __init__(self, store: HubStore, kind: str, name: str) -> None:
        self.store, self.kind, self.name = store, kind, name
        self.folder = store.root / "repos" / kind / name

    @property
    def refs_file(self) -> Path:
        """Branches, tags and settings."""
        return self.folder / "refs.json"

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Read the refs, change them, and have them replaced at the end; one writer at a time, in all processes."""
        with self.store.writing(self.folder / ".lock"):
            refs = self.refs()
            yield refs
            write_json(self.refs_file, refs)

    def refs(self) -> dict[str, Any]:
        """The current refs.

        Raises:
            HubError: 404, there is no such repository.
        """
        try:
            found: dict[str, Any] = json.loads(self.refs_file.read_bytes())
        except FileNotFoundError:
            raise HubError(404, "Repository not found", "RepoNotFound") from None
        return found

    def resolve(self, revision: str) -> str:
        """The commit a branch, tag, `refs/…` or full oid names.

        Raises:
            HubError: 404.
        """
        refs = self.refs()
        short = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        for group in ("branches", "tags", "pulls"):
            if oid := refs[group].get(short):
                return str(oid)
        if OID.fullmatch(revision) and (self.folder / "commits" / f"{revision}.json").is_file():
            return revision
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def commit_at(self, revision: str) -> Commit:
        """The commit a revision names.

        Raises:
            HubError: 404.
        """
        oid = self.resolve(revision)
        raw = json.loads((self.folder / "commits" / f"{oid}.json").read_bytes())
        raw["tree"] = {path: Entry(**entry) for path, entry in raw["tree"].items()}
        return Commit(oid=oid, **raw)

    def history(self, revision: str) -> Iterator[Commit]:
        """Commits from a revision back to the first."""
        oid: str | None = self.resolve(revision)
        while oid:
            commit = self.commit_at(oid)
            yield commit
            oid = commit.parent

    def add_commit(
        self,
        branch: str,
        changes: Sequence[Change],
        title: str,
        message: str = "",
        *,
        parent: str | None = None,
        pull_request: bool = False,
    ) -> tuple[str, int | None]:
        """Commit to a branch, or to a new pull request from it.

        Args:
            parent: the head this commit was made for; any other head is refused.

        Returns:
            The commit's oid, and the pull request's number.

        Raises:
            HubError: 404 unknown branch or file to delete, 412 another head, 400 nothing to do.
        """
        with self.changing() as refs:
            group = "pulls" if branch in refs["pulls"] else "branches"
            head = refs[group].get(branch)
            if head is None:
                raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            if parent and parent != head:
                raise HubError(412, "A commit has happened since. Please refresh and try again.")
            tree = applied(self.commit_at(head).tree, changes)
            oid = self.write_commit(head, tree, title, message)
            if not pull_request:
                refs[group][branch] = oid
                return oid, None
            number = len(refs["pulls"]) + 1
            refs["pulls"][f"refs/pr/{number}"] = oid
            return oid, number

    def write_commit(self, parent: str | None, tree: Mapping[str, Entry], title: str, message: str) -> str:
        """Store a commit; no ref points at it yet."""
        raw = {
            "parent": parent,
            "title": title,
            "message": message,
            "created": now(),
            "tree": {path: asdict(entry) for path, entry in sorted(tree.items())},
        }
        oid = sha1(json.dumps([raw, os.urandom(8).hex()], sort_keys=True).encode(), usedforsecurity=False).hexdigest()
        write_json(self.folder / "commits" / f"{oid}.json", raw)
        return oid

    def add_ref(self, group: str, name: str, revision: str) -> None:
        """Create a tag or branch.

        Raises:
            HubError: 400 not a name, 404 unknown revision, 409 it exists.
        """
        if not REF.fullmatch(name):
            raise HubError(400, f"Invalid reference name: {name}")
        oid = self.resolve(revision)
        with self.changing() as refs:
            if name in refs[group]:
                raise HubError(409, f"Reference already exists: {name}")
            refs[group][name] = oid

    def drop_ref(self, group: str, name: str) -> None:
        """Delete a tag or branch.

        Raises:
            HubError: 404 there is none, 403 it is the default branch.
        """
        if group == "branches" and name == DEFAULT_BRANCH:
            raise HubError(403, "The default branch cannot be deleted.")
        with self.changing() as refs:
            if refs[group].pop(name, None) is None:
                raise HubError(404, f"Reference not found: {name}", "RevisionNotFound")

    def change_settings(self, settings: Mapping[str, Any]) -> None:
        """Set `private` or `gated`."""
        with self.changing() as refs:
            if "visibility" in settings:
                refs["private"] = settings["visibility"] == "private"
            for key in ("private", "gated"):
                if key in settings:
                    refs[key] = settings[key]


class HubStore:
    """All repositories of one folder.

    State: the folder, and locks of this process.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects = Objects(root / "objects")
        self._locks: dict[Path, threading.Lock] = {}
        self._guard = threading.Lock()

    @contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Hold a lock in this process and in all others."""
        with self._guard:
            lock = self._locks.setdefault(path, threading.Lock())
        with lock:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield

    def repository(self, kind: str, name: str) -> Repository:
        """A repository by type (`datasets`, …) and id; it need not exist.

        Raises:
            HubError: 400, a name that must not reach the disk.
        """
        parts = name.split("/")
        good = len(parts) == 2 and all(NAME.fullmatch(part) and ".." not in part for part in parts)
        if kind not in TYPES or not good:
            raise HubError(400, f"Invalid repository name: {name}")
        return Repository(self, kind, name)

    def create(self, kind: str, name: str, *, private: bool = False) -> Repository:
        """Create a repository with its first commit.

        Raises:
            HubError: 409 it exists.
        """
        repository = self.repository(kind, name)
        with self.writing(repository.folder / ".lock"):
            if repository.refs_file.exists():
                raise HubError(409, "You already created this repo")
            data = GITATTRIBUTES.encode()
            first = {".gitattributes": Entry(self.objects.put(data), len(data), blob_oid(data), False)}
            oid = repository.write_commit(None, first, "initial commit", "")
            refs = {"branches": {DEFAULT_BRANCH: oid}, "tags": {}, "pulls": {}}
            write_json(repository.refs_file, refs | {"private": private, "gated": False, "created": now()})
        return repository

    def delete(self, kind: str, name: str) -> None:
        """Delete a repository.

        Raises:
            HubError: 404 there is none.
        """
        repository = self.repository(kind, name)
        repository.refs()
        with self.writing(repository.folder / ".lock"):
            repository.refs_file.unlink(missing_ok=True)
            shutil.rmtree(repository.folder, ignore_errors=True)

    def names(self, kind: str) -> list[str]:
        """Ids of all repositories of a type."""
        found = (self.root / "repos" / kind).glob("*/*/refs.json")
        return sorted(f"{path.parent.parent.name}/{path.parent.name}" for path in found)
