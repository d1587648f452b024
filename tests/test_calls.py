"""Model calls through the ledger: a question that is under way, or was just answered, is not asked again."""

from __future__ import annotations

import asyncio
from contextlib import closing

from fake_openai_server import FakeOpenAI, Rule

from specdistill.builders.calls import Caller
from specdistill.builders.engines.openai import OpenAIEngine
from specdistill.builders.ledger import Ledger
from specdistill.errors import EngineUnreachable

QUESTION = [{"role": "user", "content": "Is this fair?"}]


def answers(server: FakeOpenAI, path, *asked: list[int]) -> list:
    """What callers get who ask the same question at the same time, each for its samples."""
    engine = OpenAIEngine(model="fake", base_url=server.url, retries=0, timeout=20, max_tokens=64)

    async def together(ledger: Ledger) -> list:
        window, asking = asyncio.Semaphore(8), {}
        callers = [Caller(f"judge {number}", engine, ledger, window, asking) for number in range(len(asked))]
        found = await asyncio.gather(
            *(caller.complete(QUESTION, None, indexes) for caller, indexes in zip(callers, asked, strict=True)),
            return_exceptions=True,
        )
        assert asking == {}
        return found

    try:
        with closing(Ledger(path / "ledger.sqlite")) as ledger:
            return asyncio.run(together(ledger))
    finally:
        engine.unload()


def texts(found: dict) -> dict[int, str]:
    return {index: completion.text for index, completion in found.items()}


def test_two_equal_questions_are_one_request(tmp_path):
    with FakeOpenAI(latency=0.05) as server:
        found = answers(server, tmp_path, [0, 1, 2], [0, 1, 2], [0, 1, 2])
        assert server.calls == 1
        assert texts(found[0]) == texts(found[1]) == texts(found[2])
        again = answers(server, tmp_path, [0, 1, 2])
        assert server.calls == 1, "a rerun is answered from the ledger"
        assert texts(again[0]) == texts(found[0])


def test_who_wants_more_samples_asks_for_the_rest(tmp_path):
    with FakeOpenAI(latency=0.05) as server:
        first, second = answers(server, tmp_path, [0, 1], [0, 1, 2, 3])
    assert [body["n"] for body in server.bodies] == [2, 2]
    assert sorted(second) == [0, 1, 2, 3]
    assert texts(first).items() <= texts(second).items()


def test_a_failed_question_is_asked_again_by_who_waited_for_it(tmp_path):
    with FakeOpenAI(Rule("http_400", times=1), latency=0.05) as server:
        first, second = answers(server, tmp_path, [0], [0])
    assert server.calls == 2
    assert first[0].error
    assert second[0].error is None


def test_nobody_waits_for_a_question_that_died(tmp_path):
    with FakeOpenAI() as server:
        pass
    found = answers(server, tmp_path, [0], [0], [0])
    assert [type(one) for one in found] == [EngineUnreachable] * 3
