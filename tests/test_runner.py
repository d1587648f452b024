"""Our tasks under distilabel's own engine and under our runner: same rows; and the runner's own promises."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from build_helpers import write_recipe
from distilabel.pipeline import Pipeline
from distilabel.steps import GlobalStep, LoadDataFromDicts, Step, StepInput
from distilabel.steps.tasks import TextGeneration
from distilabel.typing import StepOutput
from fake_openai_server import FakeOpenAI, Rule

from specdistill.builders.build import Observer, prepare
from specdistill.builders.engines.factory import EnginePool, make_engine
from specdistill.builders.ledger import Ledger
from specdistill.builders.parts import read_parts
from specdistill.builders.pipelines import ScreenCandidates, build_pipeline
from specdistill.builders.runner import Hooks, walk
from specdistill.errors import EngineError, EngineUnreachable
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Generator
from specdistill.schemas.recipe_file import load_recipe
from specdistill.schemas.rows import CANDIDATES, JUDGMENTS, PROMPTS


class Double(Step):
    """Yields twice a batch, and drops odd rows."""

    @property
    def inputs(self) -> list[str]:
        return ["n"]

    @property
    def outputs(self) -> list[str]:
        return ["n", "twice"]

    def process(self, inputs: StepInput) -> StepOutput:
        half = len(inputs) // 2
        for part in (inputs[:half], inputs[half:]):
            yield [row | {"twice": 2 * row["n"]} for row in part if row["n"] % 2 == 0]


class Total(GlobalStep):
    """Needs all rows at once."""

    @property
    def inputs(self) -> list[str]:
        return ["twice"]

    @property
    def outputs(self) -> list[str]:
        return ["total"]

    def process(self, inputs: StepInput) -> StepOutput:
        yield [{"total": sum(row["twice"] for row in inputs)}]


class Join(Step):
    """Has two predecessors."""

    @property
    def outputs(self) -> list[str]:
        return []

    def process(self, *inputs: StepInput) -> StepOutput:
        yield [row for batch in inputs for row in batch]


def run(pipeline, tmp_path, **hooks):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    try:
        asyncio.run(walk(pipeline, ledger, Hooks(**hooks)))
    finally:
        ledger.close()


def test_every_yield_is_kept_and_a_global_step_sees_all(tmp_path):
    with Pipeline("t") as pipeline:
        load = LoadDataFromDicts(name="load", data=[{"n": n} for n in range(1001)], batch_size=10)
        load >> Double(name="double") >> Total(name="total")
    seen = {"double": [], "total": []}
    run(pipeline, tmp_path, sinks={name: rows.extend for name, rows in seen.items()})
    assert sorted(row["n"] for row in seen["double"]) == list(range(0, 1001, 2))
    assert [row["total"] for row in seen["total"]] == [2 * sum(range(0, 1001, 2))]


def test_a_fork_gives_both_branches_every_row(tmp_path):
    with Pipeline("t") as pipeline:
        load = LoadDataFromDicts(name="load", data=[{"n": n} for n in range(100)])
        load >> [Double(name="left"), Double(name="right")]
    seen = {"left": [], "right": []}
    run(pipeline, tmp_path, sinks={name: rows.extend for name, rows in seen.items()})
    assert [row["n"] for row in seen["left"]] == [row["n"] for row in seen["right"]] == list(range(0, 100, 2))


def test_several_predecessors_are_refused_before_anything_runs(tmp_path):
    with Pipeline("t") as pipeline:
        load = LoadDataFromDicts(name="load", data=[{"n": 1}])
        load >> [Double(name="left"), Double(name="right")] >> Join(name="join")
    with pytest.raises(EngineError, match="Step 'join' has several predecessors"):
        run(pipeline, tmp_path)


def test_missing_columns_are_refused_before_anything_runs(tmp_path):
    with Pipeline("t") as pipeline:
        LoadDataFromDicts(name="load", data=[{"m": 1}]) >> Double(name="double")
    with pytest.raises(EngineError, match=r"requires inputs \['n'\]"):
        run(pipeline, tmp_path)


def test_an_exception_in_a_step_comes_out_as_it_is(tmp_path):
    with Pipeline("t") as pipeline:
        LoadDataFromDicts(name="load", data=[{"n": "text"}]) >> Double(name="double")
    with pytest.raises(TypeError):
        run(pipeline, tmp_path)


@pytest.fixture
def small(tmp_path):
    """A prepared run of 7 prompts against a fake server: (recipe, layout, server)."""
    with FakeOpenAI() as server:
        recipe = load_recipe(write_recipe(tmp_path, server.url, per_category=1))
        layout = RunLayout(tmp_path / "run")
        prepare(recipe, layout, Path("."), Observer())
        yield recipe, layout, server


def keys_of(rows, name):
    return sorted(row[name] for row in rows)


@pytest.mark.integration
def test_stock_distilabel_and_our_runner_give_the_same_row_keys(small, tmp_path):
    recipe, layout, _ = small
    ours = {"generate": [], "contrast": [], "judge": [], "judge_contrast": []}
    with EnginePool() as pool:
        engines = pool.engine(recipe.generator), pool.engine(recipe.judge)
        sinks = {name: rows.extend for name, rows in ours.items()}
        run(build_pipeline(recipe, layout, *engines), tmp_path, sinks=sinks)
    assert len(ours["generate"]) == 7 * recipe.generator.samples
    CANDIDATES.validate(CANDIDATES.frame([{k: row.get(k) for k in CANDIDATES.names} for row in ours["generate"]]))
    JUDGMENTS.validate(JUDGMENTS.frame([{k: row.get(k) for k in JUDGMENTS.names} for row in ours["judge"]]))

    program = [sys.executable, str(Path(__file__).parent / "stock_pipeline.py")]
    found = tmp_path / "found.json"
    subprocess.run([*program, tmp_path / "recipe.yaml", layout.root, found], check=True, timeout=200)
    for leaf, columns in json.loads(found.read_text()).items():
        for key in ("judgment_id", "candidate_id"):
            assert sorted(columns[key]) == keys_of(ours[leaf], key)
        assert set(columns["status"]) <= {"scored", "abstained"}


def test_the_pipeline_prints_and_survives_its_own_dump(small):
    recipe, layout, _ = small
    pipeline = build_pipeline(recipe, layout, make_engine(recipe.generator), make_engine(recipe.judge))
    steps = {step["name"] for step in pipeline.dump()["pipeline"]["steps"]}
    assert steps == {"prompts", "generate", "contrast", "screen", "screen_contrast", "judge", "judge_contrast"}
    assert "THE" not in str(pipeline.dump()), "the spec's text is not in the pipeline"
    assert "Benefit of the doubt" not in str(pipeline.dump())


def test_our_engines_serve_distilabels_own_tasks(small, tmp_path):
    recipe, _, server = small
    engine = make_engine(Generator.model_validate(recipe.generator.model_dump() | {"reasoning": "native"}))
    task = TextGeneration(llm=engine, num_generations=2)
    task.load()
    rows = next(task.process([{"instruction": "hello"}]))
    task.unload()
    assert len(rows) == 2
    assert all(row["generation"] for row in rows)
    assert server.calls == 1, "two samples in one request"


def test_an_engine_that_does_not_answer_ends_the_walk(tmp_path):
    with FakeOpenAI() as server:
        recipe = load_recipe(write_recipe(tmp_path, server.url, per_category=1, retries=0))
        layout = RunLayout(tmp_path / "run")
        prepare(recipe, layout, Path("."), Observer())
    with EnginePool() as pool:
        pipeline = build_pipeline(recipe, layout, pool.engine(recipe.generator), pool.engine(recipe.judge))
        with pytest.raises(EngineUnreachable):
            run(pipeline, tmp_path)


def test_fewer_samples_than_asked_are_asked_for_again(tmp_path):
    with FakeOpenAI(Rule("fewer_choices", times=1)) as server:
        recipe = load_recipe(write_recipe(tmp_path, server.url, per_category=1))
        layout = RunLayout(tmp_path / "run")
        prepare(recipe, layout, Path("."), Observer())
        rows = []
        with EnginePool() as pool:
            pipeline = build_pipeline(recipe, layout, pool.engine(recipe.generator), None)
            run(pipeline, tmp_path, sinks={"generate": rows.extend})
    assert len(rows) == 7 * recipe.generator.samples
    assert {row["parse"] for row in rows} == {"ok"}


def test_the_screen_lets_through_what_selection_would_keep(small):
    _, layout, _ = small
    step = ScreenCandidates(name="screen", clauses=str(layout.clauses), limits={})
    row = {
        "candidate_id": "good",
        "prompt": read_parts(layout.prompts, PROMPTS)["prompt"][0].to_list(),
        "arm": "spec",
        "parse": "ok",
        "reasoning": "It is decided by [SH-R1], and by nothing else.",
        "answer": "I will not, but here is help.",
        "error": None,
    }
    bad = row | {"candidate_id": "bad", "reasoning": "It is decided by [SH-R99], and by nothing else."}
    assert list(step.process([row, bad])) == [[row]]
