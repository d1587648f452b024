"""A fake OpenAI server that is only fast: every answer is ready beforehand and sent after a fixed latency.

    python benchmarks/peers/server.py --port 8000 --latency-ms 200 --answer-bytes 1000

It parses no JSON and serves no faults (tests/fake_openai_server.py does); one request costs it some 30 µs, so that it
is not what is measured. `GET /stats` tells requests, when the first came and the last answer went (seconds of the
monotonic clock, which all processes of a machine share), and its own CPU time. `GET /reset` starts anew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

WORDS = "the answer follows what is asked for and says plainly what can be done and what had better be left alone "


def reply(status: str, body: bytes) -> bytes:
    """A whole HTTP answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def completion(answer_bytes: int) -> bytes:
    """The answer that every request gets."""
    answer = (WORDS * (answer_bytes // len(WORDS) + 1))[:answer_bytes].strip()
    body = {
        "id": "fake",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "fake",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 520, "completion_tokens": 250, "total_tokens": 770},
    }
    return reply("200 OK", json.dumps(body).encode())


class Counts:
    """What the server has seen.

    State: requests, in flight now and at most, first request and last answer in seconds of the monotonic clock.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start anew."""
        self.calls = self.in_flight = self.most_in_flight = 0
        self.first = self.last = 0.0

    def body(self) -> bytes:
        """As JSON."""
        return json.dumps(vars(self) | {"cpu": time.process_time()}).encode()


class Connection(asyncio.Protocol):
    """One client connection; requests on it are answered in order."""

    def __init__(self, counts: Counts, answer: bytes, latency: float) -> None:
        self.counts, self.answer, self.latency = counts, answer, latency
        self.loop = asyncio.get_running_loop()
        self.held = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's hook."""
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """asyncio's hook: whole requests are taken from what has come."""
        self.held += data
        while (head := self.held.find(b"\r\n\r\n")) >= 0:
            top = bytes(self.held[:head])
            lower = top.lower()
            length = 0
            if (at := lower.find(b"content-length:")) >= 0:
                length = int(lower[at + 15 :].split(b"\r\n", 1)[0])
            if len(self.held) < head + 4 + length:
                if b"expect: 100-continue" in lower and len(self.held) == head + 4:
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            del self.held[: head + 4 + length]
            self.request(top.split(b" ", 2)[1])

    def request(self, path: bytes) -> None:
        """One request."""
        if path.endswith(b"/chat/completions"):
            counts = self.counts
            counts.calls += 1
            counts.in_flight += 1
            counts.most_in_flight = max(counts.most_in_flight, counts.in_flight)
            counts.first = counts.first or time.monotonic()
            self.loop.call_later(self.latency, self.give)
        elif path.endswith(b"/models"):
            self.transport.write(reply("200 OK", b'{"object": "list", "data": [{"id": "fake", "object": "model"}]}'))
        elif path.endswith(b"/stats"):
            self.transport.write(reply("200 OK", self.counts.body()))
        elif path.endswith(b"/reset"):
            self.counts.reset()
            self.transport.write(reply("200 OK", b"{}"))
        else:
            self.transport.write(reply("404 Not Found", b"{}"))

    def give(self) -> None:
        """Send the answer, its latency being over."""
        self.counts.in_flight -= 1
        self.counts.last = time.monotonic()
        if not self.transport.is_closing():
            self.transport.write(self.answer)


async def serve(port: int, latency: float, answer_bytes: int) -> None:
    """Serve until the process ends."""
    counts, answer = Counts(), completion(answer_bytes)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(counts, answer, latency), "127.0.0.1", port, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 for any free one, which is printed")
    parser.add_argument("--latency-ms", type=float, default=200.0)
    parser.add_argument("--answer-bytes", type=int, default=1000)
    args = parser.parse_args()
    work = serve(args.port, args.latency_ms / 1000, args.answer_bytes)
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


if __name__ == "__main__":
    main()
