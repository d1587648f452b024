"""Several servers: who gets a request, who rests, and that no row notices."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from fake_openai_server import FakeOpenAI, Mortal, Rule
from hypothesis import given, settings
from hypothesis import strategies as st

from specdistill.builders.engines.balancing import FAIR, OFTEN, Balancer
from specdistill.builders.engines.base import Request
from specdistill.builders.engines.openai import OpenAIEngine
from specdistill.errors import EngineError, EngineUnreachable
from specdistill.schemas.vocabulary import FinishReason

STOP, ERROR = FinishReason.STOP, FinishReason.ERROR
NAMES = ["http://a/v1", "http://b/v1", "http://c/v1", "http://d/v1"]


class Clock:
    """Seconds that pass when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def names(balancer: Balancer, prefix: str, count: int) -> list[str]:
    """Whom so many requests of one beginning go to, one after the other."""
    found = []
    for _ in range(count):
        member = balancer.take(prefix)
        found.append(member.name)
        balancer.done(member)
    return found


def test_a_beginning_stays_with_its_server_and_beginnings_spread():
    homes = {}
    for number in range(400):
        [home] = set(names(Balancer(NAMES), f"policy {number}", 5))
        homes[f"policy {number}"] = home
    assert min(Counter(homes.values()).values()) > 60
    # One server less moves only what was on it.
    fewer = Balancer(NAMES[:3])
    moved = [prefix for prefix, home in homes.items() if names(fewer, prefix, 1) != [home]]
    assert {homes[prefix] for prefix in moved} == {NAMES[3]}


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("pqr"), st.integers(0, 3)), max_size=150), st.integers(1, 4))
def test_no_server_holds_more_than_its_share(steps, servers):
    balancer = Balancer(NAMES[:servers])
    flying = []
    for prefix, ended in steps:
        member = balancer.take(prefix)
        flying.append(member)
        assert member.in_flight <= FAIR * len(flying) / servers + 1
        assert sum(one.in_flight for one in balancer.members) == len(flying)
        for _ in range(min(ended, len(flying))):
            balancer.done(flying.pop(0))
    for member in flying:
        balancer.done(member)
    assert [one.in_flight for one in balancer.members] == [0] * servers


def test_one_fault_may_be_a_rows_own_and_several_in_a_row_are_the_servers():
    balancer = Balancer(NAMES[:2])
    bad = balancer.take("p")
    for _ in range(OFTEN - 1):
        balancer.failed(bad)
    assert set(names(balancer, "p", 3)) == {bad.name}
    balancer.answered(bad)
    for _ in range(OFTEN - 1):
        balancer.failed(bad)
    assert set(names(balancer, "p", 3)) == {bad.name}
    balancer.failed(bad)
    assert bad.name not in names(balancer, "p", 3)


def test_rests_grow_and_one_request_tries_the_server_after_each():
    clock = Clock()
    balancer = Balancer(NAMES[:2], rest=1.0, longest=5.0, clock=clock)
    bad = balancer.take("p")
    balancer.done(bad)
    for seconds in (1.0, 2.0, 4.0, 5.0, 5.0):
        for _ in range(30):  # all that were in flight when it went
            balancer.failed(bad, gone=True)
        clock.now += seconds - 0.01
        assert bad.name not in names(balancer, "p", 2)
        clock.now += 0.02
        trial = balancer.take("p")
        assert trial is bad
        assert bad.name not in names(balancer, "p", 2)
        balancer.done(trial)
    balancer.answered(bad)
    assert [balancer.take("p") for _ in range(2)] == [bad, bad]


def test_a_wish_to_be_left_alone_is_kept_and_a_mere_fault_is_not_where_nobody_else_is():
    clock = Clock()
    balancer = Balancer(NAMES[:2], clock=clock)
    one, other = balancer.members
    balancer.failed(one, gone=True)
    balancer.failed(other, gone=True)
    assert balancer.all_gone
    assert balancer.take("p") in (one, other)
    balancer.failed(other, hold=7.0)
    assert not balancer.all_gone
    assert balancer.take("p") is None
    assert 0 < balancer.pause() <= 1.1
    clock.now += 1.5
    assert balancer.take("p") is one
    balancer.answered(other)  # one that was in flight: the wish stands
    assert balancer.take("p") is one
    clock.now += 6.0
    balancer.answered(one)
    assert balancer.take("p", besides=[one]) is other


