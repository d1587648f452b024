"""Reading repositories as JSON: information, trees, refs, history."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import yaml

from specdistill.cards.hub.call import Answer, Call, file_record
from specdistill.cards.hub.model import Commit, HubError, blob_oid
from specdistill.cards.hub.store import DEFAULT_BRANCH
from specdistill.schemas.safe_yaml import read_yaml

PAGE = 500
"""Entries of a listing in one answer; more come with a `Link` to the next page."""


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
        found = read_yaml(block)
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
