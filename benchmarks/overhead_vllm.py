"""The vLLM contestants of engine_overhead.py: our two ways to a vLLM, and `vllm.LLM.generate` on the same requests."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specdistill.builders.engines.base import Engine

SYSTEM = "You follow a policy. " + "Rule: be kind, be careful and say what you know. " * 41
"""About 2 kB, as the peers were measured with."""


def messages(number: int) -> list[dict[str, str]]:
    """The conversation of one row."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"Tell me about number {number}."}]


OPTIONS = {"max_model_len": 2048, "seed": 0}
SAMPLED = {"ignore_eos": True}
"""Every sample has exactly max_tokens tokens, so that both do the same work."""


def asked_of(engine: Engine, args: argparse.Namespace) -> dict[str, float]:
    """`timed` of all rows through one of our engines, after a few to warm up."""
    from specdistill.builders.engines.base import Request

    async def rows(first: int, count: int) -> int:
        asked = (engine.complete(Request(messages(number), args.samples)) for number in range(first, first + count))
        return sum(one.completion_tokens or 0 for found in await asyncio.gather(*asked) for one in found)

    asyncio.run(rows(10**7, 8))
    return timed(lambda: asyncio.run(rows(0, args.rows)))


def vllm_ours(args: argparse.Namespace) -> dict[str, float]:
    """VLLMEngine under a rolling window."""
    from specdistill.builders.engines.vllm import VLLMEngine

    engine = VLLMEngine(
        model=args.model,
        max_tokens=args.max_tokens,
        temperature=0.7,
        concurrency=args.concurrency,
        options=OPTIONS | {"sampling": SAMPLED},
    )
    started = time.perf_counter()
    engine.load()
    load = time.perf_counter() - started

    figures = asked_of(engine, args)
    engine.unload()
    return figures | {"load s": load}


def vllm_bare(args: argparse.Namespace) -> dict[str, float]:
    """`vllm.LLM.generate` over all requests at once, with the same engine arguments."""
    from specdistill.builders.engines.embedded import resolve_model
    from specdistill.builders.engines.vllm_process import engine_arguments, environment

    with environment():
        import vllm

        started = time.perf_counter()
        llm = vllm.LLM(**engine_arguments(resolve_model(args.model), OPTIONS))
        load = time.perf_counter() - started
    tokenizer = llm.get_tokenizer()
    sampled = vllm.SamplingParams(
        n=args.samples, max_tokens=args.max_tokens, temperature=0.7, skip_special_tokens=True, **SAMPLED
    )

    def rows(first: int, count: int) -> int:
        prompts = [
            {
                "prompt_token_ids": tokenizer.encode(
                    tokenizer.apply_chat_template(messages(number), tokenize=False, add_generation_prompt=True),
                    add_special_tokens=False,
                )
            }
            for number in range(first, first + count)
        ]
        found = llm.generate(prompts, sampled, use_tqdm=False)
        return sum(len(output.token_ids) for request in found for output in request.outputs)

    rows(10**7, 8)
    figures = timed(lambda: rows(0, args.rows))
    llm.llm_engine.engine_core.shutdown()
    return figures | {"load s": load}


def timed(work: Callable[[], int]) -> dict[str, float]:
    """Speed of some work that gives a number of tokens, and its CPU time over all processes and in this one."""
    import psutil

    def spent() -> tuple[float, float]:
        own = psutil.Process()
        times = {process.pid: sum(process.cpu_times()[:2]) for process in (own, *own.children(recursive=True))}
        return sum(times.values()), times[own.pid]

    (every, own), started = spent(), time.perf_counter()
    tokens = work()
    wall, (every_after, own_after) = time.perf_counter() - started, spent()
    return {
        "tokens/s": tokens / wall,
        "seconds": wall,
        "tokens": tokens,
        "CPU-s per 1,000 tokens": (every_after - every) / tokens * 1000,
        "of it in this process": (own_after - own) / tokens * 1000,
    }


def server_ours(args: argparse.Namespace) -> dict[str, float]:
    """OpenAIEngine under a rolling window, against vLLM's own OpenAI server in a process of its own."""
    from specdistill.builders.engines.openai import OpenAIEngine

    started = time.perf_counter()
    with vllm_server(args.model) as url:
        engine = OpenAIEngine(
            model="served",
            base_url=url,
            max_tokens=args.max_tokens,
            temperature=0.7,
            concurrency=args.concurrency,
            options=SAMPLED,
        )
        engine.load()
        load = time.perf_counter() - started

        figures = asked_of(engine, args)
        engine.unload()
    return figures | {"load s": load}


@contextmanager
def vllm_server(model: str) -> Iterator[str]:
    """The address of a vLLM server with the engine arguments that the others have; it ends with the block.

    Raises:
        SystemExit: it does not start.
    """
    from specdistill.builders.engines.embedded import resolve_model

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", resolve_model(model)]
    command += ["--served-model-name", "served", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--max-model-len", str(OPTIONS["max_model_len"]), "--seed", str(OPTIONS["seed"])]
    from vllm.platforms import current_platform

    ours = {"VLLM_NO_USAGE_STATS": "1"}
    if current_platform.is_cpu():
        command += ["--dtype", "bfloat16", "--enforce-eager"]
        ours |= {"VLLM_CPU_KVCACHE_SPACE": "4", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        with log.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | ours)
        try:
            until = time.monotonic() + 600
            while not healthy(port):
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"the vLLM server does not start:\n{log.read_text()[-3000:]}")
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(60)


def healthy(port: int) -> bool:
    """Whether a server answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
