"""Evaluations and experiments from end to end on a model of 0.4 million weights: real training, real answers."""

from __future__ import annotations

import json
import re

import polars as pl
import pytest
from eval_helpers import settings, small_model, small_run
from fake_openai_server import FakeOpenAI
from rich.console import Console
from rule_judge import FakeRuleJudge
from typer.testing import CliRunner

from specdistill.builders.parts import write_part
from specdistill.cli.app import app
from specdistill.schemas.evaluation import EVAL_TABLES
from specdistill.train.data import open_set
from specdistill.train.evaluation import evaluate as evaluation
from specdistill.train.evaluation.arms import arm_rows, open_material
from specdistill.train.evaluation.experiment import results_of, run_experiment
from specdistill.train.evaluation.numbers import trace
from specdistill.train.evaluation.plan import ExperimentRecipe
from specdistill.train.evaluation.results import read_result
from specdistill.train.evaluation.suites import held_out

pytest.importorskip("trl")
pytestmark = pytest.mark.integration
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("experiment")
    layout = small_run(home / "run")
    recipe = ExperimentRecipe.model_validate(
        settings(
            layout,
            small_model(home / "model", layout),
            arms=["base", "sft_unfiltered", "sft_filtered", "sft_no_reasoning", "dpo", "constitutional"],
            fractions=[0.5, 1.0],
        )
    )
    run_experiment(recipe, home / "out", QUIET)
    return home, layout, recipe


def test_an_experiment_trains_and_measures_every_arm_the_run_has_rows_for(home):
    folder, _, _ = home
    results = [read_result(path) for path in results_of(folder / "out")]
    names = [result.name for result in results]
    assert names == [
        "base", "sft_unfiltered-100-s0", "sft_filtered-100-s0", "sft_no_reasoning-100-s0", "sft_filtered-050-s0",
        "dpo-100-s0",
    ]  # fmt: skip
    record = json.loads((folder / "out" / "experiment.json").read_text())
    assert record["left_out"] == ["constitutional"]
    assert not list((folder / "out").rglob("*.safetensors"))  # the only large files
    by_name = dict(zip(names, results, strict=True))
    trained = by_name["sft_filtered-100-s0"].record
    assert trained.model["lineage"]["method"] == "sft"
    assert (
        trained.model["lineage"]["dataset"]["manifest_sha256"] == trained.experiment["training"]["set_manifest_sha256"]
    )
    assert trained.experiment["training"]["rows"] > by_name["sft_filtered-050-s0"].record.experiment["training"]["rows"]
    assert by_name["dpo-100-s0"].record.model["lineage"]["base_model"]["name"] == "sft_filtered-100-s0"
    assert len({result.record.model["key"] for result in results}) == len(results)  # six different models
    assert len({str(result.record.suites) for result in results}) == 1  # asked the same


def test_every_number_leads_to_rows_on_disk(home):
    folder, _, _ = home
    for path in results_of(folder / "out"):
        result = read_result(path)
        traced = trace(result.numbers, result.measures)
        assert traced.height == result.numbers.height > 50
        assert traced.filter((pl.col("value") - pl.col("again")).abs() > 1e-12).is_empty()
        answers, items = result.rows("answers"), result.rows("items")
        single = result.measures.filter(pl.col("answer_id").is_not_null())
        assert single.join(answers, on="answer_id", how="anti").is_empty()
        assert answers.join(items, on="item_id", how="anti").is_empty()
        for name, frame in (("eval_items", items), ("eval_answers", answers), ("eval_numbers", result.numbers)):
            EVAL_TABLES[name].validate(frame)


def test_arms_differ_in_what_they_say_and_in_nothing_else(home):
    _, layout, _ = home
    material = open_material(layout.root)
    asked = {"fraction": 1.0, "seed": 0, "match_size": True}
    plain, bare, loose = (
        arm_rows(material, arm, **asked)["sft"] for arm in ("sft_filtered", "sft_no_reasoning", "sft_unfiltered")
    )
    assert plain["id"].to_list() == bare["id"].to_list()
    assert bare["completion"].list.first().struct.field("reasoning_content").null_count() == bare.height
    assert loose.height == plain.height
    test = set(material.sets["prompts"]["test"]["id"])
    assert not test & set(loose["prompt_id"])
    half, quarter = (
        set(arm_rows(material, "sft_filtered", fraction=share, seed=0, match_size=True)["sft"]["id"])
        for share in (0.5, 0.25)
    )
    assert quarter < half < set(plain["id"])


def test_a_stopped_experiment_goes_on_and_a_finished_one_trains_nothing(home, monkeypatch):
    folder, _, recipe = home
    cell = folder / "out" / "cells" / "base"
    answers = sorted(path.name for path in (cell / "eval" / "answers").iterdir())
    (cell / "cell.json").unlink()  # as if it had been killed before the cell was finished
    (cell / "eval" / "result.json").unlink()

    def none(*_):
        raise AssertionError("nothing is to be trained or asked again")

    monkeypatch.setattr("specdistill.train.run.train", none)
    monkeypatch.setattr("specdistill.builders.engines.factory.make_engine", none)
    results = run_experiment(recipe, folder / "out", QUIET)
    assert len(results) == 6
    assert sorted(path.name for path in (cell / "eval" / "answers").iterdir()) == answers
    assert read_result(cell / "eval").name == "base"


