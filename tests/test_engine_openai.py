"""OpenAIEngine against every fault: bounded tries, neighbours untouched, the reason recorded, the key never
shown."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import traceback
import warnings

import pytest
from fake_openai_server import FakeOpenAI, Rule

from specdistill.builders.engines.base import Request
from specdistill.builders.engines.openai import OpenAIEngine
from specdistill.builders.engines.retrying import OUTAGE_AFTER
from specdistill.errors import EngineError, EngineUnreachable
from specdistill.schemas.vocabulary import FinishReason

STOP, LENGTH, ERROR = FinishReason.STOP, FinishReason.LENGTH, FinishReason.ERROR
SCHEMA = {"type": "object", "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 5}}}


def engine_for(server: FakeOpenAI, **fields) -> OpenAIEngine:
    given = {"model": "fake", "base_url": server.url, "timeout": 60, "retries": 3, "backoff": 0.01, "max_tokens": 64}
    return OpenAIEngine(**(given | fields))


def ask(text: str = "hello", samples: int = 1, schema: dict | None = None) -> Request:
    return Request([{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}], samples, schema)


def complete(engine: OpenAIEngine, *requests: Request) -> list:
    """Load, send all requests at once, unload."""
    engine.load()
    try:

        async def together():
            return await asyncio.gather(*(engine.complete(request) for request in requests))

        return asyncio.run(together())
    finally:
        engine.unload()


def test_samples_come_in_one_request_with_their_tokens_shared_out():
    with FakeOpenAI(reasoning="field") as server:
        [found] = complete(engine_for(server, temperature=0.3, options={"top_k": 5, "top_p": None}), ask(samples=3))
    assert server.calls == 1
    assert {name: value for name, value in server.bodies[0].items() if name != "messages"} == {
        "model": "fake",
        "temperature": 0.3,
        "max_tokens": 64,
        "n": 3,
        "top_k": 5,
    }
    assert len({one.text for one in found}) == 3
    assert all(one.reasoning.startswith("Reason") and one.finish_reason is STOP for one in found)
    assert all(one.canonical() == f"<think>{one.reasoning}</think>{one.text}" for one in found)
    assert {(one.prompt_tokens, one.cached_tokens) for one in found} == {(found[0].prompt_tokens, 16)}
    assert sum(one.completion_tokens for one in found) == sum(len(one.text) // 4 for one in found)


@pytest.mark.parametrize("reasoning", ["reasoning_content", "field", "tags"])
def test_reasoning_is_had_wherever_the_server_puts_it(reasoning):
    with FakeOpenAI(reasoning=reasoning) as server:
        [[found]] = complete(engine_for(server), ask())
    assert found.canonical().startswith("<think>Reason ")
    assert "</think>Answer " in found.canonical()


def test_a_schema_goes_into_the_request_and_the_answer_follows_it():
    with FakeOpenAI() as server:
        [[found]] = complete(engine_for(server), ask(schema=SCHEMA))
    assert server.bodies[0]["response_format"]["json_schema"]["schema"] == SCHEMA
    assert found.text.startswith('{"score": ')


PASSING = [
    "http_429",
    "http_500",
    "http_502",
    "http_503",
    "reset",
    "cut",
    "not_json",
    "truncated_json",
    "wrong_shape",
    "error_in_200",
    "no_choices",
    "wrong_encoding",
    "half_character",
    "bad_gzip",
]


@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_is_asked_again(fault):
    with FakeOpenAI(Rule(fault, contains="poison", times=2)) as server:
        [poisoned], [neighbour] = complete(engine_for(server), ask("poison"), ask("fine"))
    assert (poisoned.finish_reason, neighbour.finish_reason) == (STOP, STOP)
    assert server.asked == {"poison": 3, "fine": 1}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("http_429", "HTTP 429: too many requests"),
        ("http_502", "HTTP 502: <html><h1>Bad [31m Gateway</h1></html>"),
        ("http_503", "HTTP 503: overloaded"),
        ("reset", "the connection was cut"),
        ("cut", "incomplete or garbled"),
        ("not_json", "the answer is not JSON"),
        ("truncated_json", "the answer is not JSON"),
        ("wrong_shape", "the answer is not a JSON object"),
        ("error_in_200", "engine overloaded"),
        ("no_choices", "the answer has no choices"),
        ("wrong_encoding", "the answer is not JSON"),
        ("half_character", "the answer is not JSON"),
        ("bad_gzip", "incomplete or garbled"),
    ],
)
def test_a_fault_that_stays_is_the_rows_own_after_bounded_tries(fault, reason):
    neighbours = [ask(f"fine {number}") for number in range(8)]
    with FakeOpenAI(Rule(fault, contains="poison")) as server:
        poisoned, *others = complete(engine_for(server), ask("poison", samples=2), *neighbours)
    assert server.asked["poison"] == 4
    assert [one.finish_reason for one in poisoned] == [ERROR, ERROR]
    assert reason in poisoned[0].error
    assert "tried 4 times" in poisoned[0].error
    assert poisoned[0].text == ""
    assert poisoned[0].error.isprintable()
    assert all(one.finish_reason is STOP for [one] in others)
    assert all(server.asked[f"fine {number}"] == 1 for number in range(8))


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_no_complete_answer_in_time_is_asked_again_then_recorded(fault):
    with FakeOpenAI(Rule(fault, contains="poison")) as server:
        [poisoned], [neighbour] = complete(engine_for(server, timeout=1.5, retries=1), ask("poison"), ask("fine"))
    assert server.asked == {"poison": 2, "fine": 1}
    assert "no complete answer within 1.5 s (tried 2 times)" in poisoned.error
    assert neighbour.finish_reason is STOP


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("http_400", "HTTP 400: the request is refused"),
        ("http_422", "HTTP 422"),
        ("huge", "longer than"),
        ("content_filter", "the server ended the answer with 'content_filter'"),
        ("no_finish_reason", "the server ended the answer with None"),
        ("not_text", "the message is not text"),
    ],
)
def test_what_cannot_pass_is_recorded_at_once(fault, reason):
    with FakeOpenAI(Rule(fault, contains="poison")) as server:
        [poisoned], [neighbour] = complete(engine_for(server), ask("poison"), ask("fine"))
    assert server.asked == {"poison": 1, "fine": 1}
    assert poisoned.finish_reason is ERROR
    assert reason in poisoned.error
    assert neighbour.finish_reason is STOP


def test_fewer_choices_give_what_came():
    with FakeOpenAI(Rule("fewer_choices")) as server:
        engine = engine_for(server)
        [found] = complete(engine, ask(samples=4))
        engine.load()
        output = engine.generate([ask().messages], num_generations=4)[0]
        engine.unload()
    assert [one.finish_reason for one in found] == [STOP] * 3
    assert output["generations"][3] is None
    assert output["statistics"]["error"][3] == "the server sent 3 of 4 samples"


def test_an_empty_or_cut_message_is_not_an_error_of_the_call():
    with FakeOpenAI(Rule("null_content", contains="empty"), Rule("length", contains="long")) as server:
        [empty], [cut] = complete(engine_for(server), ask("empty"), ask("long"))
    assert (empty.text, empty.finish_reason) == ("", STOP)
    assert cut.finish_reason is LENGTH


def test_ten_megabytes_are_taken_where_max_tokens_allows_them():
    with FakeOpenAI(Rule("huge")) as server:
        [[found]] = complete(engine_for(server, max_tokens=32_000), ask())
    assert len(found.text) == 10_000_000


@pytest.mark.parametrize("fault", ["http_429_retry_after", "http_503_retry_after"])
def test_retry_after_holds_every_request_back(fault):
    async def run(engine: OpenAIEngine) -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        told = asyncio.create_task(engine.complete(ask("told")))
        while not server.served[fault]:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await engine.complete(ask("other"))
        other = loop.time() - started
        await told
        return other, loop.time() - started

    with FakeOpenAI(Rule(fault, contains="told", times=1)) as server:
        engine = engine_for(server)
        engine.load()
        other, told = asyncio.run(run(engine))
        engine.unload()
    assert min(other, told) >= 1.0
    assert server.asked == {"told": 2, "other": 1}


def test_no_server_is_an_outage_with_a_remedy():
    server = FakeOpenAI()
    server.start()
    server.stop()
    with pytest.raises(EngineUnreachable, match=r"Nobody answers at http://127.0.0.1:\d+/v1.*Start the server"):
        engine_for(server).load()


def test_a_server_that_goes_away_is_an_outage_and_can_come_back():
    with FakeOpenAI() as server:
        engine = engine_for(server)
        engine.load()
        server.stop()
        with pytest.raises(EngineUnreachable, match=r"gives no completions: no connection.*tried 4 times"):
            asyncio.run(engine.complete(ask()))
        server.start()
        [found] = asyncio.run(engine.complete(ask()))
        assert found.finish_reason is STOP
        engine.unload()


def test_a_short_absence_is_waited_out():
    async def run() -> list:
        asking = asyncio.create_task(engine.complete(ask()))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(server.start)
        return await asking

    with FakeOpenAI() as server:
        engine = engine_for(server, backoff=0.5, retries=6)
        engine.load()
        server.stop()
        [found] = asyncio.run(run())
        engine.unload()
    assert found.finish_reason is STOP


def test_a_server_that_answers_nobody_is_an_outage_after_some_rows_and_refusals_are_not():
    requests = [ask(f"row {number}") for number in range(3 * OUTAGE_AFTER)]
    with FakeOpenAI(Rule("http_503")) as server, pytest.raises(EngineUnreachable, match="HTTP 503"):
        complete(engine_for(server, retries=1, concurrency=4), *requests)
    assert OUTAGE_AFTER <= len(server.asked) < 2 * OUTAGE_AFTER
    with FakeOpenAI(Rule("http_400")) as server:
        assert len(complete(engine_for(server), *requests)) == len(requests)


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        ("http_401", "Set the environment variable OPENAI_API_KEY"),
        ("http_403", "may use 'fake'"),
        ("http_404", "The server has: fake."),
        ("redirect", "Check base_url"),
    ],
)
def test_a_wrong_configuration_ends_the_run_at_once(fault, remedy):
    with FakeOpenAI(Rule(fault)) as server, pytest.raises(EngineError, match=remedy) as caught:
        complete(engine_for(server), ask())
    assert not isinstance(caught.value, EngineUnreachable)
    assert server.calls == 1


def test_forbidden_once_others_succeeded_is_the_rows_own():
    with FakeOpenAI(Rule("http_403", contains="poison")) as server:
        engine = engine_for(server)
        engine.load()
        asyncio.run(engine.complete(ask("fine")))
        [found] = asyncio.run(engine.complete(ask("poison")))
        engine.unload()
    assert found.error == "HTTP 403: forbidden"


@pytest.mark.parametrize("address", ["127.0.0.1:8000/v1", "ftp://host/v1", "http:///v1"])
def test_an_address_that_is_none(address):
    with pytest.raises(EngineError, match="base_url as http://HOST:PORT/v1"):
        OpenAIEngine(model="m", base_url=address).load()


KEY = "sk-canary-6b1f0c"


def test_the_key_is_sent_and_never_shown(monkeypatch, caplog):
    monkeypatch.setenv("OUR_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    with FakeOpenAI(Rule("quotes_key", contains="quote"), Rule("http_503", contains="down"), key=KEY) as server:
        engine = engine_for(server, api_key_env="OUR_KEY", retries=0)
        [fine], [quoted] = complete(engine, ask("fine"), ask("quote"))
        assert fine.finish_reason is STOP
        engine.load()
        shown += [repr(engine), str(engine.dump()), str(engine.sampling), engine.model_dump_json(), quoted.error]
        shown += [repr(vars(engine.backend)), repr(pickle.dumps(engine))]
        server.stop()
        with pytest.raises(EngineUnreachable) as caught:
            asyncio.run(engine.complete(ask("fine")))
        shown += ["".join(traceback.format_exception(caught.value)), _with_locals(caught.value)]
        engine.unload()
    assert quoted.error == "HTTP 400: not with Bearer ***"
    assert KEY not in "\n".join([*shown, caplog.text])


def _with_locals(error: BaseException) -> str:
    """A traceback as the most talkative tool would print it."""
    from io import StringIO

    from rich.console import Console
    from rich.traceback import Traceback

    console = Console(file=StringIO(), width=400)
    console.print(Traceback.from_exception(type(error), error, error.__traceback__, show_locals=True))
    return console.file.getvalue()


def test_a_wrong_key_is_seen_at_load(monkeypatch):
    monkeypatch.setenv("OUR_KEY", "wrong")
    with FakeOpenAI(key=KEY) as server, pytest.raises(EngineError, match="OUR_KEY to a valid key"):
        engine_for(server, api_key_env="OUR_KEY").load()


def test_the_window_bounds_what_is_in_flight_also_under_distilabels_generate():
    with FakeOpenAI(latency=0.02) as server:
        engine = engine_for(server, concurrency=5)
        engine.load()
        found = engine.generate([ask(f"row {number}").messages for number in range(30)])
        engine.unload()
    assert server.most_in_flight == 5
    assert [len(one["generations"]) for one in found] == [1] * 30


def test_loops_come_and_go_without_a_connection_left_open():
    with FakeOpenAI() as server, warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        engine = engine_for(server)
        engine.load()
        engine.load()
        for _ in range(3):
            [found] = asyncio.run(engine.complete(ask()))
            assert found.finish_reason is STOP
        engine.unload()
        engine.unload()
        gc.collect()
        with pytest.raises(EngineError, match="not loaded"):
            asyncio.run(engine.complete(ask()))


def test_a_cancelled_request_leaves_the_engine_usable():
    async def run() -> list:
        asking = asyncio.create_task(engine.complete(ask("slow")))
        await asyncio.sleep(0.1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        return await engine.complete(ask("fine"))

    with FakeOpenAI(Rule("hang", contains="slow")) as server:
        engine = engine_for(server, concurrency=1)
        engine.load()
        [found] = asyncio.run(run())
        engine.unload()
    assert found.finish_reason is STOP
