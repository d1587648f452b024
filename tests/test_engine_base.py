"""Engines, unloaded: what they share, when it starts and ends, what goes into keys, and that they travel."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from copy import copy, deepcopy

import pytest

from specdistill.builders.engines.backend import Backend, SharedBackend
from specdistill.builders.engines.base import Completion, Engine, Request, Sampling
from specdistill.builders.engines.embedded import cache_dir, resolve_model
from specdistill.builders.engines.factory import EnginePool, make_engine
from specdistill.errors import EngineError, MissingExtra
from specdistill.schemas import recipe
from specdistill.schemas.vocabulary import FinishReason

STOP, LENGTH, ERROR = FinishReason.STOP, FinishReason.LENGTH, FinishReason.ERROR
HELLO = [{"role": "user", "content": "hello"}]


class FakeBackend(Backend):
    """Counts how often it is started and closed; answers with its own name."""

    log: list[str]

    def __init__(self, name: str, log: list[str], fails: bool = False) -> None:
        self.name, self.log, self.fails = name, log, fails

    def start(self) -> None:
        self.log.append(f"start {self.name}")
        if self.fails:
            raise EngineError("It cannot start.", "Try another.")

    def close(self) -> None:
        self.log.append(f"close {self.name}")

    async def complete(self, request: Request, sampling: Sampling) -> list[Completion]:
        text = f"{self.name} at {sampling.temperature}"
        return [Completion(text, None, STOP, 1, 2)] * request.samples


class FakeEngine(Engine):
    """An engine whose backend is fake."""

    def make_backend(self) -> Backend:
        log: list[str] = self.options["log"]
        return FakeBackend(self.model, log, fails=self.model == "broken")


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (Completion("yes", None, STOP, 1, 1), "yes"),
        (Completion("yes", "why", STOP, 1, 1), "<think>why</think>yes"),
        (Completion("", "why", STOP, 1, 1), "<think>why</think>"),
        (Completion("", "why", LENGTH, 1, 1), "<think>why"),
        (Completion("ye", "why", LENGTH, 1, 1), "<think>why</think>ye"),
    ],
)
def test_canonical_text(completion, expected):
    assert completion.canonical() == expected


def test_seeds_of_samples_asked_for_later_are_those_they_would_have_had():
    sampling = Sampling(seed=7)
    at_once = [sampling.seed_of(Request(HELLO, samples=4), sample) for sample in range(4)]
    later = [sampling.seed_of(Request(HELLO, samples=2, seed=2), sample) for sample in range(2)]
    assert later == at_once[2:]
    assert Sampling(seed=2**31 - 1).seed_of(Request(HELLO), 1) == 0


def test_a_shared_backend_starts_once_and_ends_with_its_last_user():
    log: list[str] = []
    shared = SharedBackend(lambda: FakeBackend("m", log))
    generator, judge = object(), object()
    shared.reserve(generator)
    shared.reserve(judge)
    assert log == []
    shared.acquire(generator)
    shared.acquire(generator)
    shared.release(generator)
    shared.acquire(judge)
    assert log == ["start m"]
    shared.release(judge)
    shared.release(judge)
    assert log == ["start m", "close m"]
    shared.acquire(generator)
    shared.close()
    assert log == ["start m", "close m"] * 2


def test_a_backend_that_cannot_start_is_closed_and_can_be_tried_again():
    log: list[str] = []
    engine = FakeEngine(model="broken", options={"log": log})
    for _ in range(2):
        with pytest.raises(EngineError, match="It cannot start"):
            engine.load()
    assert log == ["start broken", "close broken"] * 2
    with pytest.raises(EngineError, match="not loaded"):
        _ = engine.backend


def test_an_engine_gives_each_request_its_own_sampling():
    log: list[str] = []
    shared = SharedBackend(lambda: FakeBackend("m", log))
    engines = [FakeEngine(model="m", temperature=temperature) for temperature in (0.1, 0.9)]
    for engine in engines:
        engine.share(shared)
        engine.load()
    found = [asyncio.run(engine.complete(Request(HELLO)))[0].text for engine in engines]
    assert found == ["m at 0.1", "m at 0.9"]
    for engine in engines:
        engine.unload()
    assert log == ["start m", "close m"]


def test_at_temperature_0_one_sample_is_drawn_and_repeated():
    engine = FakeEngine(model="m", options={"log": []}, temperature=0.0)
    engine.load()
    found = asyncio.run(engine.complete(Request(HELLO, samples=3)))
    assert [one.text for one in found] == ["m at 0.0"] * 3
    assert [one.completion_tokens for one in found] == [2, 0, 0]


def test_copies_are_unloaded():
    log: list[str] = []
    engine = FakeEngine(model="m", options={"log": log})
    engine.load()
    for copied in (engine.model_copy(update={"model": "n"}), deepcopy(engine), copy(engine)):
        with pytest.raises(EngineError, match="not loaded"):
            _ = copied.backend
    other = engine.model_copy(update={"model": "n"})
    other.load()
    assert log == ["start m", "start n"]
    engine.unload()
    other.unload()


def test_distilabels_way_in():
    engine = FakeEngine(model="m", options={"log": []}, temperature=0.5)
    engine.load()
    plain, structured = engine.generate([HELLO, (HELLO, {"schema": {"type": "object"}})], num_generations=2)
    assert plain == structured
    assert plain["generations"] == ["m at 0.5"] * 2
    assert plain["statistics"] == {
        "input_tokens": [1, 1],
        "output_tokens": [2, 2],
        "finish_reason": ["stop", "stop"],
        "error": ["", ""],
    }


def test_pool_shares_a_backend_only_where_model_and_load_options_agree():
    server = {"engine": "openai", "base_url": "http://127.0.0.1:1/v1"}
    with EnginePool() as pool:

        def shared(**fields) -> object:
            return pool.engine(recipe.Engine(**fields))._shared

        generator = shared(engine="vllm", model="a", temperature=1.0, options={"max_model_len": 2048})
        judge = shared(
            engine="vllm",
            model="a",
            temperature=0.0,
            reasoning="guided",
            seed=3,
            options={"max_model_len": 2048, "sampling": {"top_k": 3}, "chat_template_kwargs": {"think": False}},
        )
        assert generator is judge
        assert shared(engine="vllm", model="a", options={"max_model_len": 4096}) is not generator
        assert shared(engine="vllm", model="b", options={"max_model_len": 2048}) is not generator
        assert shared(engine="transformers", model="a", options={"max_model_len": 2048}) is not generator
        assert shared(model="a", **server, options={"top_k": 1}) is shared(model="a", **server)
        assert shared(model="a", **server, timeout=1) is not shared(model="a", **server)


@pytest.mark.parametrize("name", ["vllm", "openai", "transformers"])
def test_make_engine_takes_every_field_of_the_recipe(name):
    config = recipe.Engine(
        engine=name,
        model="org/m",
        base_url="http://127.0.0.1:1/v1" if name == "openai" else None,
        reasoning="prompted",
        temperature=0.2,
        top_p=0.9,
        max_tokens=77,
        seed=5,
        concurrency=3,
        timeout=9,
        retries=1,
        options={"sampling": {"top_k": 2}},
    )
    engine = make_engine(config)
    taken = {field: value for field, value in config.model_dump().items() if field in type(engine).model_fields}
    assert engine.model_dump(include=set(taken)) == taken
    assert set(config.model_dump()) - set(taken) <= {"engine", "base_url", "api_key_env"}
    assert engine.model_name == "org/m"
    assert pickle.loads(pickle.dumps(engine)) == engine


def test_sampling_holds_what_decides_the_text_and_nothing_else():
    def sampling(**fields) -> dict:
        return make_engine(recipe.Engine(model="m", **fields)).sampling

    plain = sampling()
    assert plain == sampling(concurrency=1, timeout=5, retries=0, options={"gpu_memory_utilization": 0.5})
    for fields in ({"temperature": 0.1}, {"top_p": 0.5}, {"max_tokens": 9}, {"seed": 1}):
        assert sampling(**fields) != plain
    assert sampling(options={"dtype": "float32"}) != plain
    assert sampling(options={"sampling": {"top_k": 1}}) != plain


def test_only_embedded_is_resolved(monkeypatch, tmp_path):
    assert resolve_model("org/model") == "org/model"
    monkeypatch.setenv("SPECDISTILL_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("SPECDISTILL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "specdistill"


def test_the_embedded_model_without_its_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"specdistill\[embedded\]"):
        resolve_model("embedded")


def test_importing_engines_is_light_and_leaves_tracebacks_alone():
    script = (
        "import sys; hook = sys.excepthook; import specdistill.builders.engines.factory as f; "
        "from specdistill.schemas.recipe import Engine; f.make_engine(Engine(model='m')); "
        "f.make_engine(Engine(engine='transformers', model='m')); assert sys.excepthook is hook; "
        "print(sorted({'vllm', 'torch', 'aiohttp', 'transformers'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    assert "warn" not in found.stderr.lower()
