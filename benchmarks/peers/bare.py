"""A plain aiohttp script: posts, parses, appends a JSON line. What a person would write in ten minutes."""

from __future__ import annotations

import argparse
import asyncio

import aiohttp
import orjson
from work import SYSTEM, main, prompt


async def ask(args: argparse.Namespace) -> int:
    """All rows, `concurrency` at a time."""
    numbers, done = iter(range(args.rows)), 0
    with (args.out / "rows.jsonl").open("ab") as sink:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def worker() -> None:
                nonlocal done
                for number in numbers:
                    turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt(number)}]
                    body = orjson.dumps({"model": "fake", "messages": turns, "max_tokens": 512})
                    head = {"Content-Type": "application/json"}
                    async with session.post(f"{args.url}/chat/completions", data=body, headers=head) as reply:
                        found = orjson.loads(await reply.read())
                    text = found["choices"][0]["message"]["content"]
                    sink.write(orjson.dumps({"number": number, "answer": text}) + b"\n")
                    done += bool(text)

            await asyncio.gather(*(worker() for _ in range(args.concurrency)))
    return done


if __name__ == "__main__":
    main(lambda args: asyncio.run(ask(args)))
