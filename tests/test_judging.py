"""The judge's protocol: what it is sent, and that nothing but a verdict ever becomes a number."""

import json
import statistics

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specdistill.builders.judging import aggregate_judgments, judge_messages, read_verdict, verdict_schema
from specdistill.builders.quoting import quote
from specdistill.schemas.rows import JUDGMENTS
from specdistill.schemas.vocabulary import CRITERIA, AbstainReason, JudgmentStatus

GOOD = {"justification": "fits [A-1]", "abstain": False, **dict.fromkeys(CRITERIA, 4)}
PROMPT = [{"role": "user", "content": "hi"}]


def test_a_verdict_is_read():
    verdict = read_verdict(json.dumps(GOOD | {"compliance": 5}))
    assert verdict.status is JudgmentStatus.SCORED
    assert verdict.scores == {"compliance": 1.0, "helpfulness": 0.75, "correctness": 0.75, "reasoning_quality": 0.75}
    assert read_verdict(f"Sure!\n```json\n{json.dumps(GOOD)}\n```").status is JudgmentStatus.SCORED


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("", "stop", AbstainReason.NOT_JSON),
        ("I think 5 out of 5", "stop", AbstainReason.NOT_JSON),
        (json.dumps(GOOD)[:-9], "length", AbstainReason.TRUNCATED),
        (json.dumps(GOOD) + json.dumps(GOOD), "stop", AbstainReason.NOT_JSON),
        (json.dumps([GOOD]) + "]", "stop", None),
        (json.dumps(GOOD | {"abstain": True}), "stop", AbstainReason.DECLINED),
        (json.dumps(GOOD | {"compliance": "5"}), "stop", AbstainReason.WRONG_SHAPE),
        (json.dumps(GOOD | {"compliance": True}), "stop", AbstainReason.WRONG_SHAPE),
        (json.dumps(GOOD | {"compliance": 4.5}), "stop", AbstainReason.WRONG_SHAPE),
        (json.dumps(GOOD | {"compliance": 6}), "stop", AbstainReason.OUT_OF_RANGE),
        (json.dumps(GOOD | {"compliance": 0}), "stop", AbstainReason.OUT_OF_RANGE),
        ('{"compliance": NaN, "abstain": false}', "stop", AbstainReason.WRONG_SHAPE),
        ('{"compliance": 1e999}', "stop", AbstainReason.WRONG_SHAPE),
    ],
)
def test_what_is_no_verdict_abstains_with_its_reason(text, finish, reason):
    verdict = read_verdict(text, finish)
    if reason is None:
        assert verdict.status is JudgmentStatus.SCORED
    else:
        assert (verdict.status, verdict.abstain_reason, verdict.scores) == (JudgmentStatus.ABSTAINED, reason, {})


@settings(max_examples=400, deadline=None)
@given(
    st.text()
    | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*CRITERIA, "abstain", "x"]), inner),
        max_leaves=8,
    ).map(json.dumps),
    st.sampled_from(["stop", "length"]),
)
def test_arbitrary_output_is_a_score_in_range_or_an_abstention(text, finish):
    verdict = read_verdict(text, finish)
    if verdict.status is JudgmentStatus.SCORED:
        assert set(verdict.scores) == set(CRITERIA)
        assert all(0.0 <= score <= 1.0 for score in verdict.scores.values())
    else:
        assert verdict.scores == {}
        assert verdict.abstain_reason in tuple(AbstainReason)


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text())
def test_nothing_inside_a_quotation_ends_it(text, injected):
    quoted = quote("answer", text + "</answer>" + injected)
    tag = quoted.split("\n", 1)[0].strip("<>")
    assert quoted.count(f"</{tag}>") == 1
    assert quoted.endswith(f"</{tag}>")


def test_the_judge_sees_what_it_should_and_the_reward_never_the_reasoning():
    with_reasoning = judge_messages("THE SPEC", PROMPT, "THE ANSWER", "THE THOUGHT")
    without = judge_messages("THE SPEC", PROMPT, "THE ANSWER", None)
    assert with_reasoning[0]["content"].startswith("<policy>\nTHE SPEC")
    for words in ("hi", "THE ANSWER", "THE THOUGHT"):
        assert words in with_reasoning[1]["content"]
    assert "THE THOUGHT" not in json.dumps(without)
    assert "reasoning_quality" not in json.dumps(without)
    assert "reasoning_quality" not in verdict_schema(with_reasoning=False)["properties"]
    assert next(iter(verdict_schema()["properties"])) == "justification", "justified before scored"


def judgments(samples):
    """Rows of the judgments table from {candidate: [score or None]}; every criterion has the same score."""
    rows = []
    for candidate, scores in samples.items():
        for index, score in enumerate(scores):
            rows.append(
                {
                    **dict.fromkeys(JUDGMENTS.names),
                    "judgment_id": f"{candidate}-{index}",
                    "candidate_id": candidate,
                    "prompt_id": "p",
                    "category": "c",
                    "judge": "j",
                    "judge_digest": "d",
                    "spec_digest": "s",
                    "sample_index": index,
                    "status": "abstained" if score is None else "scored",
                    "abstain_reason": "not_json" if score is None else None,
                    **dict.fromkeys(CRITERIA, score),
                }
            )
    return JUDGMENTS.frame(rows)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.lists(st.none() | st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=6),
        min_size=1,
    ),
    st.integers(1, 3),
)
def test_aggregation_equals_plain_python_and_abstentions_are_no_numbers(samples, votes):
    for name, reference in {"min": min, "mean": statistics.fmean, "median": statistics.median, "max": max}.items():
        frame = aggregate_judgments(
            judgments(samples), aggregate=name, weights={"compliance": 2.0, "helpfulness": 1.0}, votes_needed=votes
        )
        assert frame["candidate_id"].to_list() == sorted(samples)
        for row in frame.iter_rows(named=True):
            scores = [score for score in samples[row["candidate_id"]] if score is not None]
            assert row["judge_samples"] == len(scores)
            assert row["abstentions"] == len(samples[row["candidate_id"]]) - len(scores)
            if len(scores) < votes:
                assert row["score"] is None
            else:
                assert row["score"] == pytest.approx(reference(scores))
            assert (row["score_std"] is None) == (len(scores) < 2)


def test_quantiles_and_weights():
    frame = judgments({"a": [0.0, 0.25, 0.5, 0.75, 1.0]}).with_columns(pl.lit(1.0).alias("helpfulness"))
    out = aggregate_judgments(frame, aggregate="q25", weights={"compliance": 3, "helpfulness": 1}, votes_needed=1)
    assert out["score"].to_list() == [pytest.approx(0.25 * 0.75 + 0.25)]
