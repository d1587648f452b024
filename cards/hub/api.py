"""The JSON interface: repositories, trees, refs, commits."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any
from urllib.parse import quote, urlencode

import yaml

from specdistill.cards.hub.call import Call, file_record, whoami
from specdistill.cards.hub.store import (
    DEFAULT_BRANCH,
    Change,
    Commit,
    Entry,
    HubError,
    Repository,
    blob_oid,
    lfs_entry,
)

PAGE = 500
"""Entries of a listing in one answer; more come with a `Link` to the next page."""
BIG = 10_000_000
"""Bytes from which a file is LFS whatever its name."""
LFS_ENDINGS = (".arrow", ".bin", ".gguf", ".gz", ".parquet", ".pt", ".safetensors", ".zip", ".zst")

Answer = tuple[Any, dict[str, str]]
"""JSON body and headers."""


def user(call: Call) -> Answer:
    """GET /api/whoami-v2."""
    call.need_user()
    return whoami(), {}


def create(call: Call) -> Answer:
    """POST /api/repos/create."""
    call.need_user()
    asked = call.json()
    kind = f"{asked.get('type') or 'model'}s"
    name = f"{asked.get('organization') or 'local'}/{asked.get('name')}"
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    url = f"{call.base}/{'' if kind == 'models' else kind + '/'}{name}"
    try:
        call.store.create(kind, name, private=private)
    except HubError as exc:
        raise HubError(exc.status, exc.message, exc.code, url=url) from exc  # clients read it where they may exist
    return {"url": url, "name": name, "id": name}, {}


def delete(call: Call) -> Answer:
    """DELETE /api/repos/delete."""
    call.need_user()
    asked = call.json()
    call.store.delete(f"{asked.get('type') or 'model'}s", f"{asked.get('organization') or 'local'}/{asked.get('name')}")
    return {}, {}


def settings(call: Call) -> Answer:
    """PUT /api/TYPE/ID/settings."""
    call.repository(write=True).change_settings(call.json())
    return {}, {}


def listing(call: Call) -> Answer:
    """GET /api/TYPE."""
    kind = call.parts["type"]
    found = []
    for name in call.store.names(kind):
        refs = call.store.repository(kind, name).refs()
        if call.known or not refs["private"]:
            found.append({"id": name, "private": refs["private"], "tags": []})
    return found, {}


def info(call: Call) -> Answer:
    """GET /api/TYPE/ID and /api/TYPE/ID/revision/REVISION."""
    repository = call.repository()
    refs = repository.refs()
    commit = repository.commit_at(call.parts.get("revision") or DEFAULT_BRANCH)
    blobs = call.query.get("blobs", "").lower() in ("1", "true")
    siblings = []
    for path, entry in commit.tree.items():
        sibling: dict[str, Any] = {"rfilename": path}
        if blobs:
            record = file_record(path, entry, call.xet)
            sibling |= {"size": entry.size, "blobId": entry.oid}
            if entry.lfs:
                sibling["lfs"] = {
                    "sha256": entry.sha256,
                    "size": entry.size,
                    "pointerSize": record["lfs"]["pointerSize"],
                }
        siblings.append(sibling)
    return {
        "_id": repository.name,
        "id": repository.name,
        "author": repository.name.partition("/")[0],
        "sha": commit.oid,
        "createdAt": refs["created"],
        "lastModified": commit.created,
        "private": refs["private"],
        "gated": refs["gated"],
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "cardData": card_data(call, commit),
        "siblings": siblings,
        "usedStorage": sum(entry.size for entry in commit.tree.values()),
    }, {}


def card_data(call: Call, commit: Commit) -> dict[str, Any]:
    """The front matter of README.md; empty where there is none that can be read."""
    entry = commit.tree.get("README.md")
    if entry is None:
        return {}
    text = call.store.objects.read(entry.sha256).decode(errors="replace")
    return front_matter(text)[0]


def front_matter(text: str) -> tuple[dict[str, Any], str | None]:
    """The YAML block a card starts with, and what is wrong with it."""
    if not text.startswith("---\n"):
        return {}, None
    block, closed, _ = text[4:].partition("\n---")
    if not closed:
        return {}, "The metadata block is not closed."
    try:
        found = yaml.safe_load(block)
    except yaml.YAMLError as exc:
        return {}, f"The metadata is no YAML: {exc}"
    return (found, None) if isinstance(found, dict) else ({}, "The metadata is no mapping.")


def validate_yaml(call: Call) -> Answer:
    """POST /api/validate-yaml: that the block can be read, not what the Hub checks of its values."""
    _, wrong = front_matter(str(call.json().get("content", "")))
    if wrong:
        raise HubError(400, wrong)
    return {"errors": [], "warnings": []}, {}


def tree(call: Call) -> Answer:
    """GET /api/TYPE/ID/tree/REVISION[/PATH], paged."""
    commit = call.repository(content=True).commit_at(call.parts["revision"])
    folder = call.parts.get("path", "").strip("/")
    inside = f"{folder}/" if folder else ""
    recursive = call.query.get("recursive", "").lower() in ("1", "true")
    found: dict[str, dict[str, Any]] = {}
    for path, entry in commit.tree.items():
        if not path.startswith(inside):
            continue
        steps = path[len(inside) :].split("/")
        for depth in range(1, len(steps)):
            name = inside + "/".join(steps[:depth])
            if recursive or depth == 1:
                found.setdefault(name, folder_record(name))
        if recursive or len(steps) == 1:
            found[path] = file_record(path, entry, call.xet)
    if folder and not found:
        raise HubError(404, f"{folder} does not exist on {call.parts['revision']}", "EntryNotFound")
    records = [found[name] for name in sorted(found)]
    if call.query.get("expand", "").lower() in ("1", "true"):
        last = {"id": commit.oid, "title": commit.title, "date": commit.created}
        records = [record | {"lastCommit": last} for record in records]
    start = int(call.query.get("cursor", "0")) if call.query.get("cursor", "0").isdigit() else 0
    limit = min(int(call.query["limit"]), PAGE) if call.query.get("limit", "").isdigit() else PAGE
    headers = {}
    if start + limit < len(records):
        more = urlencode(dict(call.query) | {"cursor": start + limit})
        place = "/".join(
            [
                "api",
                call.parts["type"],
                call.parts["org"],
                call.parts["name"],
                "tree",
                quote(call.parts["revision"], safe=""),
            ]
            + ([quote(folder, safe="")] if folder else [])
        )
        headers["Link"] = f'<{call.base}/{place}?{more}>; rel="next"'
    return records[start : start + limit], headers


def folder_record(path: str) -> dict[str, Any]:
    """A folder as listings show it."""
    return {"type": "directory", "path": path, "oid": blob_oid(path.encode()), "size": 0}


def paths_info(call: Call) -> Answer:
    """POST /api/TYPE/ID/paths-info/REVISION."""
    commit = call.repository(content=True).commit_at(call.parts["revision"])
    asked = call.json().get("paths") or []
    records = []
    for path in [asked] if isinstance(asked, str) else asked:
        plain = str(path).strip("/")
        if entry := commit.tree.get(plain):
            records.append(file_record(plain, entry, call.xet))
        elif any(name.startswith(f"{plain}/") for name in commit.tree):
            records.append(folder_record(plain))
    return records, {}


def refs(call: Call) -> Answer:
    """GET /api/TYPE/ID/refs."""
    found = call.repository().refs()

    def shown(group: str, prefix: str) -> list[dict[str, str]]:
        return [
            {"name": name.removeprefix("refs/pr/"), "ref": f"{prefix}{name}", "targetCommit": oid}
            for name, oid in sorted(found[group].items())
        ]

    return {
        "branches": shown("branches", "refs/heads/"),
        "tags": shown("tags", "refs/tags/"),
        "pullRequests": shown("pulls", ""),
        "converts": [],
    }, {}


def commits(call: Call) -> Answer:
    """GET /api/TYPE/ID/commits/REVISION."""
    history = call.repository().history(call.parts["revision"])
    return [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.message,
            "date": commit.created,
            "authors": [{"user": "local"}],
        }
        for commit in history
    ], {}


def add_tag(call: Call) -> Answer:
    """POST /api/TYPE/ID/tag/REVISION."""
    call.repository(write=True).add_ref("tags", str(call.json().get("tag", "")), call.parts["revision"])
    return {}, {}


def drop_tag(call: Call) -> Answer:
    """DELETE /api/TYPE/ID/tag/TAG."""
    call.repository(write=True).drop_ref("tags", call.parts["revision"])
    return {}, {}


def add_branch(call: Call) -> Answer:
    """POST /api/TYPE/ID/branch/BRANCH."""
    start = str(call.json().get("startingPoint") or DEFAULT_BRANCH)
    call.repository(write=True).add_ref("branches", call.parts["revision"], start)
    return {}, {}


def drop_branch(call: Call) -> Answer:
    """DELETE /api/TYPE/ID/branch/BRANCH."""
    call.repository(write=True).drop_ref("branches", call.parts["revision"])
    return {}, {}


def preupload(call: Call) -> Answer:
    """POST /api/TYPE/ID/preupload/REVISION: how each file is to be sent, and what is there under its name."""
    commit = call.repository(write=True).commit_at(call.parts["revision"])
    answers = []
    for file in call.json().get("files") or []:
        path, size = safe_path(str(file.get("path", ""))), int(file.get("size", 0))
        mode = "lfs" if size and (path.endswith(LFS_ENDINGS) or size > BIG) else "regular"
        answer = {"path": path, "uploadMode": mode, "shouldIgnore": False}
        if there := commit.tree.get(path):
            answer["oid"] = there.sha256 if there.lfs else there.oid
        answers.append(answer)
    return {"files": answers, "commitOid": commit.oid}, {}


def commit(call: Call) -> Answer:
    """POST /api/TYPE/ID/commit/REVISION: one line of JSON each for the header and every change, all or nothing."""
    repository = call.repository(write=True)
    header: dict[str, Any] = {}
    changes: list[Change] = []
    for line in call.body.splitlines():
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                header = value
            else:
                changes.append(change_of(call, key, value))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise HubError(400, f"A line of the commit cannot be read: {exc!r}") from exc
    oid, number = repository.add_commit(
        call.parts["revision"],
        changes,
        str(header.get("summary", "")),
        str(header.get("description", "")),
        parent=header.get("parentCommit"),
        pull_request=call.query.get("create_pr") == "1",
    )
    return committed(call, repository, oid, number), {}


def committed(call: Call, repository: Repository, oid: str, number: int | None) -> dict[str, Any]:
    """What a commit is answered with."""
    page = f"{call.base}/{'' if repository.kind == 'models' else repository.kind + '/'}{repository.name}"
    return {
        "success": True,
        "commitOid": oid,
        "commitUrl": f"{page}/commit/{oid}",
        "hookOutput": "",
        **({"pullRequestUrl": f"{page}/discussions/{number}"} if number is not None else {}),
    }


def change_of(call: Call, key: str, value: dict[str, Any]) -> Change:
    """One line of a commit.

    Raises:
        HubError: 400, an object that was not uploaded or an unknown kind of line.
    """
    path = safe_path(str(value["path"]).rstrip("/") if key == "deletedFolder" else str(value["path"]))
    if key == "file":
        try:
            data = base64.b64decode(value["content"], validate=True)
        except (binascii.Error, ValueError) as exc:
            raise HubError(400, f"The content of {path} is no base64.") from exc
        return Change(path, Entry(call.store.objects.put(data), len(data), blob_oid(data), False))
    if key == "lfsFile":
        digest = str(value["oid"])
        if not call.store.objects.has(digest):
            raise HubError(400, f"The content of {path} was not uploaded.")
        return Change(path, lfs_entry(digest, call.store.objects.path(digest).stat().st_size))
    if key in ("deletedFile", "deletedFolder"):
        return Change(f"{path}/" if key == "deletedFolder" else path, None)
    raise HubError(400, f"Unknown kind of change: {key}")


def safe_path(path: str) -> str:
    """A path inside a repository.

    Raises:
        HubError: 400, it leads elsewhere.
    """
    steps = path.split("/")
    if not path or len(path) > 1024 or any(step in ("", ".", "..", ".git") for step in steps) or "\0" in path:
        raise HubError(400, f"Invalid path: {path!r}")
    return path
