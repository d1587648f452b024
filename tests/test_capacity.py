"""The capacity model: what a build will ask for, checked against what one asked for."""

import json
import sqlite3

import pytest
from build_helpers import build, write_recipe
from fake_openai_server import FakeOpenAI
from typer.testing import CliRunner

from specdistill.builders.assumptions import Assumptions, Kind, Measured, Sizes, scaled
from specdistill.builders.capacity import estimate
from specdistill.builders.dry_run import common_start, kinds_of
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.recipe_file import load_recipe

KIND = Kind(
    "a", 100, 20.0, {"generate": 500, "contrast": 50, "judge": 700, "revise": 600, "compare": 800}, {"generate": 450}
)


def recipe(**more):
    openai = {"engine": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    made = {
        "name": "t",
        "spec": "safety",
        "prompts": [{"library": "seeds"}],
        "generator": openai | {"samples": 4, "max_tokens": 1000},
        "judge": openai | {"k": 5, "max_tokens": 200},
    }
    return Recipe.model_validate(made | more)


def steps(found):
    return {load.step: load for load in found.loads}


def test_calls_multiply_and_a_prompt_is_paid_for_once_a_request():
    found = steps(estimate(recipe(), [KIND], Assumptions(output_share=0.5)))
    generate, judge = found["generate"], found["judge"]
    assert (generate.requests, generate.calls, generate.completion_tokens) == (100, 400, 400 * 500)
    assert generate.prompt_tokens == 100 * 520
    assert generate.cached_tokens == 99 * 450, "the first of a category computes its prefix"
    assert (judge.requests, judge.calls) == (400, 2000)
    assert judge.prompt_tokens == 400 * (700 + 20 + 500), "the judge reads what was generated"
    assert set(found) == {"generate", "judge"}


def test_every_arm_is_judged_and_every_judge_of_a_panel_counts():
    openai = {"engine": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "other"}
    whole = recipe(
        contrast={"samples": 2},
        constitution={"samples": 1},
        repair={"samples": 1},
        preference={"pairwise": {"samples": 1}},
        judge=recipe().judge.model_dump() | {"panel": [openai | {"k": 3}]},
    )
    measured = Measured("r", passing={"spec": 0.5, "contrast": 0.5}, leaking=0.1, pairs=0.25)
    found = {name: load.calls for name, load in steps(estimate(whole, [KIND], Assumptions(), measured)).items()}
    assert found == {
        "generate": 400,
        "contrast": 200,
        "repair": 40,
        "revise": 100,
        "judge": 200 * 5,
        "judge_contrast": 100 * 5,
        "judge_repair": 40 * 5,
        "judge_constitution": 100 * 5,
        "judge_2": 200 * 3,
        "judge_contrast_2": 100 * 3,
        "judge_repair_2": 40 * 3,
        "judge_constitution_2": 100 * 3,
        "compare": 50,
    }


def test_a_quota_with_a_budget_bounds_the_candidates():
    found = steps(estimate(recipe(quota={"per_category": 10, "budget": 90}), [KIND], Assumptions()))
    assert (found["generate"].requests, found["generate"].calls) == (90, 90)


def test_unlabelled_prompts_are_classified_first_and_some_labelled_ones_to_compare():
    openai = {"engine": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    asked = recipe(classifier=openai | {"k": 3, "check": 10})
    assert steps(estimate(asked, [KIND], Assumptions(), unlabelled=40))["label"].calls == 50 * 3
    assert "label" not in steps(estimate(asked, [KIND], Assumptions()))


def test_cost_needs_a_price_and_hours_need_a_speed():
    plain = estimate(recipe(), [KIND], Assumptions())
    assert (plain.gpu_hours, plain.cost) == (None, {})
    assumed = Assumptions(tokens_per_second=1000, gpu_price=3, price_in=1, price_out=4)
    priced = estimate(recipe(), [KIND], assumed)
    assert priced.gpu_hours == pytest.approx(priced.total.completion_tokens / 3.6e6)
    assert priced.cost["gpus"] == pytest.approx(3 * priced.gpu_hours)
    assert priced.cost["tokens"] * 1e6 == pytest.approx(priced.total.prompt_tokens + 4 * priced.total.completion_tokens)


def test_everything_grows_with_the_prompts_and_the_mix_stays():
    kinds = scaled([KIND, Kind("b", 300, 5.0, {}, {})], 4_000_000)
    assert [kind.prompts for kind in kinds] == [1_000_000, 3_000_000]
    small = estimate(recipe(), [KIND], Assumptions(), Measured("r", sizes=Sizes()))
    large = estimate(recipe(), scaled([KIND], 1e6), Assumptions(), Measured("r", sizes=Sizes()))
    assert large.total.calls == 10_000 * small.total.calls
    assert sum(large.bytes.values()) == pytest.approx(10_000 * sum(small.bytes.values()))


def test_the_prefix_is_what_two_requests_begin_with(tmp_path):
    assert common_start("abcd", "abxd") == "ab"
    assert common_start("ab", "abc") == "ab"
    path = write_recipe(tmp_path, "http://127.0.0.1:9/v1", per_category=1)
    kinds, unlabelled, _ = kinds_of(load_recipe(path), tmp_path)
    assert (len(kinds), unlabelled) == (7, 0)
    for kind in kinds:
        assert kind.prefix["generate"] == pytest.approx(kind.fixed["generate"], abs=10), "only the user's turn differs"
        assert 0 < kind.prefix["judge"] < kind.fixed["judge"]


def dry_run(*args):
    from specdistill.cli.app import app

    done = CliRunner().invoke(app, ["build", *map(str, args), "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_dry_run_asks_nothing_and_writes_nothing(tmp_path):
    path = write_recipe(tmp_path, "http://127.0.0.1:9/v1", per_category=1)  # nobody listens there
    found = dry_run(path, "--out", tmp_path / "run", "--prompts", 7000)
    assert found["prompts"] == 7000
    assert {one["step"]: one["calls"] for one in found["steps"]}["generate"] == 21_000
    assert sorted(tmp_path.iterdir()) == [path]


def test_its_options_need_it(tmp_path):
    from specdistill.cli.app import app

    path = write_recipe(tmp_path, "http://127.0.0.1:9/v1")
    done = CliRunner().invoke(app, ["build", str(path), "--price-in", "1"])
    assert done.exit_code != 0
    assert "--price-in is for --dry-run" in str(done.exception)


@pytest.mark.integration
def test_a_dry_run_like_a_run_says_what_that_run_cost(tmp_path):
    out = tmp_path / "run"
    plain = ("--set", "contrast=null")  # the fake gives both arms one text, and one conversation is asked once
    with FakeOpenAI() as server:
        path = write_recipe(tmp_path, server.url, per_category=2)
        before = {one["step"]: one["calls"] for one in dry_run(path, *plain)["steps"]}
        assert build(path, out, *plain).returncode == 0
    found = dry_run(path, *plain, "--like", out)
    with sqlite3.connect(out / "ledger.sqlite") as connection:
        asked = connection.execute(
            "SELECT stage, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens) FROM calls GROUP BY 1"
        )
        ledger = {step: tuple(rest) for step, *rest in asked}
    connection.close()
    said = {one["step"]: (one["calls"], one["prompt_tokens"], one["completion_tokens"]) for one in found["steps"]}
    assert said == ledger
    assert before == {"generate": 42, "judge": 126}
    disk = {name: bytes_of(out, name) for name in found["bytes"]}
    for name, size in disk.items():
        assert found["bytes"][name] == pytest.approx(size, abs=120_000), name  # Parquet's own, which rows do not add to


def bytes_of(run, name):
    if name == "ledger":
        return (run / "ledger.sqlite").stat().st_size
    return sum(path.stat().st_size for path in (run / name).rglob("*.parquet"))
