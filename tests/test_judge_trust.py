"""The judge's numbers against a simulated judge of known error, and against plain arithmetic."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from itertools import combinations
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_trials import held, label_rows, recipe, trial
from run_fixture import write_run
from simulated_judge import CLAUSE_ROWS, SimulatedJudge, candidates_for

from specdistill.builders.calibration import (
    calibrate,
    population_of,
    precision,
    roc,
    threshold_for,
    threshold_table,
    thresholds_of,
)
from specdistill.builders.comparing import compare_messages, order_numbers, pair_votes, read_choice
from specdistill.builders.reselect import reselect
from specdistill.builders.selection import decide_all
from specdistill.cards.judge_noise import TRIED, candidate_noise, enough, noise_of, unstable
from specdistill.cards.judge_numbers import judge
from specdistill.cards.report import write_report
from specdistill.errors import SelectionError
from specdistill.schemas.intervals import clustered_share, kappa, mean_interval, wilson
from specdistill.schemas.labels import LABELS, read_labels
from specdistill.schemas.recipe_file import load_recipe
from specdistill.schemas.scores import sample_score
from specdistill.schemas.verify import read_manifest
from specdistill.schemas.vocabulary import AbstainReason, JudgmentStatus

WEIGHTS = recipe().judge.weights


@pytest.mark.integration
def test_the_report_recovers_the_errors_of_a_simulated_judge():
    """A smaller sibling of benchmarks/judge_trust.py: 40 runs, seeded, so the counts do not change from day to day."""
    right = Counter()
    for seed in range(40):
        right.update(name for name, found in trial(seed, prompts=40, labels=80).items() if held(found))
    assert right.pop("precision of the accepted") >= 38  # 95 of 100
    assert len(right) == 5
    assert min(right.values()) >= 34, right  # of a true 95 % interval fewer hold in one of a thousand such tests


@pytest.fixture(scope="module")
def run():
    """A judged run: (population, labels, judgments)."""
    asked, sampled, levels = candidates_for(60, 4, 1)
    judged = SimulatedJudge(noise=0.4, abstain=0.15, seed=3).judgments(levels, 5)
    population = population_of([decide_all(asked, sampled, judged, CLAUSE_ROWS, recipe(min_votes=1))])
    labels = label_rows(levels, dict(population.select("id", "score").iter_rows()), 80, 5, borderline=False)
    return population, labels, judged


def noise_rows(judged, threshold=0.4):
    raw = judged.lazy().with_columns(sample_score(WEIGHTS).alias("sample_score"))
    return candidate_noise(raw, threshold).collect()


def test_noise_by_hand(run):
    judged = run[2]
    total = sum(WEIGHTS.values())
    samples: dict[str, list[float]] = {}
    asked = Counter()
    for row in judged.iter_rows(named=True):
        asked[row["candidate_id"]] += 1
        if row["status"] == "scored":
            score = round(sum(weight * row[name] for name, weight in WEIGHTS.items()) / total, 9)
            samples.setdefault(row["candidate_id"], []).append(score)
    repeated = {key: scores for key, scores in samples.items() if len(scores) > 1}
    pairs = [statistics.fmean((a >= 0.4) != (b >= 0.4) for a, b in combinations(s, 2)) for s in repeated.values()]
    found = noise_of(noise_rows(judged), 0.4, "mean")
    assert found["repeated"] == len(repeated)
    assert found["flipped"] == sum(len({score >= 0.4 for score in scores}) == 2 for scores in repeated.values())
    assert found["disagreement"] == pytest.approx(statistics.fmean(pairs))
    variances = [statistics.variance(scores) for scores in repeated.values()]
    assert found["sd"]["sd"] == pytest.approx(math.sqrt(statistics.fmean(variances)))
    given_up = sum(asked.values()) - sum(map(len, samples.values()))
    assert found["abstention"]["share"] == pytest.approx(given_up / sum(asked.values()))


@pytest.mark.parametrize("aggregate", ["min", "mean", "median", "max", "q25"])
def test_the_chance_of_another_verdict_is_what_a_second_panel_shows(aggregate):
    """Predicted from one run with k = 5; seen by judging 600 candidates twice more."""
    levels = candidates_for(150, 4, 2)[2]
    settings_ = {"bias": 0.0, "noise": 0.6, "abstain": 0.0}
    predicted = unstable(noise_rows(SimulatedJudge(seed=1, **settings_).judgments(levels, 5)), 0.4, aggregate)
    assert set(predicted) == set(TRIED)
    # Exact: all four criteria scatter by steps of 1/4, so a sample's distribution can be enumerated.
    steps = {0.0: 0.4, 0.25: 0.3, -0.25: 0.3}
    dist = Counter({0.0: 1.0})
    for weight in WEIGHTS.values():
        grown: Counter = Counter()
        for at, chance in dist.items():
            for step, likely in steps.items():
                grown[round(at + weight / sum(WEIGHTS.values()) * step, 9)] += chance * likely
        dist = grown
    assert sum(dist.values()) == pytest.approx(1)
    for k in (1, 3, 5):
        seen = []
        for level, count in Counter(levels.values()).items():
            true = (level - 1) / 4
            passing = sum(chance for at, chance in dist.items() if true + at >= 0.4 - 1e-9)
            if aggregate == "min":
                q = passing**k
            elif aggregate == "max":
                q = 1 - (1 - passing) ** k
            elif k == 1:
                q = passing
            else:
                continue
            seen += [2 * q * (1 - q)] * count
        if seen:
            assert predicted[k] == pytest.approx(statistics.fmean(seen), abs=0.06), (aggregate, k)


def test_a_judge_without_noise_needs_one_sample_and_a_dice_rolling_one_more(run):
    levels = candidates_for(40, 4, 2)[2]
    still = noise_of(noise_rows(SimulatedJudge(bias=0, noise=0, abstain=0).judgments(levels, 4)), 0.4, "mean")
    assert (still["sd"]["sd"], still["flipped"], still["k_needed"]) == (0.0, 0, 1)
    assert still["reliability"] == pytest.approx(1.0)
    dice = noise_of(noise_rows(SimulatedJudge(bias=0, noise=1.0, abstain=0).judgments(levels, 4)), 0.4, "mean")
    assert dice["reliability"] < still["reliability"]
    assert dice["k_needed"] > 1


def test_two_judges_are_measured_apart_and_against_each_other():
    levels = candidates_for(50, 4, 4)[2]
    strict, lax = (
        SimulatedJudge(bias=0.0, noise=0.1, seed=1, name="strict"),
        SimulatedJudge(bias=0.9, noise=0.1, seed=2, name="lax"),
    )
    both = pl.concat([strict.judgments(levels, 3), lax.judgments(levels, 3)])
    found = judge({"judgments": both.lazy()}, 0.4, WEIGHTS, "mean")
    assert [row["judge"] for row in found["judges"]] == ["lax", "strict"]
    (pair,) = found["agreement"]
    assert pair["difference"]["mean"] == pytest.approx(0.9 / 4, abs=0.02)
    assert pair["difference"]["low"] < pair["difference"]["mean"] < pair["difference"]["high"]
    assert pair["same"]["share"] < 0.9
    alone = judge({"judgments": strict.judgments(levels, 3).lazy()}, 0.4, WEIGHTS, "mean")
    assert (alone["judges"], alone["agreement"]) == ([], [])


# Intervals


def test_kappa_equals_published_values():
    """Cohen's worked example as in Fleiss, Levin and Paik (2003): 20 and 15 agreements of 50."""
    assert kappa(20, 5, 10, 15)["kappa"] == pytest.approx(0.4)
    assert kappa(0, 0, 0, 0)["kappa"] is None
    assert kappa(7, 0, 0, 0)["kappa"] is None
    perfect = kappa(10, 0, 0, 12)
    assert (perfect["kappa"], perfect["low"], perfect["high"]) == (1.0, 1.0, 1.0)


