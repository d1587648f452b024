"""The local hub in a thread, a wrapper around it that breaks requests on purpose, and a look at what it holds.

The wrapper serves faults only: every request it does not break goes to the real application.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import uvicorn

from specdistill.cards.hub.access import Access
from specdistill.cards.hub.app import LocalHub
from specdistill.cards.hub.store import HubStore

WORKER = Path(__file__).with_name("release_worker.py")


@dataclass
class Fault:
    """Break the request with this number (from 0, counted since the fault was set).

    `kind`: `refuse` answers `status` without doing anything; `lose` does it and cuts the connection before the answer;
    `error` does it and answers `status`; `cut` takes a part of the body and cuts the connection; `drop` cuts at once.
    """

    number: int
    kind: str
    status: int = 503


@dataclass
class FaultyHub:
    """An ASGI application around the local hub.

    State: the requests seen since the last reset, and the fault to serve.
    """

    app: LocalHub
    fault: Fault | None = None
    seen: list[str] = field(default_factory=list)
    served: list[str] = field(default_factory=list)

    def reset(self, fault: Fault | None = None) -> None:
        self.fault, self.seen, self.served = fault, [], []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        number = len(self.seen)
        self.seen.append(f"{scope['method']} {scope['path']}")
        fault = self.fault
        if fault is None or number != fault.number:
            await self.app(scope, receive, send)
            return
        self.served.append(f"{fault.kind}{fault.status} {self.seen[-1]}")
        if fault.kind in ("lose", "error"):
            await self.app(scope, receive, swallow)
        elif fault.kind == "cut":
            await receive()
        if fault.kind in ("lose", "cut", "drop"):
            headers = [(b"content-length", b"1000000"), (b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
            return  # an answer that is not complete: uvicorn cuts the connection
        headers = [(b"content-type", b"application/json"), (b"retry-after", b"0")]
        await send({"type": "http.response.start", "status": fault.status, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"error": "planted"}'})


async def swallow(message: Any) -> None:
    """An answer that never leaves."""


@dataclass
class RunningHub:
    """A hub that takes connections."""

    url: str
    token: str
    folder: Path
    faulty: FaultyHub
    environment: dict[str, str]

    @property
    def store(self) -> HubStore:
        """What it holds, read from disk."""
        return HubStore(self.folder)

    def env(self, home: Path, *, xet: bool) -> dict[str, str]:
        """Environment of a client: this hub, its token, a cache of its own."""
        return {
            **os.environ,
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.token,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "0" if xet else "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_XET_CLIENT_RETRY_BASE_DELAY": "20ms",
            "PYTHONPATH": str(WORKER.parent),
        }


class Uploads:
    """Commits and tags on a hub, by its HTTP interface: somebody else's data sets."""

    def __init__(self, hub: RunningHub) -> None:
        headers = {"Authorization": f"Bearer {hub.token}"}
        self.http = httpx.Client(base_url=hub.url, headers=headers, trust_env=False)

    def make(self, repo: str) -> None:
        """An empty dataset repository."""
        owner, name = repo.split("/")
        body = {"type": "dataset", "organization": owner, "name": name}
        assert self.http.post("/api/repos/create", json=body).status_code == 200

    def commit(self, repo: str, path: str, content: bytes | list[dict[str, Any]]) -> str:
        """Write a file, or rows as Parquet; the commit's id."""
        if isinstance(content, list):
            buffer = io.BytesIO()
            pl.DataFrame(content).write_parquet(buffer)
            content = buffer.getvalue()
        encoded = base64.b64encode(content).decode()
        lines = [
            {"key": "header", "value": {"summary": "s", "description": ""}},
            {"key": "file", "value": {"path": path, "content": encoded, "encoding": "base64"}},
        ]
        answer = self.http.post(f"/api/datasets/{repo}/commit/main", content="\n".join(map(json.dumps, lines)))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["commitOid"])

    def tag(self, repo: str, tag: str) -> None:
        """A tag on the head."""
        assert self.http.post(f"/api/datasets/{repo}/tag/main", json={"tag": tag}).status_code == 200


@contextmanager
def running_hub(folder: Path) -> Iterator[RunningHub]:
    """Serve a folder on a free loopback port."""
    access = Access.of(folder)
    faulty = FaultyHub(LocalHub(folder, access))
    server = uvicorn.Server(uvicorn.Config(faulty, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the hub did not start")
        threading.Event().wait(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield RunningHub(f"http://127.0.0.1:{port}", access.token, folder, faulty, {})
    finally:
        server.should_exit = True
        thread.join(timeout=10)


class Worker:
    """A process with the real client, asked line by line (see release_worker.py).

    State: the process.
    """

    def __init__(self, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True, bufsize=1
        )
        assert json.loads(self.line()) == "ready"

    def line(self) -> str:
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        if not text:
            raise RuntimeError("the worker is gone")
        return text

    def start(self, **asked: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked) + "\n")

    def ask(self, **asked: Any) -> dict[str, Any]:
        self.start(**asked)
        found: dict[str, Any] = json.loads(self.line())
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()


def releases(hub: RunningHub, repo: str) -> dict[str, str]:
    """Tags and their commits, each proven whole: exactly the manifest's files, each with its content.

    Also proves that no version was committed twice.
    """
    repository = hub.store.repository("datasets", repo)
    if not repository.refs_file.exists():
        return {}
    refs = repository.refs()
    for tag, oid in refs["tags"].items():
        tree = repository.commit_at(oid).tree
        manifest = json.loads(hub.store.objects.read(tree["manifest.json"].sha256))
        assert f"v{manifest['release']['version']}" == tag
        assert set(tree) == set(manifest["files"]) | {"manifest.json", ".gitattributes"}, tag
        for name, entry in manifest["files"].items():
            data = hub.store.objects.read(tree[name].sha256)
            assert hashlib.sha256(data).hexdigest() == entry["sha256"], name
            assert len(data) == entry["bytes"], name
    titles = [commit.title for commit in repository.history("main")]
    assert len(titles) == len(set(titles)), titles
    return dict(refs["tags"])
