"""A run is worked through in ranges of prompts; how many ranges there are changes nothing."""

import polars as pl
import pytest
from build_helpers import build, write_recipe
from fake_openai_server import FakeOpenAI, Rule
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from specdistill.builders.parts import write_part
from specdistill.builders.plan import plan
from specdistill.builders.runner import SAMPLES
from specdistill.builders.selection import decide_run, select, sets_of_run
from specdistill.builders.shards import shards_of
from specdistill.builders.stored import Stored, read_rows
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.recipe_file import load_recipe


@given(st.lists(st.text(max_size=6), max_size=40), st.integers(0, 500), st.integers(1, 50))
def test_every_prompt_is_in_one_range(ids, rows, most):
    shards = shards_of(pl.Series(ids, dtype=pl.String), rows, most)
    frame = pl.DataFrame({"prompt_id": ids}, schema={"prompt_id": pl.String})
    assert sum(shard.of(frame).height for shard in shards) == len(ids)
    for key in ids:
        assert sum(shard.contains(key) for shard in shards) == 1
    assert len(shards) <= max(1, len(set(ids)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A build of several arms against a server that refuses one prompt in some."""
    folder = tmp_path_factory.mktemp("sharded")
    with FakeOpenAI(Rule("http_400", share=0.05)) as server:
        recipe = write_recipe(folder, server.url)
        done = build(recipe, folder / "run")
    assert done.returncode in (0, 1), done.stderr
    return RunLayout(folder / "run")


@pytest.mark.integration
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"quota": {"per_category": 3, "max_samples_per_prompt": 2}},
        {"quota": {"max_samples_per_prompt": 1}},
        {"preference": {"min_margin": 0.0, "noise_factor": 0.1, "max_chosen_longer": 0.5, "pairs_per_prompt": 3}},
    ],
)
def test_ranges_change_nothing_about_the_sets(run, changes):
    before = load_recipe(run.recipe)
    recipe = Recipe.model_validate(before.model_dump() | changes)
    rows = read_rows(run, recipe)
    whole = select(rows.prompts, rows.candidates, rows.judgments, rows.clauses, recipe)
    assert whole["preference"]["train"].height
    stored = Stored(run, recipe, shard_rows=10)
    assert len(stored.shards) > 3
    with decide_run(stored) as decided:
        assert sum(frame.height for frame in decided) == rows.candidates.height
        ranges = list(sets_of_run(stored, decided))
    assert not list(run.root.glob(".deciding-*"))
    over = whole["rejected"]["train"].filter(pl.col("reason") == "over_quota").height
    assert bool(over) == ("quota" in changes)
    for config, splits in whole.items():
        for split, frame in splits.items():
            parts = [sets[config][split] for sets in ranges if split in sets[config]]
            assert_frame_equal(pl.concat(parts), frame, check_exact=True)
            if not changes:
                assert_frame_equal(pl.read_parquet(run.datasets / config / f"{split}.parquet"), frame, check_exact=True)


@pytest.mark.integration
def test_ranges_change_nothing_about_what_is_left_to_do(run):
    recipe = load_recipe(run.recipe)
    for part in sorted(run.candidates.glob("*.parquet"))[:1]:
        kept = pl.read_parquet(part).sample(fraction=0.6, seed=1)
        part.unlink()
        write_part(run.candidates, kept)
    for part in sorted(run.judgments.glob("*.parquet"))[:1]:
        kept = pl.read_parquet(part).sample(fraction=0.5, seed=1)
        part.unlink()
        write_part(run.judgments, kept)
    plans = [plan(Stored(run, recipe, shard_rows=most)) for most in (10_000, 10)]
    wanted = [
        (
            one.candidates_wanted,
            one.judgments_wanted,
            sorted((row["prompt_id"], str(sorted(row[SAMPLES].items()))) for row in one.generate()),
            {
                arm: sorted((row["candidate_id"], str(sorted(row[SAMPLES].items())), row["answer"]) for row in rows())
                for arm, rows in one.judge.items()
            },
        )
        for one in plans
    ]
    assert wanted[0] == wanted[1]
    candidates, judgments, generate, judge = wanted[0]
    assert candidates > 0
    assert judgments > 0
    assert generate
    assert any(judge.values())
