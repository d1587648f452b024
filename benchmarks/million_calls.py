"""A build of a million model calls on a fake server, killed again and again: memory, lost and repeated calls, resuming.

    python benchmarks/million_calls.py                 # 1,000,000 calls, 5 kills
    python benchmarks/million_calls.py --prompts 1000  # a small one

The fake server answers at once with canned text: this shows what the client side does, and nothing about models. A
call is one sample, as the ledger counts; a request asks for all samples of a row.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

HERE = Path(__file__).resolve().parent
SAMPLES, K = 8, 4
CALLS = SAMPLES + SAMPLES * K
"""Calls a prompt."""
RECIPE = """
name: million
spec: safety
prompts: [{{path: prompts.jsonl}}]
clean: {{near: null, meaning: null, private: ignore}}
generator: {{engine: openai, base_url: "{url}", model: fake, samples: {samples}, reasoning: guided, concurrency: 64,
             max_tokens: 300}}
judge: {{engine: openai, base_url: "{url}", model: fake, k: {k}, threshold: 0.5, aggregate: mean, concurrency: 64,
         max_tokens: 300}}
"""


# --- the fake server


def serve(port: int) -> None:
    """Answer every request at once: a verdict where one is asked for, else a reasoning and an answer."""
    from itertools import count

    import orjson
    import uvloop
    from aiohttp import web

    said = {"reasoning": "The clause that decides is [VI-C1]: it is harmless and I will comply with it in full.",
            "answer": "Here is what you asked for. Start with the first step, take your time, and check the result "
            "before you go on with the second one."}  # fmt: skip
    names = ("compliance", "helpfulness", "correctness", "reasoning_quality")
    verdicts = [
        json.dumps({"justification": "As the clause asks.", "abstain": False, **dict.fromkeys(names, score)})
        for score in (1, 2, 3, 4, 5)
    ]
    answers = json.dumps(said | {"answer": said["answer"] + " This is answer number %d."})
    asked, turn = count(), count()
    state = {"requests": 0, "samples": 0}

    async def chat(request: web.Request) -> web.Response:
        state["requests"] = next(asked) + 1
        body = await request.read()
        n = int(found[1]) if (found := re.search(rb'"n":\s*(\d+)', body)) else 1
        state["samples"] += n
        judging = b'"compliance"' in body
        choices = [
            {"index": at, "finish_reason": "stop", "message": {"role": "assistant", "content": (
                verdicts[next(turn) * 7 % 5] if judging else answers % next(turn))}}
            for at in range(n)
        ]  # fmt: skip
        usage = {"prompt_tokens": 3000, "completion_tokens": 50 * n}
        return web.Response(body=orjson.dumps({"choices": choices, "usage": usage}), content_type="application/json")

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "fake"}]})

    async def requests(_: web.Request) -> web.Response:
        return web.json_response(state)

    async def main() -> None:
        import asyncio

        app = web.Application(client_max_size=2**26)
        app.add_routes([web.post("/v1/chat/completions", chat), web.get("/v1/models", models)])
        app.add_routes([web.get("/requests", requests)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()

    uvloop.run(main())


# --- the builds


@dataclass
class Session:
    """One process of the build.

    Attributes:
        ended: `killed` or its exit status.
        first, last: calls finished when it started and ended.
        resumed: seconds from its start to its first request; None where it asked nothing.
        peak: MB.
        memory: (calls finished, resident MB) as it went.
    """

    ended: str = ""
    first: int = 0
    last: int = 0
    resumed: float | None = None
    seconds: float = 0.0
    peak: float = 0.0
    memory: list[tuple[int, float]] = field(default_factory=list)


def finished(run: Path) -> int:
    """Calls that the ledger holds."""
    ledger = run / "ledger.sqlite"
    if not ledger.exists():
        return 0
    connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=60)
    try:
        return int(connection.execute("SELECT COUNT(*) FROM calls WHERE ok = 1").fetchone()[0])
    except sqlite3.OperationalError:  # not yet made
        return 0
    finally:
        connection.close()


def memory(pid: int) -> tuple[float, float]:
    """Resident and peak MB of a process; zeros when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0, 0.0
    found = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+)", status))
    return int(found.get("VmRSS", 0)) / 1024, int(found.get("VmHWM", 0)) / 1024


def looked_up(stats: str) -> dict[str, int]:
    """What the server counts."""
    with urllib.request.urlopen(stats, timeout=60) as reply:
        counted: dict[str, int] = json.loads(reply.read())
        return counted


