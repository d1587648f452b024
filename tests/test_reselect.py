"""What `select` may change: nothing that asks for rows which are not there, and it does not make a run whole."""

import polars as pl
import pytest
from run_fixture import write_run

from specdistill.builders.parts import write_part
from specdistill.builders.reselect import refuse_new_work, reselect
from specdistill.builders.run import open_run
from specdistill.builders.status import run_status
from specdistill.cli.runs import show_status
from specdistill.errors import SelectionError
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.recipe_file import parse_recipe

RECIPE = """
name: x
spec: safety
prompts: [{path: a.jsonl}]
classifier: {model: m}
evaluation: {per_category: 3}
generator: {model: m, reasoning: guided}
contrast: {samples: 1}
repair: {samples: 1}
constitution: {samples: 1}
judge: {model: m, k: 3, panel: [{model: n}]}
preference: {pairwise: {samples: 1}}
"""
NEW_WORK = {
    "spec": ["spec=support"],
    "context": ["context.examples=true"],
    "prompts": ["prompts.0.path=b.jsonl", "prompts.0.limit=3"],
    "clean": ["clean.near=0.5"],
    "decontaminate": ["decontaminate=[{path: e.jsonl}]"],
    "overlap": ["overlap.words=5"],
    "classifier": ["classifier.k=2", "classifier=null"],
    "evaluation": ["evaluation.per_category=2"],
    "generator": [
        "generator.samples=5",
        "generator.placement=wrapped",
        "generator.reasoning=native",
        "generator.answer_chars=100",
        "generator.reasoning_chars=100",
        *(f"generator.{change}" for change in ("model=n", "temperature=0", "top_p=0.5", "max_tokens=9", "seed=1")),
    ],
    "judge": [
        "judge.k=4",
        "judge.hint=true",
        "judge.justification_chars=100",
        "judge.panel=[{model: o}]",
        "judge={model: m, k: 3, adaptive: {}}",
        *(f"judge.{change}" for change in ("model=o", "temperature=0", "top_p=0.5", "max_tokens=9", "seed=1")),
    ],
    "contrast": ["contrast.samples=2"],
    "repair": ["repair.samples=2"],
    "constitution": ["constitution.samples=2"],
    "preference": ["preference.pairwise.samples=2"],
}
"""Key of the recipe to changes of it that ask for rows which are not there."""
FREE = {
    "context": ["context.budget=9"],
    "generator": ["generator.samples=2", "generator.concurrency=2"],
    "judge": [
        "judge.k=2",
        "judge.threshold=0.1",
        "judge.aggregate=mean",
        "judge.panel=[]",
        "judge.weights.compliance=1",
    ],
    "contrast": ["contrast=null"],
    "repair": ["repair=null"],
    "constitution": ["constitution=null"],
    "preference": ["preference.min_margin=0.5", "preference.pairwise=null"],
    "name": ["name=y"],
    "screens": ["screens.copied_words=9"],
    "quota": ["quota.per_category=3"],
    "budget": ["budget.completion_tokens=1"],
    "heuristic": ["heuristic.sections={safety: [x]}"],
    "split": ["split.test=0.5"],
    "audit": ["audit.per_category=1"],
    "licences": ["licences.models=MIT"],
}
"""Key of the recipe to changes of it that do not."""


def test_every_key_of_a_recipe_is_thought_of():
    assert set(NEW_WORK) | set(FREE) == set(Recipe.model_fields)


@pytest.mark.parametrize("change", [change for changes in NEW_WORK.values() for change in changes])
def test_what_asks_for_rows_that_are_not_there_is_refused(change, tmp_path):
    with pytest.raises(SelectionError, match="needs model calls"):
        refuse_new_work(parse_recipe(RECIPE), parse_recipe(RECIPE, [change]), RunLayout(tmp_path))


@pytest.mark.parametrize("change", [change for changes in FREE.values() for change in changes])
def test_what_stored_rows_answer_is_free(change, tmp_path):
    refuse_new_work(parse_recipe(RECIPE), parse_recipe(RECIPE, [change]), RunLayout(tmp_path))


def replace_parts(folder, rows):
    for part in folder.glob("part-*.parquet"):
        part.unlink()
    write_part(folder, rows)


def test_a_run_with_rows_to_come_is_not_complete_whatever_was_selected(tmp_path, capsys):
    layout = write_run(tmp_path / "run")
    candidates, judgments = (pl.read_parquet(folder / "*.parquet") for folder in (layout.candidates, layout.judgments))
    replace_parts(
        layout.candidates, candidates.with_columns(pl.col("parse").replace("failed", "malformed"), error=None)
    )
    replace_parts(layout.judgments, judgments.with_columns(pl.col("status").replace("failed", "abstained"), error=None))
    reselect(layout.root)
    whole = run_status(*open_run(layout.root))
    assert (whole["complete"], whole["stages"]["judgments"]["pending"]) == (True, 0)

    replace_parts(layout.judgments, pl.read_parquet(layout.judgments / "*.parquet").head(400))
    reselect(layout.root)
    half = run_status(*open_run(layout.root))
    assert not half["complete"]
    assert half["stages"]["judgments"]["pending"] > 0
    for found, state in ((whole, "complete"), (half, "can be resumed")):
        show_status(found)
        assert f": {state}\n" in capsys.readouterr().out