def test_as_many_samples_are_enough_as_no_larger_number_contradicts() -> None:
    settles = {k: 0.5 / k for k in TRIED}
    assert enough(settles) == 10
    assert enough(settles | {12: 0.06}) == 13, "under min, more samples may be less stable again"
    assert enough(settles | {100: 0.06}) is None
    assert enough({}) is None


def test_clustered_shares_are_wider_where_clusters_agree_with_themselves():
    alone = wilson(50, 100)
    same = clustered_share(pl.Series([10.0] * 5 + [0.0] * 5), pl.Series([10.0] * 10))
    assert same["share"] == 0.5
    assert same["high"] - same["low"] > 2 * (alone["high"] - alone["low"])
    mixed = clustered_share(pl.Series([5.0] * 10), pl.Series([10.0] * 10))
    assert mixed["high"] - mixed["low"] == pytest.approx(alone["high"] - alone["low"])
    assert clustered_share(pl.Series([], dtype=pl.Float64), pl.Series([], dtype=pl.Float64))["share"] is None


def test_mean_interval_of_few_values():
    assert mean_interval(pl.Series([None, None], dtype=pl.Float64))["mean"] is None
    assert mean_interval(pl.Series([0.5]))["low"] is None


# Calibration


def test_the_area_under_the_roc_is_the_chance_that_a_good_row_scores_higher(run):
    population, labels, _ = run
    labelled = population.join(labels.select("id", "label", human="score"), on="id")
    good, bad = (labelled.filter(pl.col("label") == side)["score"].to_list() for side in (True, False))
    wins = statistics.fmean((a > b) + (a == b) / 2 for a in good for b in bad)
    found = roc(labelled)
    assert found["auc"] == pytest.approx(wins)
    assert found["low"] < wins < found["high"]
    assert (found["points"][-1]["false"], found["points"][-1]["true"]) == (1.0, 1.0)


