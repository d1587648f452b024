"""File contents in and out: `resolve`, LFS uploads, and the Xet store."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.responses import FileResponse, JSONResponse, Response

from specdistill.cards.hub.access import LIFETIME
from specdistill.cards.hub.call import Answer, Call
from specdistill.cards.hub.model import HubError

RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def resolve(call: Call) -> Response:
    """GET and HEAD …/resolve/REVISION/PATH."""
    repository = call.repository(content=True)
    commit = repository.commit_at(call.parts["revision"])
    entry = commit.tree.get(call.parts["path"])
    headers = {"X-Repo-Commit": commit.oid}
    if entry is None:
        raise HubError(404, "Entry not found", "EntryNotFound")
    headers["ETag"] = f'"{entry.sha256 if entry.lfs else entry.oid}"'
    if entry.lfs:
        headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(entry.size)}
        if name := call.xet.hash_of(entry.sha256):
            route = f"{call.base}/api/{repository.kind}/{repository.name}/xet-read-token/{commit.oid}"
            headers |= {"X-Xet-Hash": name, "X-Xet-Refresh-Route": route, "Link": f'<{route}>; rel="xet-auth"'}
    path = call.store.objects.path(entry.sha256)
    return FileResponse(path, headers=headers, media_type="application/octet-stream")


def lfs_batch(call: Call) -> Answer:
    """POST /ID.git/info/lfs/objects/batch: where to send what is not here yet."""
    call.repository(write=True)
    objects = []
    for asked in call.json().get("objects") or []:
        digest, size = str(asked.get("oid")), int(asked.get("size", 0))
        answer: dict[str, Any] = {"oid": digest, "size": size, "authenticated": True}
        if not call.store.objects.has(digest):
            link = f"{call.base}/lfs/{digest}?{urlencode({'proof': call.access.sign('lfs', digest)})}"
            answer["actions"] = {"upload": {"href": link, "header": {}}}
        objects.append(answer)
    return {"transfer": "basic", "objects": objects}, {}


async def lfs_put(call: Call, body: AsyncIterator[bytes]) -> Response:
    """PUT /lfs/DIGEST: the content of one file, at a link from `lfs_batch`."""
    digest = call.parts["digest"]
    if not call.access.is_signed(call.query.get("proof"), "lfs", digest):
        raise HubError(403, "The upload link is not valid or has run out.")
    with call.store.objects.receive() as incoming:
        async for piece in body:
            incoming.write(piece)
        if incoming.digest != digest:
            raise HubError(400, "The content is not what its SHA-256 says.")
        incoming.keep()
    return Response(status_code=200)


def xet_token(call: Call) -> Answer:
    """GET /api/TYPE/ID/xet-read-token/REVISION and xet-write-token."""
    mode = call.parts["mode"]
    call.repository(write=mode == "write", content=True)
    token, until = call.access.sign("xet", mode), int(time.time()) + LIFETIME
    url = f"{call.base}/xet"
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(until)}
    return {"casUrl": url, "accessToken": token, "exp": until}, headers


def need_xet(call: Call, *modes: str) -> None:
    """Refuse a caller without a Xet token for one of the modes.

    Raises:
        HubError: 401.
    """
    token = call.headers.get("authorization", "").removeprefix("Bearer ")
    if not any(call.access.is_signed(token, "xet", mode) for mode in modes):
        raise HubError(401, "The Xet token is not valid or has run out.")


async def xorb_put(call: Call, body: AsyncIterator[bytes]) -> Response:
    """POST /xet/v1/xorbs/default/HASH."""
    need_xet(call, "write")
    received = call.xet.root / "incoming" / secrets.token_hex(12)
    received.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(received, "wb") as handle:
            async for piece in body:
                handle.write(piece)
        new = await asyncio.to_thread(call.xet.add_xorb, call.parts["hash"], received)
    finally:
        with suppress(FileNotFoundError):
            received.unlink()
    return JSONResponse({"was_inserted": new})


def shard_post(call: Call) -> Answer:
    """POST /xet/v1/shards: 1 says that it was registered."""
    need_xet(call, "write")
    call.xet.add_shard(call.body)
    return {"result": 1}, {}


def reconstruction(call: Call) -> Answer:
    """GET /xet/v1/reconstructions/HASH."""
    need_xet(call, "read", "write")
    start, end = 0, None
    if asked := call.headers.get("range"):
        match = RANGE.fullmatch(asked)
        if not match:
            raise HubError(400, "The range cannot be read.")
        start, end = int(match[1]), int(match[2]) if match[2] else None

    def link(name: str) -> str:
        return f"{call.base}/xet/data/{name}?{urlencode({'proof': call.access.sign('xorb', name)})}"

    return call.xet.reconstruction(call.parts["hash"], start, end, link), {}


def xorb_get(call: Call) -> Response:
    """GET /xet/data/HASH: a range of a xorb, at a link from `reconstruction`."""
    name = call.parts["hash"]
    if not call.access.is_signed(call.query.get("proof"), "xorb", name):
        raise HubError(403, "The link is not valid or has run out.")
    path: Path = call.xet.xorb(name)
    if not path.is_file():
        raise HubError(404, "Unknown xorb.")
    return FileResponse(path, media_type="application/octet-stream")