def test_who_is_away_is_waited_for():
    balancer = Balancer(NAMES[:1])
    [only] = balancer.members
    balancer.away(only)
    assert balancer.take("p") is None
    assert balancer.pause() == float("inf")
    balancer.back(only)
    assert balancer.take("p") is only


def engine_for(*servers: FakeOpenAI, **fields) -> OpenAIEngine:
    given = {"model": "fake", "timeout": 60, "retries": 3, "backoff": 0.01, "max_tokens": 64}
    return OpenAIEngine(base_url=[server.url for server in servers], **(given | fields))


def ask(text: str, policy: str = "Be brief.") -> Request:
    return Request([{"role": "system", "content": policy}, {"role": "user", "content": text}])


def complete(engine: OpenAIEngine, *requests: Request, during=None) -> list:
    """Load, send all requests at once, unload; `during` runs beside them."""
    engine.load()

    async def together() -> list:
        beside = asyncio.create_task(asyncio.to_thread(during)) if during else None
        found = await asyncio.gather(*(engine.complete(request) for request in requests))
        if beside:
            await beside
        return found

    try:
        return asyncio.run(together())
    finally:
        engine.unload()


ROWS = [ask(f"row {number}", policy=f"policy {number % 5}") for number in range(60)]


def test_a_server_that_is_not_there_at_load_is_no_hindrance():
    with FakeOpenAI() as here:
        absent = FakeOpenAI()
        absent.start()
        absent.stop()
        found = complete(engine_for(absent, here, concurrency=8), *ROWS)
    assert {one.finish_reason for [one] in found} == {STOP}
    assert set(here.asked.values()) == {1}
    assert len(here.asked) == 60


def test_a_server_that_dies_gives_its_requests_to_the_other():
    with FakeOpenAI(latency=0.02) as one, FakeOpenAI(latency=0.02) as other:

        def die() -> None:
            while one.calls < 5:
                pass
            one.stop()

        found = complete(engine_for(one, other, concurrency=8, retries=1), *ROWS, during=die)
    assert {answer.finish_reason for [answer] in found} == {STOP}
    assert one.calls < 40
    assert max(other.asked.values()) == 1


def test_a_server_that_comes_back_is_used_again():
    async def run() -> None:
        for number in range(200):
            await engine.complete(ask(f"row {number}", policy=f"policy {number}"))
            if number == 20:
                one.stop()
            if number == 40:
                one.start()

    with FakeOpenAI() as one, FakeOpenAI() as other:
        engine = engine_for(one, other, backoff=0.001)
        engine.load()
        asyncio.run(run())
        engine.unload()
    assert one.calls > 50
    assert one.calls + other.calls == 200


def test_a_slow_server_is_given_fewer():
    with FakeOpenAI(latency=0.4) as slow, FakeOpenAI() as fast:
        found = complete(engine_for(slow, fast, concurrency=8), *ROWS)
    assert {answer.finish_reason for [answer] in found} == {STOP}
    assert fast.calls > 2 * slow.calls


def test_one_that_asks_to_be_left_alone_is_and_the_other_works_on():
    with FakeOpenAI(Rule("http_429_retry_after")) as busy, FakeOpenAI() as free:
        found = complete(engine_for(busy, free, concurrency=4, retries=0), *ROWS)
    assert {answer.finish_reason for [answer] in found} == {STOP}
    assert set(free.asked.values()) == {1}
    assert busy.calls < 20


