"""Agreement equals reference implementations, and intervals and rates hold what they promise."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from specdistill.builders.audit.agreement import alpha, alpha_of, kappa_of, kappas, value_counts
from specdistill.builders.audit.choose import choose
from specdistill.builders.audit.measure import pace, rates, weighted
from specdistill.builders.audit.report import measure
from specdistill.schemas.audit import RESPONSES, Kind
from specdistill.schemas.recipe import Audit

GOLDEN = json.loads((Path(__file__).parent / "golden" / "agreement.json").read_text())
ANSWERS = pl.DataFrame(GOLDEN["answers"], schema=["target_id", "annotator", "verdict"], orient="row")


def test_alpha_equals_two_reference_implementations():
    assert alpha(ANSWERS, "verdict")["alpha"] == pytest.approx(GOLDEN["alpha"], abs=1e-9)


def test_pairwise_kappa_equals_a_reference_implementation():
    found = {f"{row['first']}/{row['second']}": row["kappa"] for row in kappas(ANSWERS, "verdict")}
    assert found == pytest.approx(GOLDEN["kappa"], abs=1e-9)


# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), sections C to E: four observers, twelve units.
UNITS = """
1 1 . 1 | 2 2 3 2 | 3 3 3 3 | 3 3 3 3 | 2 2 2 2 | 1 2 3 4 | 4 4 4 4 | 1 1 2 1 | 2 2 2 2 | . 5 5 5 | . . 1 1 | . 3 . .
"""


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_equals_the_published_example(level, published):
    rows = [
        (f"u{unit:02}", f"o{observer}", int(value))
        for unit, values in enumerate(UNITS.split("|"))
        for observer, value in enumerate(values.split())
        if value != "."
    ]
    counts, values = value_counts(
        pl.DataFrame(rows, schema=["target_id", "annotator", "rating"], orient="row"), "rating"
    )
    assert len(counts) == 11, "a unit with one answer tells nothing about agreement"
    assert round(alpha_of(counts, values, level), 3) == published


def test_intervals_hold_the_value_and_shrink_with_more_records():
    one = alpha(ANSWERS, "verdict")
    more = pl.concat([ANSWERS.with_columns(pl.col("target_id") + f"-{copy}") for copy in range(4)])
    four = alpha(more, "verdict")
    assert one["low"] < one["alpha"] < one["high"]
    assert four["high"] - four["low"] < 0.7 * (one["high"] - one["low"])
    assert alpha(ANSWERS, "verdict") == one, "the same answers give the same interval"


def test_what_is_undefined_is_no_number():
    same = pl.DataFrame({"target_id": ["a", "a"], "annotator": ["x", "y"], "verdict": ["accept", "accept"]})
    assert alpha(same, "verdict")["alpha"] is None
    assert alpha(same.head(1), "verdict")["alpha"] is None
    assert kappa_of(["a", "a"], ["a", "a"]) is None
    assert kappas(same, "verdict")[0]["kappa"] is None


def test_rates_extrapolate_from_strata_of_unequal_share():
    """900 accepted rows of which 80 % are good, 100 rejected of which 20 % are; 50 of each were looked at."""
    population = pl.DataFrame({"category": ["a"] * 1_000, "judge_accepts": [True] * 900 + [False] * 100})
    control = pl.DataFrame(
        {
            "target_id": [f"c{number:03}" for number in range(100)],
            "category": ["a"] * 100,
            "judge_accepts": [True] * 50 + [False] * 50,
            "good": [True] * 40 + [False] * 10 + [True] * 10 + [False] * 40,
            "score": [0.9] * 50 + [0.3] * 50,
        }
    )
    found = rates(weighted(control, population), 0.75)
    assert found["precision"] == pytest.approx(0.8)
    assert found["recall"] == pytest.approx(900 * 0.8 / (900 * 0.8 + 100 * 0.2))
    assert found["precision_low"] < 0.8 < found["precision_high"]
    assert found["threshold"] == 0.9
    assert rates(weighted(control, population), 0.85)["threshold"] is None


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9])
def test_what_is_measured_is_the_judge_of_today_not_of_the_day_people_were_asked(threshold):
    """People accept what scores 0.8 or more. They were asked at a threshold of 0.5; later it moves."""
    scores = [(number + 0.5) / 400 for number in range(400)]
    keys = [f"c{number:03}" for number in range(400)]

    def population(at):
        return pl.DataFrame(
            {
                "target_id": keys,
                "prompt_id": keys,
                "category": ["a"] * 400,
                "outcome": ["comply"] * 400,
                "judge_accepts": [score >= at for score in scores],
                "score": scores,
                "priority": [0.0] * 400,
                "why": [[]] * 400,
            },
            schema_overrides={"why": pl.List(pl.String)},
        )

    audit = Audit(random_control=1.0)
    records = choose(population(0.5), Kind.ROW, 200, audit)
    good = {key: score >= 0.8 for key, score in zip(keys, scores, strict=True)}
    now = datetime(2026, 1, 1, tzinfo=UTC)
    answers = [
        {"response_id": f"r{key}", "record_id": f"row-{key}", "round": 1, "kind": "row", "target_id": key}
        | {"dataset_id": "d", "annotator": "ann", "status": "submitted", "created": now, "updated": now}
        | {"verdict": "accept" if good[key] else "reject", "clauses": [], "spans": []}
        for key in records["target_id"]
    ]
    today = population(threshold)
    found = measure(records, RESPONSES.frame(answers), today, audit)
    accepted = [key for key, score in zip(keys, scores, strict=True) if score >= threshold]
    right = sum(good[key] for key in accepted)
    assert found["control"]["precision"] == pytest.approx(right / len(accepted), abs=0.08)
    assert found["control"]["recall"] == pytest.approx(right / sum(good.values()), abs=0.08)
    [row] = [row for row in found["confusion"] if row["category"] == "all"]
    asked = [key for key in records["target_id"] if key in accepted]
    assert row["both_accept"] + row["judge_only"] == len(asked)
    gone = today.filter(pl.col("score") < 0.9)
    assert measure(records, RESPONSES.frame(answers), gone, audit)["control"]["records"] < 200


def test_an_interval_is_not_empty_where_all_are_alike():
    population = pl.DataFrame({"category": ["a"] * 100, "judge_accepts": [True] * 100})
    control = pl.DataFrame(
        {
            "target_id": [f"c{number}" for number in range(10)],
            "category": ["a"] * 10,
            "judge_accepts": [True] * 10,
            "good": [True] * 10,
            "score": [0.9] * 10,
        }
    )
    found = rates(weighted(control, population), 0.9)
    assert found["precision"] == 1.0
    assert 0.6 < found["precision_low"] < 0.8


def test_the_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(3)
    population = pl.DataFrame({"category": ["a"] * 2_000, "judge_accepts": [True] * 1_200 + [False] * 800})
    good = np.concatenate([random.random(1_200) < 0.85, random.random(800) < 0.3])
    truth, covered, trials = good[:1_200].mean(), 0, 40
    for _ in range(trials):
        drawn = np.concatenate([random.choice(1_200, 90, False), 1_200 + random.choice(800, 60, False)])
        control = population[drawn].with_columns(
            pl.Series("target_id", [f"c{at}" for at in drawn]),
            pl.Series("good", good[drawn]),
            pl.lit(0.5).alias("score"),
        )
        found = rates(weighted(control, population), 0.9)
        covered += found["precision_low"] <= truth <= found["precision_high"]
    assert covered >= 0.85 * trials  # 95 % of 40 is 38; below 34 has a probability under 1 in 1,000


def test_pace_leaves_breaks_out():
    began = datetime(2026, 1, 1, 9, tzinfo=UTC)
    at = [0, 20, 40, 60, 60 + 7_200, 60 + 7_220]
    frame = pl.DataFrame(
        {
            "annotator": ["ann"] * 6,
            "status": ["submitted"] * 5 + ["discarded"],
            "updated": [began + timedelta(seconds=seconds) for seconds in at],
        }
    )
    assert pace(frame) == [
        {"annotator": "ann", "submitted": 5, "discarded": 1, "draft": 0, "median_seconds": 20.0, "per_hour": 180.0}
    ]
