"""What our engine classes cost beside the bare thing: the same requests, side by side, each in a process of
its own.

    python benchmarks/engine_overhead.py http    # OpenAIEngine and a plain aiohttp loop, on one fake server
    python benchmarks/engine_overhead.py vllm    # VLLMEngine and vllm.LLM.generate, on the embedded model
    python benchmarks/engine_overhead.py server  # OpenAIEngine on vLLM's own server and vllm.LLM.generate

Writes a table with ratios into its section of `results/engine_overhead.md` and, with `--out FILE`, the figures as
JSON. Contestants take turns `--rounds` times and medians are compared, because clocks are noisy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from overhead_vllm import messages, server_ours, vllm_bare, vllm_ours  # noqa: E402

FAKE = HERE.parent / "tests" / "fake_openai_server.py"
RESULT = HERE / "results" / "engine_overhead.md"


# --- over HTTP
# -------------------------------------------------------------------------------------------------


def http_ours(args: argparse.Namespace) -> dict[str, float]:
    """OpenAIEngine under a rolling window."""
    from specdistill.builders.engines.base import Request
    from specdistill.builders.engines.openai import OpenAIEngine

    engine = OpenAIEngine(
        model="fake", base_url=f"http://127.0.0.1:{args.port}/v1", concurrency=args.concurrency, max_tokens=512
    )
    engine.load()

    async def one(number: int) -> int:
        [found] = await engine.complete(Request(messages(number)))
        return len(found.text)

    figures = _windowed(one, args)
    engine.unload()
    return figures


def http_bare(args: argparse.Namespace) -> dict[str, float]:
    """A plain aiohttp loop that does nothing but post and parse."""
    import aiohttp
    import orjson

    held: dict[str, aiohttp.ClientSession] = {}

    async def one(number: int) -> int:
        if not held:
            held["session"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        body = orjson.dumps({"model": "fake", "messages": messages(number), "max_tokens": 512})
        url = f"http://127.0.0.1:{args.port}/v1/chat/completions"
        async with held["session"].post(url, data=body, headers={"Content-Type": "application/json"}) as reply:
            found = orjson.loads(await reply.read())
        return len(found["choices"][0]["message"]["content"])

    return _windowed(one, args, lambda: held["session"].close())


def _windowed(one: Callable[[int], Any], args: argparse.Namespace, close: Any = None) -> dict[str, float]:
    """Rows a second and CPU of many calls, `concurrency` at a time, after a tenth of them to warm up."""

    async def run() -> dict[str, float]:
        async def rows(first: int, count: int) -> None:
            numbers = iter(range(first, first + count))

            async def worker() -> None:
                for number in numbers:
                    if not await one(number):
                        raise RuntimeError("an empty answer")

            await asyncio.gather(*(worker() for _ in range(args.concurrency)))

        await rows(10**7, max(args.rows // 10, args.concurrency))
        cpu, wall = time.process_time(), time.perf_counter()
        await rows(0, args.rows)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if close:
            await close()
        return {"rows/s": args.rows / wall, "CPU-s per 1,000 rows": cpu / args.rows * 1000}

    if args.uvloop:
        import uvloop

        figures = uvloop.run(run())
    else:
        figures = asyncio.run(run())
    return figures | {"peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


# --- taking turns
# ----------------------------------------------------------------------------------------------

CONTESTANTS = {
    "http": (http_ours, http_bare),
    "vllm": (vllm_ours, vllm_bare),
    "server": (server_ours, vllm_bare),
}
TITLES = {
    "http": "OpenAIEngine and a plain aiohttp loop, on one fake server",
    "vllm": "VLLMEngine and `vllm.LLM.generate`",
    "server": "OpenAIEngine on vLLM's OpenAI server and `vllm.LLM.generate`",
}
GOAL = 0.95
"""Least tokens/s of ours over the bare ones."""


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All rounds of one contest, and what they come to."""
    server = _fake(args) if args.contest == "http" else None
    rounds: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
    try:
        for turn in range(args.rounds):
            for name in ("ours", "bare") if turn % 2 == 0 else ("bare", "ours"):
                rounds[name].append(_alone(args, name))
                print(f"round {turn + 1} {name}: {rounds[name][-1]}", file=sys.stderr, flush=True)
    finally:
        if server:
            server.terminate()
            server.wait()
    medians = {
        name: {key: statistics.median(one[key] for one in found) for key in found[0]} for name, found in rounds.items()
    }
    return {
        "contest": args.contest,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} at the end",
        "versions": {name: version(name) for name in ("aiohttp", "torch", "transformers")},
        "settings": {key: value for key, value in vars(args).items() if key not in ("alone", "out", "contest")},
        "medians": medians,
        "ratios": {key: medians["ours"][key] / medians["bare"][key] for key in medians["ours"]},
        "rounds": rounds,
    }


