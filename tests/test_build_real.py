"""Whole builds on the real small model: offline vLLM killed at random, and a real vLLM server that dies on the way.

`SPECDISTILL_KILLS` sets how often the offline build is killed (default 1; 5 for the full check).
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import polars as pl
import pytest
from build_helpers import build_alone as build
from build_helpers import finished, keys, kill_group, sent, start, wait_for_calls

from specdistill.builders.engines.embedded import embedded_model
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe_file import load_recipe
from specdistill.schemas.rows import CANDIDATES, JUDGMENTS

pytestmark = pytest.mark.integration
pytest.importorskip("vllm")

KILLS = int(os.environ.get("SPECDISTILL_KILLS", "1"))
SAMPLES, K, CONCURRENCY = 2, 2, 4
PER_CATEGORY = 1 if KILLS == 1 else 2
PROMPTS = 3 * PER_CATEGORY
"""Of the three categories of the policy; several kills need more calls to fall among."""
RECIPE = """
name: real
spec: support
prompts: [{{library: seeds, per_category: {prompts}}}]
generator: {{{engine}, reasoning: guided, samples: 2, max_tokens: 160, reasoning_chars: 200, answer_chars: 300,
             concurrency: 4}}
judge: {{{engine}, k: 2, max_tokens: 120, justification_chars: 80, threshold: 0.1, aggregate: mean, min_votes: 1,
         concurrency: 4, temperature: 1.0}}
screens: {{min_reasoning_chars: 1, max_repeat_share: 1.0}}
"""
OFFLINE = "engine: vllm, model: embedded, options: {max_model_len: 4096}"


def recipe_file(folder, engine):
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(engine=engine, prompts=PER_CATEGORY))
    return path


def check_whole(out, recipe):
    """The run has exactly the rows its recipe asks for: nothing lost, nothing doubled."""
    from specdistill.builders.plan import plan
    from specdistill.builders.stored import Stored

    layout = RunLayout(out)
    asked = load_recipe(layout.recipe)
    run = Stored(layout, asked)
    passing = run.screened()["reason"].null_count()
    assert plan(run).empty
    stored = keys(out)
    assert len(stored["prompts"]) == PROMPTS
    assert len(stored["candidates"]) == len(set(stored["candidates"])) == PROMPTS * SAMPLES
    assert len(stored.get("judgments", [])) == len(set(stored.get("judgments", []))) == passing * K


def test_kill_9_on_the_embedded_model_repeats_only_calls_in_flight(tmp_path):
    chance = random.Random(KILLS)
    out, recipe = tmp_path / "run", recipe_file(tmp_path, OFFLINE)
    for number in range(KILLS):
        before = finished(out)
        process = start(recipe, out)
        wait_for_calls(out, len(before) + chance.randint(1, 5), process)
        assert process.poll() is None, f"build {number} ended before it could be killed"
        kill_group(process)
        after = finished(out)
        assert {key: after[key] for key in before} == before, "a finished call is never made again"
    done = build(recipe, out, timeout=600)
    assert done.returncode == 0, done.stderr
    check_whole(out, recipe)
    went = sent(out)
    repeated = len(went) - len({key for key, _ in went})
    # Each role has a window of its own; what ended within the ledger's quarter second may come again too.
    assert repeated <= KILLS * 2 * 2 * CONCURRENCY * max(SAMPLES, K)
    print(f"{KILLS} kills: {len(finished(out))} calls finished, {repeated} repeated")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(port, log):
    """A real vLLM server on the embedded model."""
    line = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(embedded_model())]
    line += ["--served-model-name", "small", "--host", "127.0.0.1", "--port", str(port), "--dtype", "bfloat16"]
    line += ["--enforce-eager", "--max-model-len", "4096"]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(line, stdout=log, stderr=log, env=environment, start_new_session=True)
    until = time.monotonic() + 240
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return process
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError("the server did not start")


def stop(process):
    """End a server and its engine."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_real_server_that_dies_mid_build_and_comes_back(tmp_path):
    port = free_port()
    engine = f'engine: openai, model: small, base_url: "http://127.0.0.1:{port}/v1", retries: 1, timeout: 120'
    out, recipe = tmp_path / "run", recipe_file(tmp_path, engine)
    with open(tmp_path / "server.log", "w") as log:
        server = serve(port, log)
        process = start(recipe, out)
        wait_for_calls(out, 3, process)
        stop(server)
        output, _ = process.communicate(timeout=180)
        assert process.returncode == 1, output
        assert "what to do" in output
        assert "Traceback" not in output
        kept = finished(out)
        assert len(kept) >= 3
        server = serve(port, log)
        try:
            done = build(recipe, out, timeout=400)
        finally:
            stop(server)
    assert done.returncode == 0, done.stderr
    after = finished(out)
    assert {key: after[key] for key in kept} == kept
    check_whole(out, recipe)
    for table, name in ((CANDIDATES, "candidates"), (JUDGMENTS, "judgments")):
        assert table.problems(pl.read_parquet(out / name / "part-*.parquet")) == []