def session(command: list[str], run: Path, stats: str, kill_at: int | None) -> Session:
    """Build until the end, or kill -9 when so many calls are finished."""

    made, before, started = Session(first=finished(run)), looked_up(stats)["requests"], time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    looked = 0.0
    while process.poll() is None:
        now = time.perf_counter() - started
        if made.resumed is None and looked_up(stats)["requests"] > before:
            made.resumed = now
        if now - looked > 5 or (made.resumed is None and now - looked > 1):
            looked, done = now, finished(run)
            resident, peak = memory(process.pid)
            made.peak = max(made.peak, peak)
            if resident and made.resumed is not None:
                made.memory.append((done, resident))
            if kill_at is not None and done >= kill_at:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                break
        time.sleep(0.1)
    made.ended = "killed" if process.returncode == -signal.SIGKILL else f"exit {process.returncode}"
    made.last, made.seconds = finished(run), time.perf_counter() - started
    print(f"{made.ended}: {made.first:,} to {made.last:,} calls in {made.seconds:.0f} s, first request after "
          f"{made.resumed or 0:.1f} s, peak {made.peak:.0f} MB", flush=True)  # fmt: skip
    return made


def write_prompts(path: Path, number: int) -> None:
    """Made-up prompts, categories in turn."""
    from specdistill.specs.loader import load_spec

    categories = [category.id for category in load_spec("safety").categories]
    chance = random.Random(1)
    with path.open("w") as file:
        for at in range(number):
            words = " ".join(f"w{chance.randrange(5000)}" for _ in range(20))
            row = {"prompt": f"Question {at}: {words}?", "category": categories[at % len(categories)]}
            file.write(json.dumps(row) + "\n")


def main() -> None:
    """Build, kill, resume, check, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--prompts", type=int, default=1_000_000 // CALLS)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "million_calls.md")
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="specdistill-million-"))
    server = subprocess.Popen([sys.executable, __file__, "--serve", str(port)])
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/requests", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        write_prompts(folder / "prompts.jsonl", args.prompts)
        recipe = folder / "recipe.yaml"
        recipe.write_text(RECIPE.format(url=f"http://127.0.0.1:{port}/v1", samples=SAMPLES, k=K))
        run, total = folder / "run", args.prompts * CALLS
        command = [sys.executable, "-m", "specdistill", "build", str(recipe), "--out", str(run)]
        kills = sorted(random.Random(2).sample(range(total // 20, total - total // 20), args.kills))
        sessions = [session(command, run, f"http://127.0.0.1:{port}/requests", at) for at in [*kills, None]]
        asked = looked_up(f"http://127.0.0.1:{port}/requests")["samples"]
        args.out.write_text(report(run, sessions, asked, args))
        print(f"written: {args.out}")
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)


def report(run: Path, sessions: list[Session], asked: int, args: argparse.Namespace) -> str:
    """The table, from what is on disk and the samples that the server was asked for."""
    candidates = pl.scan_parquet(run / "candidates" / "part-*.parquet").select("candidate_id", "prompt_id").collect()
    judgments = pl.scan_parquet(run / "judgments" / "part-*.parquet").select("judgment_id").collect()
    prompts = pl.scan_parquet(run / "prompts" / "part-*.parquet").select(pl.len()).collect().item()
    fates = pl.scan_parquet(run / "datasets" / "rejected" / "*.parquet").group_by("reason").len().collect()
    unjudged = fates.filter(~pl.col("reason").is_in(["below_threshold", "over_quota", "no_verdict"]))
    wanted = prompts * SAMPLES, (prompts * SAMPLES - unjudged["len"].sum()) * K
    found = candidates["candidate_id"].n_unique(), judgments["judgment_id"].n_unique()
    lines = [
        f"| {number} | {one.first:,} | {one.last:,} | {one.ended} | {one.resumed or 0:.1f} | {one.seconds:.0f} "
        f"| {one.memory[0][1] if one.memory else 0:.0f} | {one.memory[-1][1] if one.memory else 0:.0f} "
        f"| {one.peak:.0f} |"
        for number, one in enumerate(sessions, 1)
    ]
    return (
        "# A million calls\n\n"
        f"`python benchmarks/million_calls.py --prompts {args.prompts} --kills {args.kills}`, "
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} cores, load of other work "
        f"{os.getloadavg()[2]:.1f}. The server is a fake that answers at once, on the same cores.\n\n"
        f"{prompts:,} prompts were kept; every one was to give {SAMPLES} candidates with {K} judgments each, but for "
        f"candidates that a filter stops ({', '.join(f'{name} {rows:,}' for name, rows in unjudged.rows()) or 'none'})."
        "\n\n"
        "| rows | wanted | there | doubled in the parts |\n| --- | ---: | ---: | ---: |\n"
        f"| candidates | {wanted[0]:,} | {found[0]:,} | {candidates.height - found[0]:,} |\n"
        f"| judgments | {wanted[1]:,} | {found[1]:,} | {judgments.height - found[1]:,} |\n\n"
        f"The server was asked for {asked:,} samples, {asked - sum(found):,} more than there are rows: those in flight "
        f"at {len(sessions) - 1} kills (at most 128 requests of up to {SAMPLES} samples each) and those that had come "
        "in the quarter of a second before, which the ledger had not yet brought to disk.\n\n"
        "| session | calls before | calls after | ended | s to the first request | seconds | MB at first | MB at last "
        "| peak MB |\n| ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |\n" + "\n".join(lines) + "\n\n"
        "The last session also derives and writes all sets.\n"
    )


if __name__ == "__main__":
    main()
