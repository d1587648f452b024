"""OpenAIEngine against a real vLLM server on the embedded model, on loopback and behind a key."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from specdistill.builders.engines.base import Request
from specdistill.builders.engines.embedded import embedded_model
from specdistill.builders.engines.openai import OpenAIEngine
from specdistill.builders.engines.vllm_watchdog import MARK, watch
from specdistill.builders.reading import guided_schema, read_reasoned
from specdistill.errors import EngineError, EngineUnreachable
from specdistill.schemas.vocabulary import FinishReason, ParseOutcome

pytestmark = pytest.mark.integration
pytest.importorskip("vllm")

STOP, LENGTH, ERROR = FinishReason.STOP, FinishReason.LENGTH, FinishReason.ERROR
KEY = secrets.token_hex(16)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server's process and address."""
    port, log = _free_port(), tmp_path_factory.mktemp("server") / "log"
    compact = '{"backend": "xgrammar", "disable_any_whitespace": true}'
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(embedded_model())]
    command += ["--served-model-name", "small", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "bfloat16", "--enforce-eager", "--max-model-len", "1024"]
    command += ["--structured-outputs-config", compact, "--enable-prompt-tokens-details"]
    environment = os.environ | {
        "VLLM_API_KEY": KEY,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_NO_USAGE_STATS": "1",
        MARK: KEY,
    }
    watchdog = watch(KEY)  # should the tests themselves be killed
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
        try:
            end = time.monotonic() + 240
            while not _healthy(port):
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < end, log.read_text()[-3000:]
                time.sleep(0.5)
            yield process, f"http://127.0.0.1:{port}/v1"
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            watchdog.terminate()
            watchdog.wait()


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def engine(server, monkeypatch):
    monkeypatch.setenv("SMALL_KEY", KEY)
    engine = OpenAIEngine(
        model="small", base_url=server[1], api_key_env="SMALL_KEY", max_tokens=48, retries=2, backoff=0.1
    )
    engine.load()
    yield engine
    engine.unload()


def ask(text: str, samples: int = 1, **fields) -> Request:
    return Request([{"role": "user", "content": text}], samples, **fields)


def complete(engine, *requests: Request) -> list:
    async def together():
        return await asyncio.gather(*(engine.complete(request) for request in requests))

    return asyncio.run(together())


def test_samples_and_tokens(engine):
    found = complete(engine, *(ask(f"Tell me about number {n}.", samples=3) for n in range(4)))
    texts = [one.text for row in found for one in row]
    assert len(set(texts)) == 12
    for row in found:
        assert [one.prompt_tokens for one in row] == [row[0].prompt_tokens] * 3
        assert 3 <= sum(one.completion_tokens for one in row) <= 3 * 48
        assert {one.finish_reason for one in row} <= {STOP, LENGTH}


def test_a_schema_gives_reasoning_then_answer(engine):
    guided = engine.model_copy(update={"max_tokens": 160})
    guided.load()
    [found] = complete(guided, ask("Is three odd?", samples=4, schema=guided_schema(80, 80)))
    guided.unload()
    assert [read_reasoned(one.canonical(), "guided", one.finish_reason).parse for one in found] == [ParseOutcome.OK] * 4


def test_a_prompt_that_is_too_long_is_its_own_rows_failure(engine):
    [refused], [fine] = complete(engine, ask("long " * 1200), ask("hello"))
    assert refused.finish_reason is ERROR
    assert refused.error.startswith("HTTP 400: ")
    assert "1024" in refused.error
    assert fine.error is None


def test_an_unknown_model_names_the_known(engine):
    other = engine.model_copy(update={"model": "large"})
    other.load()
    with pytest.raises(EngineError, match=r"HTTP 404.*The server has: small\."):
        complete(other, ask("hello"))
    other.unload()


def test_a_wrong_key_is_refused(server, monkeypatch):
    monkeypatch.setenv("WRONG_KEY", "wrong")
    with pytest.raises(EngineError, match="WRONG_KEY to a valid key"):
        OpenAIEngine(model="small", base_url=server[1], api_key_env="WRONG_KEY").load()


def test_a_killed_server_is_an_outage(server, engine):
    process, _ = server

    async def run() -> None:
        asking = [asyncio.create_task(engine.complete(ask("A long story.", samples=4))) for _ in range(4)]
        await asyncio.sleep(0.3)
        os.killpg(process.pid, signal.SIGKILL)
        await asyncio.gather(*asking)

    with pytest.raises(EngineUnreachable, match="Start it or check base_url"):
        asyncio.run(run())