@pytest.mark.parametrize("fault", ["http_503", "reset", "not_json"])
def test_a_poisoned_row_has_its_tries_and_no_more_however_many_servers(fault):
    rule = Rule(fault, contains="poison")
    with FakeOpenAI(rule) as one, FakeOpenAI(rule) as other:
        [poisoned], *others = complete(engine_for(one, other, concurrency=4), ask("poison"), *ROWS)
    assert one.asked["poison"] + other.asked["poison"] == 4
    assert min(one.asked["poison"], other.asked["poison"]) > 0
    assert poisoned.error.endswith("(tried 4 times)")
    assert {answer.finish_reason for [answer] in others} == {STOP}


def test_only_when_none_answers_is_it_an_outage_and_all_are_named():
    with FakeOpenAI() as one, FakeOpenAI() as other:
        engine = engine_for(one, other)
        engine.load()
        one.stop()
        [found] = asyncio.run(engine.complete(ask("row")))
        assert found.finish_reason is STOP
        other.stop()
        with pytest.raises(EngineUnreachable, match=f"{one.url}, {other.url} gives no completions"):
            asyncio.run(engine.complete(ask("row")))
        engine.unload()
        with pytest.raises(EngineUnreachable, match=f"Nobody answers at {one.url}, {other.url}"):
            engine.load()


def test_a_request_that_every_server_dies_over_is_an_outage_and_no_failed_row():
    with Mortal() as one, Mortal() as other:
        engine = engine_for(one, other, retries=1)
        engine.load()
        with pytest.raises(EngineUnreachable, match=r"gives no completions: .*cut.* \(tried 2 times\)"):
            asyncio.run(engine.complete(ask("row")))
        engine.unload()


def test_a_wrong_key_at_one_of_them_is_named():
    with FakeOpenAI() as open_, FakeOpenAI(key="k") as locked, pytest.raises(EngineError, match=locked.url):
        engine_for(open_, locked).load()


def test_where_it_runs_is_no_part_of_what_is_sampled():
    with FakeOpenAI() as one, FakeOpenAI() as other:
        alone, both = engine_for(one), engine_for(one, other)
        assert alone.sampling == both.sampling
        assert alone.backend_key != both.backend_key


@pytest.mark.parametrize(
    ("engine", "nodes", "need", "fit"),
    [
        ("openai", [{"CPU": 8}, {"CPU": 64, "GPU": 8}], "1 CPU", [8, 64]),
        ("vllm", [{"CPU": 8}, {"CPU": 64, "GPU": 8}], "1 GPU", [0, 8]),
        ("vllm4", [{"CPU": 8}, {"CPU": 64, "GPU": 8}], "4 GPU", [0, 2]),
        ("vllm", [{"CPU": 0}, {"CPU": 16}, {"CPU": 48}], "16 CPU", [0, 1, 3]),
        ("vllm", [{"memory": 1.0}], "1 CPU", [0]),
    ],
)
def test_what_a_replica_takes_of_a_node(engine, nodes, need, fit):
    from specdistill.builders.engines.ray_cluster import need_of
    from specdistill.builders.engines.vllm import VLLMEngine

    engines = {
        "openai": OpenAIEngine(model="m", base_url="http://a/v1"),
        "vllm": VLLMEngine(model="m"),
        "vllm4": VLLMEngine(model="m", options={"tensor_parallel_size": 2, "pipeline_parallel_size": 2}),
    }
    found = need_of(engines[engine], nodes)
    assert str(found) == need
    assert [found.fits(node) for node in nodes] == fit


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ray://h:1", r"not the address of a Ray cluster.*HOST:PORT"),
        ("h", r"not the address"),
        ("127.0.0.1:9", r"no Ray cluster at '127.0.0.1:9'.*--ray local"),
    ],
)
def test_where_no_cluster_is(address, message):
    from specdistill.builders.engines.ray_cluster import look_for

    with pytest.raises(EngineError, match=message):
        look_for(address)


def test_errors_cross_process_boundaries_whole():
    import pickle

    import specdistill.errors as errors

    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.SpecdistillError):
            error = kind("It is so.", "do") if kind is errors.MissingExtra else kind("It is.", "Do.", file="f", line=3)
            found = pickle.loads(pickle.dumps(error))
            assert (type(found), str(found), vars(found)) == (kind, str(error), vars(error))
