"""The ASGI application: from a request's raw path to its handler, and from errors to the Hub's error headers.

The path is matched before unquoting, since a revision such as `refs/pr/1` is one quoted part of it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from specdistill.cards.hub import api, listing, transfer
from specdistill.cards.hub.access import Access
from specdistill.cards.hub.call import Call
from specdistill.cards.hub.model import HubError
from specdistill.cards.hub.store import HubStore
from specdistill.cards.hub.xet import XetStore
from specdistill.errors import DiskError

MAX_BODY = 512_000_000
"""Bytes of a JSON body or shard; larger files come as streams."""
_ID = r"(?P<org>[^/]+)/(?P<name>[^/]+)"
_API = rf"/api/(?P<type>models|datasets|spaces)/{_ID}"
_REV = r"(?P<revision>[^/]+)"
_PREFIX = r"/(?:(?P<type>datasets|spaces)/)?"
ABOUT = """specdistill local hub

Speaks enough of the Hugging Face Hub's protocol for specdistill: repositories, commits, tags, branches, pull requests,
downloads, LFS and Xet. It is for rehearsing releases and for tests on this machine. It is not a server for others: one
user, one token, no TLS, no web pages, no git, no search, no dataset viewer, no garbage collection.
"""

Handler = Callable[..., Any]
ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", r"/api/whoami-v2", api.user),
    ("POST", r"/api/repos/create", api.create),
    ("DELETE", r"/api/repos/delete", api.delete),
    ("POST", r"/api/validate-yaml", listing.validate_yaml),
    ("GET", r"/api/(?P<type>models|datasets|spaces)", listing.listing),
    ("GET", _API, listing.info),
    ("GET", rf"{_API}/revision/{_REV}", listing.info),
    ("PUT", rf"{_API}/settings", api.settings),
    ("GET", rf"{_API}/tree/{_REV}(?:/(?P<path>.*))?", listing.tree),
    ("POST", rf"{_API}/paths-info/{_REV}", listing.paths_info),
    ("GET", rf"{_API}/refs", listing.refs),
    ("GET", rf"{_API}/commits/{_REV}", listing.commits),
    ("POST", rf"{_API}/tag/{_REV}", api.add_tag),
    ("DELETE", rf"{_API}/tag/{_REV}", api.drop_tag),
    ("POST", rf"{_API}/branch/{_REV}", api.add_branch),
    ("DELETE", rf"{_API}/branch/{_REV}", api.drop_branch),
    ("POST", rf"{_API}/preupload/{_REV}", api.preupload),
    ("POST", rf"{_API}/commit/{_REV}", api.commit),
    ("GET", rf"{_API}/xet-(?P<mode>read|write)-token(?:/{_REV})?", transfer.xet_token),
    ("POST", rf"{_PREFIX}{_ID}\.git/info/lfs/objects/batch", transfer.lfs_batch),
    ("PUT", r"/lfs/(?P<digest>[^/]+)", transfer.lfs_put),
    ("POST", r"/xet/v1/xorbs/default/(?P<hash>[^/]+)", transfer.xorb_put),
    ("POST", r"/xet/v1/shards", transfer.shard_post),
    ("GET", r"/xet/v1/reconstructions/(?P<hash>[^/]+)", transfer.reconstruction),
    ("GET", r"/xet/data/(?P<hash>[^/]+)", transfer.xorb_get),
    ("GET", rf"{_PREFIX}{_ID}/resolve/{_REV}/(?P<path>.+)", transfer.resolve),
)
STREAMED = (transfer.lfs_put, transfer.xorb_put)
_ROUTES = tuple((method, re.compile(pattern), handler) for method, pattern, handler in ROUTES)


class LocalHub:
    """The application.

    State: stores on disk and the token.
    """

    def __init__(self, folder: Path, access: Access) -> None:
        self.store = HubStore(folder)
        self.xet = XetStore(folder / "xet", self.store.objects)
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self.answer(request)
        except HubError as exc:
            response = refusal(exc)
        except DiskError as exc:
            response = refusal(HubError(507, str(exc)))
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        """Find the handler and call it in a thread, so that one slow disk does not hold all others.

        Raises:
            HubError: what the client is to be told.
        """
        raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
        path = raw.decode("ascii", "replace").partition("?")[0]
        method = "GET" if request.method == "HEAD" else request.method
        if path == "/" and method == "GET":
            return PlainTextResponse(ABOUT)
        for wanted, pattern, handler in _ROUTES:
            match = pattern.fullmatch(path) if wanted == method else None
            if match:
                call = self.call(request, {key: unquote(value) for key, value in match.groupdict().items() if value})
                if handler in STREAMED:
                    response: Response = await handler(call, request.stream())
                    return response
                return await self.plain(request, handler, call)
        raise HubError(404, f"The local hub does not know {request.method} {path}.")

    async def plain(self, request: Request, handler: Handler, call: Call) -> Response:
        """A handler with its whole body in memory."""
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BODY:
                raise HubError(413, "The body is too large.")
        call = Call(**{**vars(call), "body": bytes(body)})
        found = await asyncio.to_thread(handler, call)
        if isinstance(found, Response):
            return found
        content, headers = found
        return JSONResponse(content, headers=headers)

    def call(self, request: Request, parts: dict[str, str]) -> Call:
        """The request as handlers see it. Paths without a type are models'."""
        parts.setdefault("type", "models")
        return Call(
            store=self.store,
            xet=self.xet,
            access=self.access,
            base=str(request.base_url).rstrip("/"),
            parts=parts,
            query=dict(request.query_params),
            headers={key.lower(): value for key, value in request.headers.items()},
        )


def refusal(error: HubError) -> Response:
    """An error as the Hub's clients read it."""
    plain = error.message.encode("ascii", "replace").decode().replace("\n", " ")[:500]
    headers = {"X-Error-Message": plain} | ({"X-Error-Code": error.code} if error.code else {})
    content = {"error": error.message, "errors": [{"message": error.message}], **error.more}
    return JSONResponse(content, status_code=error.status, headers=headers)


async def _lifespan(receive: Receive, send: Send) -> None:
    """Nothing to start or stop."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
