"""A fake OpenAI-compatible server that misbehaves on demand and counts everything. It serves faults and speed
only.

In tests: `with FakeOpenAI(Rule("http_503", contains="poison")) as server: ... server.url ... server.asked`.
By hand: `python tests/fake_openai_server.py --port 8000 --latency-ms 200 --fault http_429 --share 0.02 --log
calls.jsonl`; `GET /stats` tells how often each prompt was asked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TextIO

from aiohttp import web

FAULTS: dict[str, str] = {
    "http_400": "the request is refused",
    "http_401": "the key is refused",
    "http_403": "forbidden",
    "http_404": "no such model",
    "http_422": "the request cannot be processed",
    "http_429": "too many requests",
    "http_429_retry_after": "too many requests, with Retry-After: 1",
    "http_500": "internal error",
    "http_502": "bad gateway, an HTML page",
    "http_503": "overloaded",
    "http_503_retry_after": "overloaded, with Retry-After: 1",
    "redirect": "sends the client elsewhere",
    "reset": "the connection is cut before an answer",
    "cut": "the connection is cut in the middle of the body",
    "hang": "never answers",
    "drip": "one byte a second",
    "not_json": "status 200 and an HTML page",
    "truncated_json": "status 200, JSON that ends early",
    "wrong_shape": "status 200, JSON of another kind",
    "wrong_schema": "an answer that does not follow the JSON schema that was sent",
    "error_in_200": "status 200 and an error object",
    "no_choices": "status 200, empty choices",
    "fewer_choices": "one choice less than asked",
    "null_content": "a message without content",
    "not_text": "a message whose content is a list",
    "content_filter": "the provider's filter ended the answer",
    "no_finish_reason": "finish_reason is null",
    "length": "the answer is cut at the token limit",
    "huge": "10 MB of answer",
    "wrong_encoding": "Latin-1 bytes in JSON",
    "half_character": "half of a surrogate pair, escaped",
    "bad_gzip": "says gzip, is not",
    "quotes_key": "refuses and quotes the key it was sent",
}


@dataclass
class Rule:
    """When to misbehave.

    Attributes:
        fault: a name from FAULTS.
        contains: only requests whose conversation contains this text, or all of these texts; "" for all.
        times: only the first so many requests of each prompt; None for always.
        share: only this share of the requests, drawn at random.
    """

    fault: str
    contains: str | tuple[str, ...] = ""
    times: int | None = None
    share: float = 1.0
    _served: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.fault not in FAULTS:
            raise ValueError(f"unknown fault '{self.fault}'; known: {', '.join(FAULTS)}")

    def applies(self, prompt: str, text: str, chance: random.Random) -> bool:
        """Whether this request gets the fault; counts it if so."""
        wanted = (self.contains,) if isinstance(self.contains, str) else self.contains
        if not all(part in text for part in wanted) or (self.times is not None and self._served[prompt] >= self.times):
            return False
        if self.share < 1.0 and chance.random() >= self.share:
            return False
        self._served[prompt] += 1
        return True


def instance(schema: dict[str, Any], chance: random.Random) -> Any:
    """Some value that a JSON schema allows (objects, arrays, strings, numbers, booleans, enums)."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return chance.choice(schema["enum"])
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return instance(chance.choice(options), chance)
    kind = schema.get("type")
    if kind == "object":
        return {name: instance(part, chance) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance(schema.get("items", {}), chance) for _ in range(schema.get("minItems", 1))]
    if kind == "integer":
        return chance.randint(schema.get("minimum", 0), schema.get("maximum", schema.get("minimum", 0) + 10))
    if kind == "number":
        return chance.uniform(schema.get("minimum", 0.0), schema.get("maximum", 1.0))
    if kind == "boolean":
        return chance.random() < 0.5
    words = " ".join(chance.choices(("fair", "kind", "plain", "short", "true"), k=12))
    return words[: min(schema.get("maxLength", 60), 60)].strip() or "a"


