"""Changing repositories over JSON: creation, settings, refs, commits."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from specdistill.cards.hub.call import Answer, Call, whoami
from specdistill.cards.hub.model import Change, Entry, HubError, blob_oid, lfs_entry
from specdistill.cards.hub.store import DEFAULT_BRANCH, Repository

BIG = 10_000_000
"""Bytes from which a file is LFS whatever its name."""
LFS_ENDINGS = (".arrow", ".bin", ".gguf", ".gz", ".parquet", ".pt", ".safetensors", ".zip", ".zst")


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
