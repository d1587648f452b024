"""VLLMEngine on the embedded model: real tokens, real schemas, and no process left behind, however it
ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from run_fixture import CATEGORIES, prompt_rows, write_policy

from specdistill.builders.engines.base import Request
from specdistill.builders.engines.factory import EnginePool
from specdistill.builders.engines.vllm import VLLMEngine
from specdistill.builders.growing.grow import grow, write_grown
from specdistill.builders.label_task import label_pool
from specdistill.builders.ledger import Ledger
from specdistill.builders.prompts import pool_frame
from specdistill.builders.reading import guided_schema, read_reasoned
from specdistill.builders.sources import read_source
from specdistill.errors import EngineError, EngineUnreachable
from specdistill.schemas import recipe
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.vocabulary import FinishReason, ParseOutcome
from specdistill.specs.loader import load_spec

pytestmark = pytest.mark.integration
pytest.importorskip("vllm")
psutil = pytest.importorskip("psutil")

STOP, LENGTH, ERROR = FinishReason.STOP, FinishReason.LENGTH, FinishReason.ERROR
OPTIONS = {"max_model_len": 1024, "kv_cache_memory_bytes": 2**30}
ENDS = [signal.SIGKILL, signal.SIGINT][: int(os.environ.get("SPECDISTILL_ENGINE_ENDS", "1"))]
"""How an engine's parent ends: the harshest way, and with 2 the ordinary one too; each costs a start of an engine."""
SPEC = "Follow this policy. " + "Rule: be kind and careful, and say what you know. " * 40


def config(**fields) -> recipe.Engine:
    given = {"engine": "vllm", "model": "embedded", "max_tokens": 48, "options": OPTIONS}
    return recipe.Engine(**(given | fields))


@pytest.fixture(scope="module")
def engines():
    with EnginePool() as pool:
        yield pool


@pytest.fixture(scope="module")
def roles(engines):
    """A generator and a judge on one engine process."""
    generator = engines.engine(config(temperature=0.8))
    judge = engines.engine(
        config(temperature=0.0, reasoning="guided", max_tokens=160, options=OPTIONS | {"sampling": {"top_k": 5}})
    )
    generator.load()
    judge.load()
    return generator, judge


def ask(text: str, samples: int = 1, **fields) -> Request:
    return Request([{"role": "system", "content": SPEC}, {"role": "user", "content": text}], samples, **fields)


def complete(engine, *requests: Request) -> list:
    async def together():
        return await asyncio.gather(*(engine.complete(request) for request in requests))

    return asyncio.run(together())


def engine_processes(parent) -> list:
    return [child for child in parent.children(recursive=True) if "VLLM::" in _command(child)]


