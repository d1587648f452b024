"""Any OpenAI-compatible server over HTTP: one bad row never takes its neighbours with it.

aiohttp costs 0.2 CPU-seconds a 1,000 calls where the openai client costs 2.3 and httpx 5.9.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import orjson
from pydantic import Field, SecretStr

from specdistill.builders.engines.backend import Backend
from specdistill.builders.engines.base import Engine
from specdistill.builders.engines.exchange import Completion, Request, Sampling, failure, one_line
from specdistill.builders.engines.reply import completions, error_text, longest_reply
from specdistill.builders.engines.retrying import (
    CONFIGURATION_STATUS,
    LONGEST_WAIT,
    PASSING_STATUS,
    Backoff,
    PassingFault,
    RowFault,
    Weather,
    retry_after,
)
from specdistill.builders.engines.sessions import LoopSessions
from specdistill.errors import EngineError, EngineUnreachable

if TYPE_CHECKING:
    import aiohttp

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_CONNECT = 30.0
"""Most seconds for opening a connection, and for the list of models."""


class OpenAIEngine(Engine):
    """A chat-completions server. `options` are further body fields; an option that is None takes a field out.

    `seed` is not sent: servers differ in what it does to several samples of one request, and vLLM 0.32 on CPU
    dies of it. A server that takes it well can be given `options: {seed: 7}`.
    """

    base_url: str = Field(description="Up to and including /v1.")
    api_key_env: str = Field(default="OPENAI_API_KEY", description="Environment variable that holds the key.")
    backoff: float = Field(default=1.0, ge=0, description="Seconds; further try n waits up to backoff × 2^n.")

    @property
    def request_options(self) -> dict[str, Any]:
        """All options go with each request."""
        return self.options

    @property
    def backend_key(self) -> tuple[Any, ...]:
        """Engines with equal keys can share a backend."""
        return (
            type(self).__name__,
            self.model,
            self.base_url,
            self.api_key_env,
            self.timeout,
            self.retries,
            self.backoff,
        )

    def make_backend(self) -> Backend:
        """HTTP sessions for this server, none opened yet."""
        return OpenAIBackend(
            self.model,
            self.base_url,
            self.api_key_env,
            timeout=self.timeout,
            retries=self.retries,
            backoff=Backoff(self.backoff),
        )


class OpenAIBackend(Backend):
    """HTTP sessions to one server, one for each event loop that uses it.

    Args:
        model: the model's name on the server.
        base_url: up to and including /v1.
        api_key_env: name of the environment variable with the key; unset for servers without one.
        timeout: seconds for one try of one request.
        retries: further tries after the first.
        backoff: waits between tries.
    """

    def __init__(
        self, model: str, base_url: str, api_key_env: str, *, timeout: float, retries: int, backoff: Backoff
    ) -> None:
        self._model, self._url, self._key_env = model, base_url.rstrip("/"), api_key_env
        self._timeout, self._retries, self._backoff = timeout, retries, backoff
        self._key: SecretStr | None = None
        self._known: list[str] = []
        self._weather = Weather()
        self._sessions = LoopSessions(self._open)

    @property
    def _server(self) -> str:
        """The address as it may be shown: without a password."""
        parts = urlsplit(self._url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def start(self) -> None:
        """Check that the server is there and takes the key, by asking for its list of models.

        Raises:
            EngineError: the address or the key is wrong.
            EngineUnreachable: nobody answers.
        """
        parts = urlsplit(self._url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EngineError(
                f"'{self._server}' is not the address of a server.",
                "Give base_url as http://HOST:PORT/v1.",
                key="base_url",
            )
        key = os.environ.get(self._key_env, "").strip()
        self._key = SecretStr(key) if key else None
        with ThreadPoolExecutor(1) as thread:  # a loop of its own: load may be called inside one
            thread.submit(asyncio.run, self._probe()).result()

    def close(self) -> None:
        """Close the connections."""
        self._sessions.close()

    async def complete(self, request: Request, sampling: Sampling) -> list[Completion]:
        """See `Engine.complete`."""
        body = self._body(request, sampling)
        limit = longest_reply(request.samples * sampling.max_tokens)
        fault = PassingFault("not tried")
        for attempt in range(self._retries + 1):
            while pause := self._weather.pause():
                await asyncio.sleep(pause)
            try:
                found = completions(await self._ask("POST", "/chat/completions", body, limit, self._timeout), request)
            except RowFault as exc:
                self._weather.answer(completed=False)
                return failure(self._clean(str(exc)), request)
            except PassingFault as exc:
                fault = exc
                self._weather.hold(exc.retry_after or 0.0)
                if attempt < self._retries:
                    await asyncio.sleep(self._backoff.wait(attempt))
            else:
                self._weather.answer(completed=True)
                return found
        tried = f"{self._clean(fault.reason)} (tried {self._retries + 1} times)"
        if self._weather.miss() or fault.unreachable:
            raise EngineUnreachable(
                f"The server at {self._server} gives no completions: {tried}.",
                "Start it or check base_url, then run the same command again; finished work is kept.",
            ) from fault.with_traceback(None)
        return failure(tried, request)

    def _body(self, request: Request, sampling: Sampling) -> bytes:
        fields: dict[str, Any] = {
            "model": self._model,
            "messages": request.messages,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        if request.samples > 1:
            fields["n"] = request.samples
        if request.schema is not None:
            fields["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": request.schema, "strict": True},
            }
        fields |= sampling.options
        return orjson.dumps({name: value for name, value in fields.items() if value is not None})

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
                f"The certificate of {self._server} is not valid: {exc.certificate_error}.",
                "Correct base_url or the server's certificate.",
            ) from exc.with_traceback(None)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as exc:
            raise PassingFault(_kind(exc, "no connection"), unreachable=True) from exc.with_traceback(None)
        except TimeoutError as exc:
            reason = f"no complete answer within {seconds:g} s"
            raise PassingFault(reason) from exc.with_traceback(None)
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError) as exc:
            raise PassingFault(_kind(exc, "the answer is incomplete or garbled")) from exc.with_traceback(None)
        except (aiohttp.ClientError, OSError) as exc:
            raise PassingFault(_kind(exc, "the connection was cut")) from exc.with_traceback(None)
        if status == 200:
            return found
        said = f"HTTP {status}: {error_text(found)}"
        if status in PASSING_STATUS:
            raise PassingFault(said, retry_after=retry_after(wait, max(self._timeout, LONGEST_WAIT)))
        # Some gateways say 403 of a single prompt that they find offensive; a bad key never completes
        # anything.
        one_prompt = status == 403 and self._weather.answered
        if (status in CONFIGURATION_STATUS or status < 400) and not one_prompt:
            raise self._refused(status, self._clean(said))
        raise RowFault(said)

    def _refused(self, status: int, said: str) -> EngineError:
        known = f" The server has: {', '.join(self._known[:10])}." if self._known else ""
        remedies = {
            401: f"Set the environment variable {self._key_env} to a valid key.",
            403: f"Check that the key in {self._key_env} may use '{self._model}'.",
            404: f"Check base_url (with /v1) and the model's name on the server, '{self._model}'.{known}",
        }
        remedy = remedies.get(status, "Check base_url and the account.")
        return EngineError(f"The server at {self._server} refuses every request: {said}.", remedy)

    async def _probe(self) -> None:
        """Ask for the models, twice more if nobody is there yet."""
        for attempt in range(min(self._retries, 2) + 1):
            try:
                found = await self._ask("GET", "/models", None, 2**24, min(self._timeout, _CONNECT))
            except PassingFault as exc:
                if not exc.unreachable:  # it is there, and completions may well work
                    return
                if attempt == min(self._retries, 2):
                    raise EngineUnreachable(
                        f"Nobody answers at {self._server}: {exc.reason}.",
                        "Start the server or correct base_url.",
                    ) from exc.with_traceback(None)
                await asyncio.sleep(self._backoff.wait(attempt))
            except RowFault:
                return
            except EngineError as exc:
                if "HTTP 404" in exc.cause or "HTTP 405" in exc.cause:
                    return  # a server without a list of models
                raise
            else:
                with suppress(orjson.JSONDecodeError, KeyError, TypeError):
                    self._known = [str(model["id"]) for model in orjson.loads(found)["data"]]
                return

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

    def _clean(self, text: str) -> str:
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