class FakeOpenAI:
    """The server, in a thread of its own.

    Args:
        rules: the first that applies to a request decides; none: a plain answer.
        latency: seconds before each answer.
        answer_bytes: length of the answer.
        reasoning: how reasoning comes: `field` (message.reasoning), `reasoning_content`, `tags`, or `none`.
        key: the key that must be sent, if any.
        port: 0 for any free one.
        log: a text file that gets one JSON line a request.
    """

    def __init__(
        self,
        *rules: Rule,
        latency: float = 0.0,
        answer_bytes: int = 100,
        reasoning: str = "none",
        key: str | None = None,
        port: int = 0,
        log: TextIO | None = None,
        seed: int = 0,
    ) -> None:
        self.rules = list(rules)
        self.latency, self.answer_bytes, self.reasoning, self.key = latency, answer_bytes, reasoning, key
        self.port, self._log = port, log
        self._chance = random.Random(seed)
        self.asked: Counter[str] = Counter()
        """How often each prompt (text of its last message) was asked."""
        self.asked_at: dict[str, list[float]] = {}
        """When each prompt was asked, in seconds of the monotonic clock."""
        self.served: Counter[str] = Counter()
        """How often each fault, and `ok`, was served."""
        self.bodies: list[dict[str, Any]] = []
        """The last 1,000 request bodies."""
        self.in_flight = self.most_in_flight = self.calls = 0
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """What goes into base_url."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> FakeOpenAI:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve(ready)), daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the fake server does not start")

    def stop(self) -> None:
        """Cut every connection and stop listening; connections are refused from then on."""
        if self._loop and self._stop and self._thread:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
            self._thread = None

    async def serve(self, ready: threading.Event | None = None) -> None:
        """Serve until stopped."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=2**28)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/stats", self._stats)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = runner.addresses[0][1]
        if ready:
            ready.set()
        try:
            await self._stop.wait()
        finally:
            await runner.cleanup()

    async def _models(self, request: web.Request) -> web.Response:
        if refused := self._unauthorised(request):
            return refused
        return web.json_response({"object": "list", "data": [{"id": "fake", "object": "model"}]})

    async def _stats(self, _: web.Request) -> web.Response:
        repeated = {prompt: count for prompt, count in self.asked.items() if count > 1}
        return web.json_response(
            {
                "calls": self.calls,
                "prompts": len(self.asked),
                "served": dict(self.served),
                "most_in_flight": self.most_in_flight,
                "repeated": repeated,
            }
        )

    def _unauthorised(self, request: web.Request) -> web.Response | None:
        if self.key is None or request.headers.get("Authorization") == f"Bearer {self.key}":
            return None
        return web.json_response({"error": {"message": "Incorrect API key provided."}}, status=401)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if refused := self._unauthorised(request):
            return refused
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            body = json.loads(await request.read())
            text = "\n".join(str(message.get("content")) for message in body["messages"])
            prompt = str(body["messages"][-1].get("content"))
            self.calls += 1
            self.asked[prompt] += 1
            self.asked_at.setdefault(prompt, []).append(time.monotonic())
            self.bodies = [*self.bodies[-999:], body] if self.calls <= 1000 else self.bodies
            chosen = next((rule.fault for rule in self.rules if rule.applies(prompt, text, self._chance)), "ok")
            self.served[chosen] += 1
            if self._log:
                self._log.write(json.dumps({"call": self.calls, "prompt": prompt, "served": chosen}) + "\n")
                self._log.flush()
            if self.latency:
                await asyncio.sleep(self.latency)
            if chosen == "ok":
                return web.Response(body=self._answer(body), content_type="application/json")
            return await self._misbehave(chosen, request, body)
        finally:
            self.in_flight -= 1

    def _answer(self, body: dict[str, Any], *, fault: str = "") -> bytes:
        """A whole answer as JSON, with what is wrong about it."""
        prompt = str(body["messages"][-1].get("content"))
        choices = []
        for index in range(body.get("n", 1) - (fault == "fewer_choices")):
            mark = blake2b(f"{prompt}/{index}".encode(), digest_size=8).hexdigest()
            if schema := body.get("response_format", {}).get("json_schema", {}).get("schema"):
                answer = json.dumps(instance(schema, random.Random(mark)))
            else:
                answer = f"Answer {mark}. " + "All is well and nothing more is to be said about it. " * (
                    self.answer_bytes // 52 + 1
                )
                answer = answer[: max(self.answer_bytes, 24)].strip()
            message: dict[str, Any] = {"role": "assistant", "content": answer}
            thought = f"Reason {mark}."
            if self.reasoning == "field":
                message["reasoning"] = thought
            elif self.reasoning == "reasoning_content":
                message["reasoning_content"] = thought
            elif self.reasoning == "tags":
                message["content"] = f"<think>{thought}</think>{answer}"
            if fault == "wrong_schema":
                message["content"] = '{"verdict": "fine", "score": "high"}'
            if fault in ("null_content", "not_text"):
                message["content"] = None if fault == "null_content" else [{"type": "image"}]
            if fault == "huge":
                message["content"] = "x" * 10_000_000
            finish: str | None = fault if fault in ("content_filter", "length") else "stop"
            finish = None if fault == "no_finish_reason" else finish
            choices.append({"index": index, "message": message, "finish_reason": finish})
        usage = {
            "prompt_tokens": len(json.dumps(body["messages"])) // 4,
            "completion_tokens": sum(len(str(choice["message"]["content"])) // 4 for choice in choices),
            "prompt_tokens_details": {"cached_tokens": 16},
        }
        choices = [] if fault == "no_choices" else choices
        return json.dumps(
            {
                "id": "fake",
                "object": "chat.completion",
                "model": body.get("model"),
                "choices": choices,
                "usage": usage,
            }
        ).encode()

    async def _misbehave(self, fault: str, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if fault.startswith("http_"):
            status = int(fault[5:8])
            headers = {"Retry-After": "1"} if fault.endswith("retry_after") else {}
            if status == 502:
                return web.Response(
                    status=502, text="<html><h1>Bad\x1b[31m Gateway</h1></html>", content_type="text/html"
                )
            return web.json_response({"error": {"message": FAULTS[fault]}}, status=status, headers=headers)
        if fault == "quotes_key":
            said = f"not with {request.headers.get('Authorization')}"
            return web.json_response({"error": {"message": said}}, status=400)
        if fault == "redirect":
            raise web.HTTPTemporaryRedirect("http://127.0.0.1:9/v1/chat/completions")
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "reset":
            self._abort(request)
        if fault in ("cut", "drip"):
            return await self._slowly(fault, request, self._answer(body))
        said = b'"content": "'
        plain: dict[str, bytes] = {
            "not_json": b"<html>Welcome to the proxy</html>",
            "truncated_json": self._answer(body)[:-20],
            "wrong_shape": b'["not", "an", "object"]',
            "error_in_200": b'{"error": {"message": "engine overloaded", "code": 503}}',
            "wrong_encoding": self._answer(body).replace(said, said + "Äußerung".encode("latin-1")),
            "half_character": self._answer(body).replace(said, said + rb"\ud83d"),
        }
        if fault == "bad_gzip":
            return web.Response(body=b"\x1f\x8bnot gzip at all", headers={"Content-Encoding": "gzip"})
        return web.Response(body=plain.get(fault) or self._answer(body, fault=fault), content_type="application/json")

    async def _slowly(self, fault: str, request: web.Request, answer: bytes) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Length": str(len(answer)), "Content-Type": "application/json"})
        await reply.prepare(request)
        if fault == "cut":
            await reply.write(answer[: len(answer) // 2])
            self._abort(request)
            return reply
        for position in range(len(answer)):
            await reply.write(answer[position : position + 1])
            await asyncio.sleep(1)
        return reply

    @staticmethod
    def _abort(request: web.Request) -> None:
        if request.transport is not None:
            request.transport.abort()


class Mortal(FakeOpenAI):
    """Stops for good at request number `after`, which it cuts."""

    def __init__(self, after: int = 1, **more: Any) -> None:
        super().__init__(**more)
        self.left = after

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.left -= 1
        if self.left <= 0:
            self._stop.set()
            await asyncio.sleep(3600)  # until the connection is cut
        return await super()._chat(request)

    def stop(self) -> None:
        with suppress(RuntimeError):  # its loop is closed already
            super().stop()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--answer-bytes", type=int, default=100)
    parser.add_argument("--reasoning", default="none", choices=["none", "field", "reasoning_content", "tags"])
    parser.add_argument("--fault", action="append", default=[], choices=list(FAULTS), help="may be repeated")
    parser.add_argument("--contains", default="", help="only prompts with this text get the fault")
    parser.add_argument("--times", type=int, help="only the first so many requests of a prompt get the fault")
    parser.add_argument("--share", type=float, default=1.0, help="only this share of the requests gets the fault")
    parser.add_argument("--key", help="the key that must be sent")
    parser.add_argument("--log", type=argparse.FileType("a"), help="one JSON line a request")
    args = parser.parse_args()
    rules = [Rule(fault, args.contains, args.times, args.share) for fault in args.fault]
    server = FakeOpenAI(
        *rules,
        latency=args.latency_ms / 1000,
        answer_bytes=args.answer_bytes,
        reasoning=args.reasoning,
        key=args.key,
        port=args.port,
        log=args.log,
    )
    print(f"fake OpenAI server on http://127.0.0.1:{args.port}/v1", flush=True)
    try:
        import uvloop
    except ImportError:
        asyncio.run(server.serve())
    else:
        uvloop.run(server.serve())


if __name__ == "__main__":
    main()