def _command(process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def test_samples_of_many_requests_at_once(roles):
    generator, _ = roles
    found = complete(generator, *(ask(f"Tell me about number {n}.", samples=3) for n in range(6)))
    assert [len(row) for row in found] == [3] * 6
    texts = [one.text for row in found for one in row]
    assert len(set(texts)) == 18
    assert all(texts)
    for one in (one for row in found for one in row):
        assert one.finish_reason in (STOP, LENGTH)
        assert (one.completion_tokens == 48) == (one.finish_reason is LENGTH)
        assert one.error is None


def test_tokens_are_counted_and_the_second_time_cached(roles):
    generator, _ = roles
    request = ask("Is it late?")
    first, second = complete(generator, request)[0], complete(generator, request)[0]
    assert first[0].prompt_tokens == generator.count_tokens(request.messages) > 400
    assert second[0].cached_tokens >= 256


def test_a_schema_gives_reasoning_then_answer(roles):
    _, judge = roles
    found = complete(judge, *(ask(f"Is {n} odd?", samples=2, schema=guided_schema(80, 80)) for n in range(4)))
    readings = [read_reasoned(one.canonical(), "guided", one.finish_reason) for row in found for one in row]
    assert [reading.parse for reading in readings] == [ParseOutcome.OK] * 8
    assert all(reading.reasoning and reading.answer for reading in readings)


def test_what_one_row_cannot_have_is_its_own(roles):
    generator, _ = roles
    found = complete(
        generator,
        ask("long " * 1200, samples=2),
        ask("hello", schema={"type": "nonsense"}),
        Request([{"text": "no role"}]),
        ask("hello"),
    )
    assert [[one.finish_reason is ERROR for one in row] for row in found] == [[True] * 2, [True], [True], [False]]
    assert "max_model_len is 1024" in found[0][0].error
    assert "vLLM refuses the request" in found[1][0].error
    assert "the chat template refuses the conversation" in found[2][0].error


def test_sampling_that_vllm_does_not_take_ends_the_run(roles):
    generator, _ = roles
    other = VLLMEngine(model="embedded", options={"sampling": {"top_kk": 5}})
    other.share(generator._shared)
    with pytest.raises(EngineError, match=r"options\.sampling: vLLM does not take these.*top_kk"):
        complete(other, ask("hello"))
    other.unload()


def test_a_cancelled_request_is_taken_out_of_the_engine(roles):
    generator, _ = roles

    async def run() -> list:
        asking = asyncio.create_task(generator.complete(ask("A long story, please.", samples=8)))
        await asyncio.sleep(0.5)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        return await generator.complete(ask("hello"))

    assert asyncio.run(run())[0].error is None


@pytest.fixture
def policy(tmp_path):
    """A policy of three short categories."""
    layout = RunLayout(tmp_path / "policy")
    write_policy(layout)
    return layout.spec


def test_a_small_model_labels_prompts(roles, engines, policy, tmp_path):
    """What 135M parameters make of it is near chance; every prompt is labelled or goes to people, and no call fails."""
    given = prompt_rows(18)
    nameless = [row | {"category": None} for row in given[:10]]
    pool = pool_frame(nameless + given[10:])
    classifier = recipe.Classifier(engine="vllm", model="embedded", options=OPTIONS, max_tokens=120, k=2, check=8)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    found = label_pool(pool, classifier, policy, ledger, lambda *step: None, engines)
    again = label_pool(pool, classifier, policy, ledger, lambda *step: None, engines)
    ledger.close()
    told = found.summary
    assert told["asked"] == 10 == told["labelled"] + told["unsure"]
    assert told["checked"] == 8
    assert sum(told["samples"].values()) == 2 * 18
    assert not {"failed"} & set(told["samples"])
    assert told["samples"]["named"] > 0
    names = {name for named in found.pool["category"].drop_nulls() for name in named.split("+")}
    assert names <= set(CATEGORIES)
    assert found.pool["category"].null_count() == told["unsure"] == len(found.unsure)
    assert again.pool.equals(found.pool), "a second time answered from the ledger"
    right = sum(row["category"] == one for row, one in zip(given[:10], found.pool["category"][:10], strict=True))
    print(f"labels: {told}, {right} of 10 right")


def test_a_small_model_grows_prompts(roles, engines, policy, tmp_path):
    """Most replies of 135M parameters are prompts by their form; each has its lineage, and the file is a source."""
    asked = recipe.Recipe.model_validate(
        {
            "name": "grown",
            "spec": str(policy),
            "prompts": [{"path": "none.jsonl"}],
            "generator": {"model": "embedded", "options": OPTIONS, "max_tokens": 200, "reasoning": "guided"},
            "judge": {"model": "embedded"},
        }
    )
    ledger = Ledger(tmp_path / "ledger.sqlite")
    axes = {"tone": ("polite", "curt"), "directness": ("direct", "roundabout")}
    found = grow(
        asked, pool_frame(prompt_rows(6)), ledger, axes=axes, per_clause=2, categories=["tools", "paint"],
        step=lambda *step: None, engines=engines,
    )  # fmt: skip
    ledger.close()
    read = sum(found.faults.values())
    assert found.asked >= 12
    assert len(found.rows) > 0
    assert not {"failed", "not_json"} & set(found.faults), "the schema is enforced"
    assert read < found.asked
    anchors = set(load_spec(policy).anchors)
    for row in found.rows:
        lineage = json.loads(row["lineage"])
        assert lineage["model"] == "embedded"
        assert lineage["clause"] in anchors
        assert row["category"] in ("tools", "paint")
    write_grown(found.rows, tmp_path / "grown.jsonl")
    source = recipe.PromptSource(path="grown.jsonl")
    assert len(read_source(source, list(CATEGORIES), tmp_path, [])) == len(found.rows)
    print(f"grown: {found.asked} asked, {len(found.rows)} rows, faults {found.faults}, removed {found.removed}")


def test_the_engine_outlives_one_role_and_dies_with_the_last(roles):
    generator, judge = roles
    running = engine_processes(psutil.Process())
    assert running
    generator.unload()
    assert complete(judge, ask("hello"))[0][0].error is None
    judge.unload()
    assert engine_processes(psutil.Process()) == []
    with pytest.raises(EngineError, match="not loaded"):
        complete(judge, ask("hello"))


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"options": {"no_such_option": 1}}, "vLLM takes no such option.*no_such_option"),
        ({"model": "/no/such/folder"}, "vLLM cannot start '/no/such/folder'"),
        ({"options": {"max_model_len": 10**6}}, "vLLM cannot start 'embedded'.*8192"),
    ],
)
def test_what_cannot_start_says_so_and_leaves_nothing(fields, cause):
    engine = VLLMEngine(**({"model": "embedded"} | fields))
    with pytest.raises(EngineError, match=cause):
        engine.load()
    assert engine_processes(psutil.Process()) == []


SCRIPT = """
import asyncio, signal
from specdistill.builders.engines.base import Request
from specdistill.builders.engines.vllm import VLLMEngine

async def ask_on(engine):
    request = Request([{"role": "user", "content": "A long story, please."}], samples=8)
    while True:
        await engine.complete(request)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for what they run behind
    options = {"max_model_len": 1024, "kv_cache_memory_bytes": 2**30, "sampling": {"ignore_eos": True}}
    engine = VLLMEngine(model="embedded", max_tokens=900, options=options)
    engine.load()
    print("loaded", flush=True)
    asyncio.run(ask_on(engine))
"""


@pytest.fixture
def busy(tmp_path):
    """A process whose engine is at work, and the engine's processes."""
    script = tmp_path / "busy.py"
    script.write_text(SCRIPT)
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen([sys.executable, script], stdout=log, stderr=log, start_new_session=True)
        try:
            _until(lambda: "loaded" in (tmp_path / "log").read_text() or process.poll() is not None, 240)
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(2)
            yield process, engine_processes(psutil.Process(process.pid)), tmp_path / "log"
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def _until(holds, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@pytest.mark.parametrize("how", ENDS)
def test_no_engine_process_survives_its_parent(busy, how):
    parent, engines, _ = busy
    assert len(engines) >= 1
    parent.send_signal(how)
    parent.wait(60)
    assert psutil.wait_procs(engines, timeout=60)[1] == []


def test_an_engine_that_dies_is_an_outage(busy):
    parent, engines, log = busy
    os.kill(engines[0].pid, signal.SIGKILL)
    parent.wait(60)
    assert parent.returncode == 1
    assert f"{EngineUnreachable.__name__}: The vLLM engine process of 'embedded' died." in log.read_text()
    assert psutil.wait_procs(engines, timeout=60)[1] == []
