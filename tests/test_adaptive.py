"""Adaptive k: fewer judge samples, the same accepted rows."""

import json

import polars as pl
import pytest
from build_helpers import build, write_recipe
from fake_openai_server import FakeOpenAI
from hypothesis import given
from hypothesis import strategies as st

from specdistill.builders.adaptive import Rule, aggregated, hopeless
from specdistill.builders.judging import Verdict
from specdistill.errors import RecipeError
from specdistill.schemas.recipe_file import parse_recipe
from specdistill.schemas.scores import aggregation, always_whole, is_always_whole
from specdistill.schemas.vocabulary import JudgmentStatus

SCORES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
AGGREGATES = st.sampled_from(["min", "mean", "median", "max", "q25", "q90"])


@given(st.lists(SCORES, min_size=1, max_size=9), AGGREGATES)
def test_one_aggregation_in_two_languages(scores, aggregate):
    expected = pl.DataFrame({"x": scores}).select(aggregation(aggregate, "x")).item()
    assert aggregated(scores, aggregate) == pytest.approx(expected, abs=1e-9)


@given(
    st.lists(st.none() | SCORES, min_size=5, max_size=5),
    AGGREGATES,
    SCORES,
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_cutting_short_changes_no_acceptance(scores, aggregate, threshold, votes, first, number):
    """Whatever the judge would have said: what all five samples accept is accepted, with all five."""
    rule = Rule(
        first=first, whole=0.1, k=5, aggregate=aggregate, threshold=threshold, votes_needed=votes, weights={"c": 1.0}
    )
    name, there = f"{number:08x}", {}
    while wave := rule.next(name, range(5), there):
        assert not set(wave) & set(there)
        for index in wave:
            scored = scores[index] is not None
            status = JudgmentStatus.SCORED if scored else JudgmentStatus.ABSTAINED
            there[index] = Verdict(status, None, {"c": scores[index]} if scored else {})
    given_ = [score for score in scores if score is not None]
    accepted = len(given_) >= votes and aggregated(given_, aggregate) >= threshold
    if accepted or is_always_whole(name, 0.1):
        assert sorted(there) == [0, 1, 2, 3, 4]
    if len(there) < 5:
        seen = [scores[index] for index in there if scores[index] is not None]
        assert hopeless(seen, 5 - len(there), aggregate, threshold, votes)
        assert not accepted


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_the_slice_is_drawn_alike_in_rows_and_columns(number, share):
    name = f"{number:08x}rest"
    assert pl.DataFrame({"candidate_id": [name]}).select(always_whole(share)).item() == is_always_whole(name, share)


def test_a_panel_cannot_be_cut_short():
    text = (
        "name: x\nspec: safety\nprompts: [{path: a.jsonl}]\ngenerator: {model: m}\n"
        "judge: {model: m, k: 3, adaptive: {}, panel: [{model: n}]}\n"
    )
    with pytest.raises(RecipeError, match="one judge"):
        parse_recipe(text)


@pytest.mark.integration
def test_a_build_asks_less_and_is_whole(tmp_path):
    with FakeOpenAI() as server:
        recipe = write_recipe(tmp_path, server.url)
        before, after = "threshold: 0.3, aggregate: mean", "threshold: 0.5, aggregate: min, adaptive: {whole: 0.2}"
        text = recipe.read_text()
        assert before in text
        recipe.write_text(text.replace(before, after))
        run = tmp_path / "run"
        done = build(recipe, run)
        assert done.returncode == 0, done.stderr
        again = build(recipe, run)
    assert "Nothing to generate or judge" in again.stderr
    k = json.loads((run / "manifest.json").read_text())["recipe"]["judge"]["k"]
    asked = pl.read_parquet(run / "judgments" / "*.parquet").group_by("candidate_id").len()
    assert (asked["len"] < k).any()
    cut = asked.filter(pl.col("len") < k)
    assert not any(is_always_whole(name, 0.2) for name in cut["candidate_id"])
    sets = run / "datasets"
    accepted = pl.read_parquet(sets / "sft" / "*.parquet").join(asked, left_on="id", right_on="candidate_id")
    assert accepted.height > 0
    assert (accepted["len"] == k).all()
    reward = pl.read_parquet(sets / "reward" / "*.parquet").join(cut, left_on="id", right_on="candidate_id")
    assert reward.is_empty(), "a score of some samples is no target"
    report = (run / "report" / "README.md").read_text()
    assert "drawn by their id" in report
