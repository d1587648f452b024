"""TransformersEngine on a real model of 0.4 million weights: every row draws for itself, whatever shares its
batch."""

from __future__ import annotations

import asyncio
import json
import sys

import jsonschema
import pytest
import torch
from tiny_model import tiny_model

from specdistill.builders.engines.base import Request
from specdistill.builders.engines.transformers import TransformersEngine
from specdistill.builders.reading import guided_schema, read_reasoned
from specdistill.errors import EngineError
from specdistill.schemas.vocabulary import FinishReason, ParseOutcome

CORPUS = ["The policy asks for care.", "Tell me about cats and dogs, please.", '{"reasoning":"a","answer":"b"}'] * 3
SYSTEM = {"role": "system", "content": "Follow the policy. " + "It asks for care in every case. " * 10}
STOP, LENGTH, ERROR = FinishReason.STOP, FinishReason.LENGTH, FinishReason.ERROR


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """So small a model is slower on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("tiny"), CORPUS)


@pytest.fixture(scope="module")
def engine(folder):
    options = {"dtype": "float32", "max_model_len": 512}
    engine = TransformersEngine(model=str(folder), temperature=1.0, max_tokens=24, options=options)
    engine.load()
    yield engine
    engine.unload()


def ask(text: str, samples: int = 1, **fields) -> Request:
    return Request([SYSTEM, {"role": "user", "content": text}], samples, **fields)


def complete(engine, *requests: Request) -> list:
    async def together():
        return await asyncio.gather(*(engine.complete(request) for request in requests))

    return asyncio.run(together())


def with_sampling(engine, **fields) -> TransformersEngine:
    """Another role on the same model."""
    other = TransformersEngine(model=engine.model, **{"temperature": 1.0, "max_tokens": 24} | fields)
    other.share(engine._shared)
    return other


def test_a_row_draws_the_same_alone_and_in_company(engine):
    alone = [complete(engine, ask(f"cats {n}", samples=2))[0] for n in range(4)]
    together = complete(engine, *(ask(f"cats {n}", samples=2) for n in range(4)))
    assert together == alone
    assert len({one.text for row in together for one in row}) == 8


def test_later_samples_are_those_that_would_have_come(engine):
    [four] = complete(engine, ask("dogs", samples=4))
    [two] = complete(engine, ask("dogs", samples=2, seed=2))
    assert two == four[2:]


def test_a_shared_beginning_changes_nothing(engine):
    greedy = with_sampling(engine, temperature=0.0)
    requests = [ask("cats"), ask("dogs and cats, please"), Request([{"role": "user", "content": "policy"}])]
    assert complete(greedy, *requests) == [complete(greedy, request)[0] for request in requests]
    assert complete(greedy, *requests[:2]) == [complete(greedy, request)[0] for request in requests[:2]]


def test_roles_with_other_sampling_share_a_batch(engine):
    short, greedy = with_sampling(engine, max_tokens=3), with_sampling(engine, temperature=0.0)
    narrow = with_sampling(engine, options={"sampling": {"top_k": 1}})
    tight = with_sampling(engine, top_p=1e-6)

    async def together():
        roles = (short, greedy, narrow, tight)
        return [found for [found] in await asyncio.gather(*(role.complete(ask("cats")) for role in roles))]

    cut, likeliest, *also = asyncio.run(together())
    assert (cut.completion_tokens, cut.finish_reason) == (3, LENGTH)
    assert [one.text for one in also] == [likeliest.text] * 2


def test_a_schema_is_kept_to_beside_rows_without_one(engine):
    schema = guided_schema(12, 12)
    longer = with_sampling(engine, max_tokens=120)
    guided, free = complete(longer, ask("cats", samples=4, schema=schema), ask("cats"))
    for one in guided:
        assert one.finish_reason is STOP
        jsonschema.validate(json.loads(one.text, strict=False), schema)
        assert one.text.startswith('{"reasoning":"')
        assert one.text.endswith('"}')
        assert read_reasoned(one.canonical(), "guided", one.finish_reason).parse in (
            ParseOutcome.OK,
            ParseOutcome.EMPTY,
        )
    assert free[0].finish_reason in (STOP, LENGTH)


def test_tokens_are_counted(engine):
    [[found]] = complete(engine, ask("cats"))
    assert found.prompt_tokens == engine.count_tokens(ask("cats").messages)
    assert found.prompt_tokens > engine.count_tokens("cats") > 0
    assert 0 < found.completion_tokens <= 24


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ask("long " * 600), "max_model_len is 512"),
        (ask("cats", schema={"type": "nonsense"}), "the schema cannot be used"),
        (Request([{"text": "no role"}]), "the chat template refuses the conversation"),
    ],
)
def test_what_one_row_cannot_have_is_its_own(engine, request_, reason):
    [refused], [fine] = complete(engine, request_, ask("cats"))
    assert refused.finish_reason is ERROR
    assert reason in refused.error
    assert fine.error is None


def test_a_batch_that_fails_is_tried_in_halves(engine, monkeypatch):
    from specdistill.builders.engines import decoding

    real, sizes = decoding.decode, []

    def decode(model, rows, *rest):
        sizes.append(len(rows))
        if len(rows) > 1 or len(rows[0].prompt) > 300:
            raise RuntimeError("out of memory (a fault put in by the test)")
        return real(model, rows, *rest)

    monkeypatch.setattr(decoding, "decode", decode)
    fine, poisoned, also = complete(engine, ask("a"), ask("b " * 100), ask("c"))
    assert [one[0].finish_reason is ERROR for one in (fine, poisoned, also)] == [False, True, False]
    assert "out of memory" in poisoned[0].error
    assert max(sizes) == 3


def test_the_prompt_may_have_opened_the_thought(tmp_path):
    model = tiny_model(tmp_path, CORPUS, template="qwen3_prefilled")
    engine = TransformersEngine(model=str(model), max_tokens=8, options={"dtype": "float32"})
    engine.load()
    free, guided = complete(engine, ask("cats"), ask("cats", schema=guided_schema(5, 5)))
    engine.unload()
    assert free[0].canonical().startswith("<think>")
    assert read_reasoned(free[0].canonical(), "native", free[0].finish_reason).parse is ParseOutcome.TRUNCATED
    assert guided[0].text.startswith("{")


@pytest.mark.filterwarnings("ignore:Unfeasible length")
def test_unloading_ends_what_runs_and_what_waits(folder):
    options = {"dtype": "float32", "batch_size": 1, "sampling": {"min_new_tokens": 30_000}}
    engine = TransformersEngine(model=str(folder), max_tokens=30_000, options=options)
    engine.load()

    async def run():
        waiting = [asyncio.create_task(engine.complete(ask(f"cats {n}"))) for n in range(3)]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(engine.unload)
        return await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(one) for one in asyncio.run(run())] == [EngineError] * 3


def test_a_cancelled_request_does_not_hold_up_the_next(folder):
    options = {"dtype": "float32", "batch_size": 1, "max_model_len": 2048}
    engine = TransformersEngine(model=str(folder), max_tokens=20, options=options)
    engine.load()

    async def run():
        first, second = (asyncio.create_task(engine.complete(ask(name))) for name in ("one", "two"))
        await asyncio.sleep(0)
        second.cancel()
        return await asyncio.gather(first, engine.complete(ask("three")))

    found = asyncio.run(run())
    engine.unload()
    assert [one[0].error for one in found] == [None, None]


@pytest.mark.parametrize(
    ("model", "options", "cause"),
    [
        ("/no/such/folder", {}, "transformers cannot load '/no/such/folder'"),
        (None, {"dtype": "float33"}, "transformers cannot load"),
    ],
)
def test_a_model_that_cannot_be_loaded(model, options, cause, folder):
    with pytest.raises(EngineError, match=cause):
        TransformersEngine(model=model or str(folder), options=options).load()


def test_without_xgrammar_a_schema_ends_the_run(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "xgrammar", None)
    engine = TransformersEngine(model=str(folder), max_tokens=4, options={"dtype": "float32"})
    engine.load()
    with pytest.raises(EngineError, match="uv pip install xgrammar"):
        complete(engine, ask("cats", schema=guided_schema(5, 5)))
    engine.unload()
