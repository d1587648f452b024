"""One OpenAI-compatible server over HTTP: a request's body in, the body of its answer out, faults sorted by kind."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies

import orjson
from pydantic import SecretStr

from specdistill.builders.engines.exchange import one_line
from specdistill.builders.engines.reply import error_text
from specdistill.builders.engines.retrying import (
    CONFIGURATION_STATUS,
    LONGEST_WAIT,
    PASSING_STATUS,
    Backoff,
    PassingFault,
    RowFault,
    retry_after,
)
from specdistill.builders.engines.sessions import LoopSessions
from specdistill.errors import EngineError

if TYPE_CHECKING:
    import aiohttp

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_CONNECT = 30.0
"""Most seconds for opening a connection, and for the list of models."""


class Server:
    """HTTP sessions to one server, one for each event loop that uses it.

    Args:
        url: up to and including /v1.
        model: the model's name on the server.
        key_env: name of the environment variable with the key; unset for servers without one.
        timeout: seconds for one try of one request.
    """

    def __init__(self, url: str, model: str, key_env: str, timeout: float) -> None:
        self._url, self._model, self._key_env, self._timeout = url.rstrip("/"), model, key_env, timeout
        self._key: SecretStr | None = None
        self._known: list[str] = []
        self._sessions = LoopSessions(self._open)
        self.answered = False
        """It completed at least one request."""

    @property
    def name(self) -> str:
        """The address as it may be shown: without a password."""
        parts = urlsplit(self._url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def prepare(self) -> None:
        """Check the address and read the key.

        Raises:
            EngineError: the address is none.
        """
        parts = urlsplit(self._url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EngineError(
                f"'{self.name}' is not the address of a server.",
                "Give base_url as http://HOST:PORT/v1.",
                key="base_url",
            )
        key = os.environ.get(self._key_env, "").strip()
        self._key = SecretStr(key) if key else None

    def close(self) -> None:
        """Close the connections."""
        self._sessions.close()

    async def complete(self, body: bytes, limit: int) -> bytes:
        """The server's answer to a chat-completions request, of at most `limit` bytes; raises as `_ask`."""
        return await self._ask("POST", "/chat/completions", body, limit, self._timeout)

    async def probe(self, tries: int, backoff: Backoff) -> PassingFault | None:
        """Ask for the models, up to `tries` times while nobody is there.

        Returns:
            Why nobody answers, or None where somebody does.

        Raises:
            EngineError: the server refuses every request.
        """
        fault: PassingFault | None = None
        for attempt in range(tries):
            if attempt:
                await asyncio.sleep(backoff.wait(attempt - 1))
            try:
                found = await self._ask("GET", "/models", None, 2**24, min(self._timeout, _CONNECT))
            except PassingFault as exc:
                if not exc.unreachable:  # it is there, and completions may well work
                    return None
                fault = exc
            except RowFault:
                return None
            except EngineError as exc:
                if "HTTP 404" in exc.cause or "HTTP 405" in exc.cause:
                    return None  # a server without a list of models
                raise
            else:
                with suppress(orjson.JSONDecodeError, KeyError, TypeError):
                    self._known = [str(model["id"]) for model in orjson.loads(found)["data"]]
                return None
        return fault

    async def _ask(self, method: str, path: str, body: bytes | None, limit: int, seconds: float) -> bytes:
        """The body of a 200 answer, of at most `limit` bytes.

        Raises:
            PassingFault: the try failed, another may not.
            RowFault: the server refuses this request.
            EngineError: the server refuses every request.
        """
        import aiohttp

        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT))
        try:
            session = await self._sessions.get()
            async with session.request(
                method, self._url + path, data=body, allow_redirects=False, timeout=limits
            ) as reply:
                found = await _read(reply, limit)
                status, wait = reply.status, reply.headers.get("Retry-After")
        except aiohttp.ClientConnectorCertificateError as exc:
            raise EngineError(
                f"The certificate of {self.name} is not valid: {exc.certificate_error}.",
                "Correct base_url or the server's certificate.",
            ) from exc.with_traceback(None)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise PassingFault(_kind(exc, "no connection"), unreachable=True) from exc.with_traceback(None)
        except TimeoutError as exc:
            reason = f"no complete answer within {seconds:g} s"
            raise PassingFault(reason) from exc.with_traceback(None)
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError) as exc:
            raise PassingFault(_kind(exc, "the answer is incomplete or garbled"), cut=True) from exc.with_traceback(
                None
            )
        except (aiohttp.ClientError, OSError) as exc:
            raise PassingFault(_kind(exc, "the connection was cut"), cut=True) from exc.with_traceback(None)
        if status == 200:
            return found
        said = f"HTTP {status}: {error_text(found)}"
        if status in PASSING_STATUS:
            raise PassingFault(said, retry_after=retry_after(wait, max(self._timeout, LONGEST_WAIT)))
        # Some gateways say 403 of a single prompt that they find offensive; a bad key never completes
        # anything.
        one_prompt = status == 403 and self.answered
        if (status in CONFIGURATION_STATUS or status < 400) and not one_prompt:
            raise self._refused(status, self.clean(said))
        raise RowFault(said)

    def _refused(self, status: int, said: str) -> EngineError:
        known = f" The server has: {', '.join(self._known[:10])}." if self._known else ""
        remedies = {
            401: f"Set the environment variable {self._key_env} to a valid key.",
            403: f"Check that the key in {self._key_env} may use '{self._model}'.",
            404: f"Check base_url (with /v1) and the model's name on the server, '{self._model}'.{known}",
        }
        remedy = remedies.get(status, "Check base_url and the account.")
        return EngineError(f"The server at {self.name} refuses every request: {said}.", remedy)

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        return aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0),  # the engine's window is the limit
            cookie_jar=aiohttp.DummyCookieJar(),
            # Proxies, but not for our own servers. Where none is set, asking for one with each request is dear.
            trust_env=urlsplit(self._url).hostname not in _LOOPBACK and bool(getproxies()),
        )

    def clean(self, text: str) -> str:
        """A text without the key, which servers are known to quote."""
        return text.replace(self._key.get_secret_value(), "***") if self._key else text


async def _read(reply: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, at most `limit` bytes of it.

    Raises:
        RowFault: it is longer.
    """
    declared = reply.content_length
    if declared is not None and declared <= limit and "Content-Encoding" not in reply.headers:
        return await reply.read()  # the parser holds the body to what was declared
    found = bytearray()
    async for chunk in reply.content.iter_any():
        found += chunk
        if len(found) > limit:
            raise RowFault(f"the answer is longer than {limit} bytes, which max_tokens does not allow")
    return bytes(found)


def _kind(exc: BaseException, what: str) -> str:
    return f"{what}: {one_line(str(exc)) or type(exc).__name__}"