def test_borderline_labels_do_not_bend_the_precision():
    """All rows at 0.4 are bad, all at 0.9 good; nine of ten labels are of the first, one of ten rows is."""
    scores = pl.Series([0.4] * 100 + [0.9] * 900)
    labelled = pl.DataFrame({"score": [0.4] * 90 + [0.9] * 10, "label": [False] * 90 + [True] * 10})
    found = precision(scores, labelled, 0.95)
    assert found["precision"] == pytest.approx(0.9)
    assert found["low"] < 0.9 < found["high"]


def test_a_target_precision_is_reached_by_the_lower_end(run):
    population, labels, _ = run
    threshold = threshold_for(population, labels, 0.6, 0.4)
    labelled = population.join(labels.select("id", "label", human="score"), on="id")
    rows = threshold_table(population, labelled, thresholds_of(population["score"], 0.4))
    assert next(row for row in rows if row["threshold"] == threshold)["low"] >= 0.6
    assert all((row["low"] or 0) < 0.6 for row in rows if row["threshold"] < threshold)
    with pytest.raises(SelectionError, match="best is"):
        threshold_for(population, labels, 0.999, 0.4)
    with pytest.raises(SelectionError, match="No label"):
        threshold_for(population, labels.with_columns(pl.lit("x").alias("id")), 0.5, 0.4)


def test_calibration_counts_what_it_could_not_use(run):
    population, labels, _ = run
    more = pl.concat([labels, LABELS.frame([{"id": "nobody", "label": True, "score": None, "source": None}])])
    found = calibrate(population, more, 0.4)
    assert (found["labels"], found["unknown"]) == (labels.height, 1)
    assert sum(found["agreement"]["counts"].values()) == labels.height
    assert calibrate(population, LABELS.empty(), 0.4) == {}


GOOD_FILES = {
    "a.csv": "id,label\nx,1\ny,reject\n",
    "b.jsonl": '{"id": "x", "label": true}\n\n{"id": "y", "label": "no"}\n',
    "c.csv": "\ufeffid,label,score\r\nx,Accept,0.75\r\ny,0,\r\n",
}


