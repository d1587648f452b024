"""OpenAI-compatible servers, one or several: one bad row never takes its neighbours with it, one bad server no row.

aiohttp costs 0.2 CPU-seconds a 1,000 calls where the openai client costs 2.3 and httpx 5.9.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import orjson
from pydantic import Field

from specdistill.builders.engines.backend import Backend
from specdistill.builders.engines.balancing import Balancer, Member, prefix_of
from specdistill.builders.engines.base import Engine
from specdistill.builders.engines.exchange import Completion, Request, Sampling, failure
from specdistill.builders.engines.openai_server import Server
from specdistill.builders.engines.reply import completions, longest_reply
from specdistill.builders.engines.retrying import Backoff, Misses, PassingFault, RowFault
from specdistill.errors import EngineUnreachable


class OpenAIEngine(Engine):
    """A chat-completions server, or several with the same model. `options` are further body fields; an option that is
    None takes a field out.

    Where a request goes is no part of `sampling`: servers may come and go between two runs, and no key changes.

    `seed` is not sent: servers differ in what it does to several samples of one request, and vLLM 0.32 on CPU
    dies of it. A server that takes it well can be given `options: {seed: 7}`.
    """

    computes: ClassVar[bool] = False

    base_url: str | list[str] = Field(description="Up to and including /v1; of several servers, a list.")
    api_key_env: str = Field(default="OPENAI_API_KEY", description="Environment variable that holds the key.")
    backoff: float = Field(default=1.0, ge=0, description="Seconds; further try n waits up to backoff × 2^n.")

    @property
    def request_options(self) -> dict[str, Any]:
        """All options go with each request."""
        return self.options

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of every server."""
        return (self.base_url,) if isinstance(self.base_url, str) else tuple(self.base_url)

    @property
    def backend_key(self) -> tuple[Any, ...]:
        """Engines with equal keys can share a backend."""
        return (
            type(self).__name__,
            self.model,
            self.addresses,
            self.api_key_env,
            self.timeout,
            self.retries,
            self.backoff,
        )

    def make_backend(self) -> Backend:
        """HTTP sessions for these servers, none opened yet."""
        return OpenAIBackend(
            self.model,
            self.addresses,
            self.api_key_env,
            timeout=self.timeout,
            retries=self.retries,
            backoff=Backoff(self.backoff),
        )


class OpenAIBackend(Backend):
    """Servers that have the same model, and which of them gets what.

    Args:
        model: the model's name on the servers.
        addresses: up to and including /v1.
        api_key_env: name of the environment variable with the key; unset for servers without one.
        timeout: seconds for one try of one request.
        retries: further tries after the first.
        backoff: waits between tries; its base is also the first rest of a server that fails.
    """

    def __init__(
        self,
        model: str,
        addresses: tuple[str, ...],
        api_key_env: str,
        *,
        timeout: float,
        retries: int,
        backoff: Backoff,
    ) -> None:
        self._model, self._retries, self._backoff = model, retries, backoff
        self._servers = {address: Server(address, model, api_key_env, timeout) for address in addresses}
        self._balancer = Balancer(list(self._servers), rest=backoff.base, longest=backoff.longest)
        self._misses = Misses()

    def start(self) -> None:
        """Check that a server is there and that none refuses the key, by asking for their lists of models.

        Raises:
            EngineError: an address or the key is wrong.
            EngineUnreachable: nobody answers.
        """
        for server in self._servers.values():
            server.prepare()
        with ThreadPoolExecutor(1) as thread:  # a loop of its own: load may be called inside one
            last = thread.submit(asyncio.run, self._probe()).result()
        if last is not None:
            raise EngineUnreachable(
                f"Nobody answers at {self._names}: {last.reason}.",
                "Start the server or correct base_url.",
            ) from last.with_traceback(None)

    def close(self) -> None:
        """Close the connections."""
        for server in self._servers.values():
            server.close()

    async def _probe(self) -> PassingFault | None:
        """Ask all servers whether they are there; one that is not rests, and may come later.

        Returns:
            Why the first does not answer, where none does.
        """
        tries = min(self._retries, 2) + 1
        probes = (server.probe(tries, self._backoff) for server in self._servers.values())
        faults = await asyncio.gather(*probes)
        for member, fault in zip(self._balancer.members, faults, strict=True):
            if fault is not None:
                self._balancer.failed(member, gone=True)
        return faults[0] if all(faults) else None

    @property
    def _names(self) -> str:
        return ", ".join(server.name for server in self._servers.values())

    async def complete(self, request: Request, sampling: Sampling) -> list[Completion]:
        """See `Engine.complete`.

        A try that failed goes to another server at once, if one is awake; after that the request waits as it would
        for a single server. Tries that found nobody, or a server that asked to be left alone, are not counted while
        others can serve: they say nothing about this request.
        """
        body = self._body(request, sampling)
        limit, prefix = longest_reply(request.samples * sampling.max_tokens), prefix_of(request)
        tried, counted = 0, 0
        besides: set[Member] = set()
        while True:
            member = await self._turn(prefix, besides)
            server = self._servers[member.name]
            tried += 1
            try:
                found = completions(await server.complete(body, limit), request)
            except RowFault as exc:
                self._balancer.answered(member)
                self._misses.answer()
                return failure(server.clean(str(exc)), request)
            except PassingFault as exc:
                fault = exc
            else:
                server.answered = True
                self._balancer.answered(member)
                self._misses.answer()
                return found
            finally:
                self._balancer.done(member)
            self._balancer.failed(member, gone=fault.unreachable, hold=fault.retry_after)
            besides.add(member)
            elsewhere = self._balancer.others_awake(besides)
            counted += self._counts(fault, elsewhere)
            if counted > self._retries:
                break
            if not elsewhere:
                besides.clear()
                await asyncio.sleep(self._backoff.wait(max(counted - 1, 0)))
        said = f"{server.clean(fault.reason)} (tried {tried} times)"
        # Servers that die at the same moment cut a request at each of them: no fault of the row's.
        gone = (fault.cut and await self._probe() is not None) or (fault.unreachable and self._balancer.all_gone)
        if self._misses.miss() or gone:
            raise EngineUnreachable(
                f"The server at {self._names} gives no completions: {said}.",
                "Start it or check base_url, then run the same command again; finished work is kept.",
            ) from fault.with_traceback(None)
        return failure(said, request)

    async def _turn(self, prefix: str, besides: set[Member]) -> Member:
        """The server that gets the request, as soon as there is one that has not asked to be left alone."""
        while (member := self._balancer.take(prefix, besides)) is None:
            await asyncio.sleep(self._balancer.pause())
        return member

    def _counts(self, fault: PassingFault, elsewhere: bool) -> bool:
        """Whether a failed try is one of the request's own."""
        if fault.unreachable:
            return self._balancer.all_gone
        return fault.retry_after is None or not elsewhere

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
