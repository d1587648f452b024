"""Which records people see: deterministic, explained, with a control slice that is a sample."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_fixture import write_run
from typer.testing import CliRunner

from specdistill.builders.audit.choose import choose, unsure, wanted_rows
from specdistill.builders.audit.size import buys, half_width, records_for
from specdistill.builders.proportion import shares
from specdistill.cli.app import app
from specdistill.errors import UsageError
from specdistill.schemas.audit import Kind
from specdistill.schemas.recipe import Audit


def population(count=400):
    """Rows of four categories; every third the judge rejects; priority grows with the number."""
    return pl.DataFrame(
        {
            "target_id": [f"c{number:04}" for number in range(count)],
            "prompt_id": [f"p{number // 3}" for number in range(count)],
            "category": ["abcd"[number % 4] for number in range(count)],
            "outcome": [("comply", "refuse")[number // 4 % 2] for number in range(count)],
            "judge_accepts": [number % 3 > 0 for number in range(count)],
            "score": [number / count for number in range(count)],
            "priority": [number / count for number in range(count)],
            "why": [["unsure"] for _ in range(count)],
        }
    )


def test_the_same_run_gives_the_same_records_whatever_the_order_of_its_rows():
    rows = population()
    first = choose(rows, Kind.ROW, 80, Audit())
    again = choose(rows.sample(fraction=1.0, shuffle=True, seed=1), Kind.ROW, 80, Audit())
    assert first.sort("record_id").equals(again.sort("record_id"))
    other = choose(rows, Kind.ROW, 80, Audit(seed=1))
    control = [set(frame.filter(pl.col("slice") == "control")["target_id"]) for frame in (first, other)]
    assert control[0] != control[1], "another seed draws another sample"


def test_borderline_is_the_least_sure_of_each_category_and_control_is_not():
    chosen = choose(population(), Kind.ROW, 80, Audit(random_control=0.25))
    counts = dict(chosen.group_by("slice").len().iter_rows())
    assert counts == {"borderline": 60, "control": 20}
    borderline = chosen.filter(pl.col("slice") == "borderline")
    assert borderline.group_by("category").len()["len"].to_list() == [15, 15, 15, 15]
    assert borderline.group_by("category", "outcome").len()["len"].min() >= 7, "outcomes in turn"
    assert borderline["priority"].min() > 0.8
    control = chosen.filter(pl.col("slice") == "control")
    assert control["priority"].mean() < 0.75, "a random slice is not the unsure one"
    assert control.group_by("category", "judge_accepts").len().height == 8, "every stratum is in the sample"
    assert control["hidden"].all()
    assert not borderline["hidden"].any()


def test_a_larger_draw_holds_the_smaller_one():
    rows = population()
    small, large = (choose(rows, Kind.ROW, total, Audit()) for total in (80, 160))
    drawn = [set(frame.filter(pl.col("slice") == "control")["target_id"]) for frame in (small, large)]
    assert drawn[0] <= drawn[1]


@pytest.mark.parametrize(
    ("shown", "hidden"), [("all", set()), ("none", {"borderline", "control"}), ("borderline", {"control"})]
)
def test_where_the_judges_view_is_hidden(shown, hidden):
    chosen = choose(population(), Kind.ROW, 80, Audit(show_judge=shown))
    assert set(chosen.filter("hidden")["slice"]) == hidden


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12), st.integers(-5, 300))
@settings(max_examples=200, deadline=None)
def test_shares_add_up_and_fit(sizes, count):
    given_out = shares(sizes, count)
    assert sum(given_out) == max(0, min(count, sum(sizes)))
    assert all(0 <= share <= size for share, size in zip(given_out, sizes, strict=True))
    if count >= sum(size > 0 for size in sizes) and count >= len(sizes):
        assert all(share >= 1 for share, size in zip(given_out, sizes, strict=True) if size)


def test_why_names_what_was_seen():
    row = {
        "score": 0.78,
        "samples": 5,
        "above": 2,
        "abstentions": 1,
        "score_std": 0.3,
        "compliance": 1.0,
        "helpfulness": 0.25,
        "correctness": None,
        "reasoning_quality": 1.0,
        "clauses": ["A-R1"],
        "outcome_hint": "comply",
    }
    said = unsure(row, 0.8, {"A-R1": "refuse"})
    assert "score 0.78 is near the threshold 0.80" in said
    assert "2 of 5 judge samples fall on the other side" in said
    assert "judge samples spread by 0.30" in said
    assert "1 of 6 judge samples abstained" in said
    assert "compliance 1.00 but helpfulness 0.25" in said
    assert "the prompt's hint says comply, the clauses cited say refuse" in said
    sure = row | {"score": 0.2, "above": 0, "abstentions": 0, "score_std": 0.0, "helpfulness": 1.0, "clauses": []}
    assert unsure(sure, 0.8, {"A-R1": "refuse"}) == {}


def test_what_a_number_of_records_buys():
    assert round(100 * half_width(200, 10**9), 1) == 4.2
    assert half_width(50, 50) == 0
    assert half_width(0, 50) == 1
    for points in (0.02, 0.05, 0.1):
        wanted = records_for(points, 5_000)
        assert half_width(wanted, 5_000) <= points < half_width(wanted - 2, 5_000)
    assert "± 4.2 points" in buys(200, 10**7)


def test_a_wanted_precision_gives_the_number_of_rows():
    rows = population(1_200)
    total = wanted_rows(rows, Audit(random_control=0.5), 5)
    chosen = choose(rows, Kind.ROW, total, Audit(random_control=0.5))
    accepted = chosen.filter((pl.col("slice") == "control") & pl.col("judge_accepts")).height
    assert half_width(accepted, rows.filter("judge_accepts").height) <= 0.052
    with pytest.raises(UsageError, match="cannot be had"):
        wanted_rows(rows, Audit(random_control=0.0), 5)


def test_numbers_that_cannot_be_are_refused_not_ignored(tmp_path):
    for option in ("--rows", "--pairs"):
        done = CliRunner().invoke(app, ["audit", "push", str(tmp_path), "--dry-run", option, "-1"])
        assert (done.exit_code, option in done.stderr) == (2, True), done.output
    run = write_run(tmp_path / "run", prompts=30).root
    done = CliRunner().invoke(app, ["audit", "push", str(run), "--dry-run", "--precision", "0"])
    assert isinstance(done.exception, UsageError)
    assert "give --precision between 0 and 100" in done.exception.remedy
    none = CliRunner().invoke(app, ["audit", "push", str(run), "--dry-run", "--rows", "0", "--pairs", "0", "--json"])
    assert json.loads(none.stdout) == {"records": []}
    assert choose(population(), Kind.ROW, -3, Audit()).is_empty()