@pytest.mark.parametrize("name", GOOD_FILES)
def test_labels_are_read(name, tmp_path: Path):
    (tmp_path / name).write_text(GOOD_FILES[name])
    found = read_labels(tmp_path / name)
    assert dict(found.select("id", "label").iter_rows()) == {"x": True, "y": False}
    found.write_parquet(tmp_path / "again.parquet")
    assert read_labels(tmp_path / "again.parquet").drop("source").equals(found.drop("source"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,label\nx,maybe\n", ":2: A row needs an id"),
        ("id,verdict\nx,1\n", ":2: A row needs an id"),
        ("id,label\nx,1\nx,0\n", ":3: 'x' is labelled twice"),
        ("id,label,score\nx,1,7\n", "not from 0 to 1"),
        ("id,label,score\nx,1,nan\n", "not from 0 to 1"),
        ("id,label\n", "no labels"),
        ("", "no labels"),
    ],
)
def test_labels_that_cannot_be_read_say_where(text, says, tmp_path: Path):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(SelectionError, match=says):
        read_labels(tmp_path / "l.csv")


def test_labels_that_are_not_there(tmp_path: Path):
    with pytest.raises(SelectionError, match="cannot be read"):
        read_labels(tmp_path / "none.csv")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(SelectionError, match="cannot be read"):
        read_labels(tmp_path / "x.parquet")
    (tmp_path / "x.jsonl").write_text("[1]\n")
    with pytest.raises(SelectionError, match="no JSON object"):
        read_labels(tmp_path / "x.jsonl")


# Pairwise


@settings(max_examples=300, deadline=None)
@given(
    st.text()
    | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))
    | st.sampled_from(['{"better": "first"}', '{"better": 1}', '{"better": "FIRST"}', '{"abstain": true}']),
    st.sampled_from(["stop", "length"]),
)
def test_any_pairwise_output_is_a_choice_or_an_abstention(text, finish):
    verdict, better = read_choice(text, finish)
    if verdict.status is JudgmentStatus.SCORED:
        assert better in ("first", "second", "tie")
    else:
        assert better is None
        assert verdict.abstain_reason in tuple(AbstainReason)


def test_only_the_order_of_the_answers_differs_between_the_two_orders():
    one, two = (compare_messages("SPEC", [{"role": "user", "content": "q"}], *pair) for pair in ("ab", "ba"))
    assert one[0] == two[0]
    assert one[1] != two[1]
    assert "SPEC" in one[0]["content"]


def test_a_pair_whose_verdict_turns_with_the_order_is_not_stable():
    fake = SimulatedJudge(order=0.0, abstain=0.0)
    levels = {"a": 3, "b": 2, "c": 3}
    fair = pair_votes(fake.comparisons([("a", "b"), ("a", "c")], levels))
    assert fair.select("low", "high", "prefer_low", "stable").rows() == [("a", "b", 1.0, True), ("a", "c", 0.5, True)]
    blind = SimulatedJudge(order=1.0, abstain=0.0).comparisons([("a", "b")], levels)
    assert pair_votes(blind).select("prefer_low", "stable").rows() == [(0.5, False)]
    assert order_numbers(blind)["first"]["share"] == 1.0
    assert order_numbers(blind)["flips"]["share"] == 1.0
    assert order_numbers(blind.head(1)) == {}, "one order alone says nothing"


# The command


def test_select_takes_labels_keeps_them_and_sets_the_threshold(tmp_path: Path):
    layout = write_run(tmp_path / "run")
    reward = pl.read_parquet(layout.datasets / "reward" / "*.parquet").filter(pl.col("arm") == "spec").sort("id")
    good = reward.select("id", label=(pl.col("score") >= 0.55).cast(pl.Int8)).head(120)
    good.write_csv(tmp_path / "labels.csv")
    before = load_recipe(layout.recipe).judge.threshold
    with pytest.raises(SelectionError, match="no human labels"):
        reselect(layout.root, precision=0.8)
    result = reselect(layout.root, labels=tmp_path / "labels.csv", precision=0.8)
    after = load_recipe(layout.recipe).judge.threshold
    assert after != before
    assert result.calibration["accepted"]["low"] >= 0.8
    assert result.calibration == read_manifest(layout.manifest).calibration
    assert pl.read_parquet(layout.labels).height == 120
    page = write_report(layout).read_text()
    assert "**Precision of the accepted set:**" in page
    assert (layout.report / "calibration.png").is_file()
    again = reselect(layout.root, ["judge.threshold=0.0"])
    assert again.calibration["labels"] == result.calibration["labels"], "labels stay with the run"
    assert again.calibration["accepted"]["precision"] < result.calibration["accepted"]["precision"]