def _alone(args: argparse.Namespace, name: str) -> dict[str, float]:
    """One contestant in a fresh process."""
    command = [sys.executable, __file__, *sys.argv[1:], "--alone", name, "--port", str(args.port)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise SystemExit(f"{name} failed:\n{found.stderr[-3000:]}")
    figures: dict[str, float] = json.loads(found.stdout.strip().splitlines()[-1])
    return figures


def _fake(args: argparse.Namespace) -> subprocess.Popen[bytes]:
    """The fake server in its own process, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        args.port = probe.getsockname()[1]
    command = [sys.executable, str(FAKE), "--port", str(args.port), "--latency-ms", str(args.latency_ms)]
    server = subprocess.Popen([*command, "--answer-bytes", "1000"], stdout=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", args.port)) == 0:
                return server
        time.sleep(0.05)
    raise SystemExit("the fake server does not start")


def table(found: dict[str, Any]) -> str:
    """The medians as Markdown."""
    lines = [
        f"{found['date'][:10]}, {found['machine']}, medians of {len(found['rounds']['ours'])} rounds of "
        f"{found['settings']['rows']:,} requests.",
        "",
        "| | ours | bare | ratio |",
        "| --- | --- | --- | --- |",
    ]
    for key, ratio in found["ratios"].items():
        ours, bare = found["medians"]["ours"][key], found["medians"]["bare"][key]
        lines.append(f"| {key} | {ours:,.3g} | {bare:,.3g} | {ratio:.3f} |")
    if found["contest"] == "http":
        cap = found["settings"]["concurrency"] / found["settings"]["latency_ms"] * 1000
        share = found["medians"]["ours"]["rows/s"] / cap
        lines.append(f"| share of the {cap:,.0f} rows/s that the latency allows | {share:.3f} | | |")
    if "tokens/s" in found["ratios"]:
        ratio = found["ratios"]["tokens/s"]
        met = "met" if ratio >= GOAL else "**missed**"
        lines += ["", f"Goal, tokens/s within {1 - GOAL:.0%} of the bare ones: {met} ({ratio:.3f})."]
    return "\n".join(lines)


def write_section(path: Path, contest: str, text: str) -> None:
    """Put a contest's table into its section of the page; the others stay as they are."""
    page = path.read_text() if path.exists() else "# What our engine classes cost beside the bare thing\n"
    head, *sections = page.split("\n## ")
    kept = [one for one in sections if not one.startswith(TITLES[contest])]
    kept.append(f"{TITLES[contest]}\n\nWritten by `python benchmarks/engine_overhead.py {contest}`: {text}\n")
    path.write_text("\n## ".join([head, *(one.strip("\n") + "\n" for one in sorted(kept))]))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contest", choices=list(CONTESTANTS))
    parser.add_argument("--rows", type=int, help="requests a round (5,000 over HTTP, 64 for vLLM)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--latency-ms", type=float, default=200.0)
    parser.add_argument("--uvloop", action="store_true", help="both contestants on uvloop")
    parser.add_argument("--samples", type=int, default=4, help="samples of one vLLM request")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--out", type=Path, help="the figures as JSON")
    parser.add_argument("--to", type=Path, default=RESULT, help="the page")
    parser.add_argument("--alone", choices=["ours", "bare"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.rows = args.rows or (5000 if args.contest == "http" else 64)
    if args.alone:
        ours, bare = CONTESTANTS[args.contest]
        print(json.dumps((ours if args.alone == "ours" else bare)(args)))
        return
    found = measure(args)
    print(table(found))
    write_section(args.to, args.contest, table(found))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