def test_eval_and_compare_on_the_command_line(home, tmp_path):
    folder, _, _ = home
    runner = CliRunner()
    held = str(folder / "out" / "held_out")
    argv = ["eval", str(folder / "model"), "--dataset", held, "--out", str(tmp_path / "a"), "--name", "mine",
            "--engine", "transformers", "--max-tokens", "8", "--limit", "4", "--variant", "leetspeak",
            "--inspect-log"]  # fmt: skip
    done = runner.invoke(app, argv)
    assert done.exit_code == 0, done.output
    assert "cites the spec" in done.output
    assert (tmp_path / "a" / "inspect.json").is_file()
    again = runner.invoke(app, [*argv, "--json"])
    assert json.loads(again.stdout)["name"] == "mine"
    done = runner.invoke(
        app, ["compare", str(tmp_path / "a"), str(folder / "out"), "--baseline", "mine", "--out", str(tmp_path / "c")]
    )
    assert done.exit_code == 0, done.output
    assert (tmp_path / "c" / "index.html").is_file()
    page = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert page["baseline"] == "mine"
    assert len(page["results"]) == 7
    differences = pl.read_parquet(tmp_path / "c" / "differences.parquet")
    assert set(differences["verdict"]) == {"not shown"}  # three steps teach nothing, and the page says so


class FakeGrader(FakeOpenAI):
    """Grades by rule: everything complies; tools are recognised by name."""

    def _answer(self, body, *, fault=""):
        schema = body["response_format"]["json_schema"]["schema"]["properties"]
        said = {"justification": "by rule", "abstain": False}
        if "category" in schema:
            text = body["messages"][-1]["content"]
            said = {"justification": "by rule", "category": "tools" if "TO-" in text else "none"}
        elif "outcome" in schema:
            said = {"justification": "by rule", "outcome": "comply", "in_style": True}
        else:
            said |= dict.fromkeys(("compliance", "helpfulness", "correctness"), 4)
        message = {"role": "assistant", "content": json.dumps(said)}
        choices = [{"index": at, "message": message, "finish_reason": "stop"} for at in range(body.get("n", 1))]
        return json.dumps({"id": "fake", "object": "chat.completion", "model": "fake", "choices": choices}).encode()


def test_a_grader_over_http_gives_compliance_outcomes_and_translations(home, tmp_path):
    from specdistill.schemas.recipe import Engine, Judge

    folder, _, _ = home
    published = open_set(str(folder / "out" / "held_out"))
    with FakeGrader() as server:
        grader = Judge(engine="openai", base_url=server.url, model="fake", k=2)
        asked = evaluation.Asked(
            engine=Engine(engine="transformers", model=str(folder / "model"), temperature=0.0, max_tokens=4),
            published=published,
            suites=[held_out(published, limit=4)],
            grader=grader,
            resamples=100,
        )
        # The small model ends no answer in four tokens, so its texts are put in their place.
        evaluation.evaluate(asked, tmp_path, lambda *_: None)
        part = next((tmp_path / "answers").glob("*.parquet"))
        rows = pl.read_parquet(part).with_columns(
            pl.lit("ok").alias("parse"),
            pl.lit("stop").alias("finish_reason"),
            pl.lit("Take your time.").alias("answer"),
            pl.lit("The policy for tools decides: [TO-C1].").alias("reasoning"),
        )
        part.unlink()
        write_part(part.parent, rows)  # a part is named by its content
        evaluation.evaluate(asked, tmp_path, lambda *_: None)
    result = read_result(tmp_path)
    grades = result.rows("grades")
    assert dict(grades["kind"].value_counts().rows()) == {"judge": 8, "outcome": 4, "retrieval": 4}
    plain = result.numbers.filter((pl.col("grouped_by") == "all") & (pl.col("variant") == "plain"))
    found = {row["metric"]: row for row in plain.to_dicts()}
    assert found["compliance"]["value"] == 0.75
    assert found["compliance"]["by"] == "fake"
    items = result.rows("items")
    expected = items["category"].eq("tools").sum() / items.height
    assert found["policy_retrieval"]["value"] == pytest.approx(expected)
    wanted = items.filter(pl.col("outcome_hint").is_not_null())
    assert found["outcome_accuracy"]["value"] == pytest.approx(wanted["outcome_hint"].eq("comply").mean())


def test_sft_then_grpo_is_an_arm_with_the_run_s_own_judge(home, tmp_path):
    folder, _, _ = home
    with FakeRuleJudge(lambda answer: 3) as server:
        judge = {"engine": "openai", "base_url": server.url, "model": "fake", "k": 3, "threshold": 0.6}
        layout = small_run(tmp_path / "run", judge=judge)
        asked = settings(layout, str(folder / "model"), arms=["sft_grpo"])
        asked["train"]["grpo"] = {"max_steps": 1, "num_generations": 2, "per_device_train_batch_size": 2, "bf16": False,
                                  "max_completion_length": 12, "max_answerless": 1.0}  # fmt: skip
        run_experiment(ExperimentRecipe.model_validate(asked), tmp_path / "out", QUIET)
    first, last = (read_result(path).record for path in results_of(tmp_path / "out"))
    assert (first.name, last.name) == ("sft_filtered-100-s0", "sft_grpo-100-s0")
    lineage = last.model["lineage"]
    assert (lineage["method"], lineage["base_model"]["name"]) == ("grpo", first.name)
    assert lineage["reward"]["judge"] == "fake"


def test_help_names_every_metric_and_transform():
    from specdistill.train.evaluation.transforms import TRANSFORMS

    text = re.sub(r"\s+", " ", CliRunner().invoke(app, ["eval", "--help"], env={"COLUMNS": "300"}).output)
    assert all(name in text for name in TRANSFORMS)
