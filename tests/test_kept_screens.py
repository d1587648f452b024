"""What the screens found is kept beside the candidates: the same as looking again, and never out of date."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import polars as pl
import pytest
from build_helpers import build, run, write_recipe
from fake_openai_server import FakeOpenAI, Rule
from polars.testing import assert_frame_equal

from specdistill.builders import kept_screens
from specdistill.builders.kept_screens import keep_screens, rules_digest
from specdistill.builders.screens import SpecFacts, screen_frame
from specdistill.builders.stored import Stored
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Screens
from specdistill.schemas.recipe_file import load_recipe

NO_RULE = ("specdistill.builders.rewriting", "specdistill.schemas.recipe")
"""Modules that the screens import and that decide nothing of what is found: repairs, and the limits' types."""


def test_every_module_that_decides_what_is_found_is_in_the_digest():
    root = kept_screens.HERE.parent
    covered = {(kept_screens.HERE / name).resolve() for name in kept_screens.CODE}
    for path in covered:
        imported = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
        ours = {module for module in imported if module.startswith("specdistill.")} - {*NO_RULE}
        assert {root / (name.removeprefix("specdistill.").replace(".", "/") + ".py") for name in ours} <= covered


def test_the_rules_depend_on_the_spec_the_limits_and_the_code(monkeypatch):
    facts, limits = SpecFacts(frozenset({"a.b"}), frozenset({"one two"})), Screens()
    digests = {
        rules_digest(facts, limits),
        rules_digest(SpecFacts(frozenset({"a.c"}), facts.shingles), limits),
        rules_digest(SpecFacts(facts.anchors, frozenset({"two one"})), limits),
        rules_digest(facts, Screens(min_reasoning_chars=limits.min_reasoning_chars + 1)),
    }
    monkeypatch.setattr(kept_screens, "code_digest", lambda *given: "another")
    assert len(digests | {rules_digest(facts, limits)}) == 5


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("screens")
    with FakeOpenAI(Rule("http_400", share=0.4)) as server:
        done = build(write_recipe(folder, server.url, per_category=2), folder / "run")
    assert done.returncode in (0, 1), done.stderr
    return folder / "run"


@pytest.fixture
def layout(built, tmp_path):
    return RunLayout(Path(shutil.copytree(built, tmp_path / "run")))


def looked_at(stored: Stored) -> pl.DataFrame:
    """What the screens say of all current candidates, looking at each."""
    found = screen_frame(stored.candidates().collect(), stored.prompt_rows(), stored.facts, stored.recipe.screens)
    return found.sort("candidate_id")


@pytest.mark.integration
def test_a_build_keeps_what_it_found_while_it_ran(layout):
    stored = Stored(layout, load_recipe(layout.recipe))
    assert stored.screens.of(stored.candidate_parts)[1] == []
    assert [path.name for path in layout.screens.iterdir()] == [stored.screens.folder.name]
    found = stored.screened().sort("candidate_id")
    assert_frame_equal(found, looked_at(stored))
    assert "call_failed" in set(found["reason"].drop_nulls())
    assert found["reason"].null_count() > 0


@pytest.mark.integration
def test_what_is_lost_or_damaged_is_looked_at_again_and_kept(layout):
    whole = Stored(layout, load_recipe(layout.recipe)).screened().sort("candidate_id")
    for how in ("damaged", "lost"):
        for path in layout.screens.glob("*/*.parquet"):
            path.write_bytes(path.read_bytes()[:-9]) if how == "damaged" else path.unlink()
        stored = Stored(layout, load_recipe(layout.recipe))
        left = stored.screens.of(stored.candidate_parts)[1]
        assert left == stored.candidate_parts != []
        assert_frame_equal(stored.screened().sort("candidate_id"), whole)  # a reader needs none and writes none
        told: list[tuple[str, int, int]] = []
        keep_screens(stored, lambda *step, told=told: told.append(step))
        rows = sum(part.rows for part in stored.candidate_parts)
        assert told[-1] == ("screening candidates", rows, rows)
        again = Stored(layout, load_recipe(layout.recipe))
        assert again.screens.of(again.candidate_parts)[1] == []
        assert_frame_equal(again.screened().sort("candidate_id"), whole)


@pytest.mark.integration
def test_other_limits_find_other_things_and_what_was_kept_goes(layout):
    stored = Stored(layout, load_recipe(layout.recipe))
    before = stored.screened()["reason"].null_count()
    done = run("select", layout.root, "--set", "screens.min_reasoning_chars=100000")
    assert done.returncode == 0, done.stderr
    strict = Stored(layout, load_recipe(layout.recipe))
    assert strict.screened()["reason"].null_count() == 0 < before
    assert_frame_equal(strict.screened().sort("candidate_id"), looked_at(strict))
    assert [path.name for path in layout.screens.iterdir()] == [strict.screens.folder.name]


@pytest.mark.integration
def test_a_call_that_failed_and_then_succeeded_is_judged_by_what_came(built, tmp_path):
    copy = Path(shutil.copytree(built, tmp_path / "run"))
    layout = RunLayout(copy)
    failed = Stored(layout, load_recipe(layout.recipe)).screened().filter(pl.col("reason") == "call_failed")
    assert failed.height > 0
    with FakeOpenAI() as server:
        done = build(write_recipe(tmp_path, server.url, per_category=2), copy)
    assert done.returncode == 0, done.stderr
    stored = Stored(layout, load_recipe(layout.recipe))
    assert_frame_equal(stored.screened().sort("candidate_id"), looked_at(stored))
    assert "call_failed" not in set(stored.screened()["reason"].drop_nulls())


@pytest.mark.integration
def test_candidates_of_prompts_that_go_and_come_back(tmp_path):
    layout = RunLayout(tmp_path / "run")
    with FakeOpenAI() as server:
        assert build(write_recipe(tmp_path, server.url, per_category=2), layout.root).returncode == 0
        whole = Stored(layout, load_recipe(layout.recipe)).screened().sort("candidate_id")
        shutil.rmtree(layout.screens)
        assert build(write_recipe(tmp_path, server.url, per_category=1), layout.root).returncode == 0
        fewer = Stored(layout, load_recipe(layout.recipe)).screened()
        assert 0 < fewer.height < whole.height
        calls = server.calls
        assert build(write_recipe(tmp_path, server.url, per_category=2), layout.root).returncode == 0
        assert server.calls == calls
    stored = Stored(layout, load_recipe(layout.recipe))
    assert_frame_equal(stored.screened().sort("candidate_id"), whole)
    assert_frame_equal(looked_at(stored), whole)
