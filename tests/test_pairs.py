"""Preference pairs, the reward set's heuristic score, and several judges' votes, by hand-made rows."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_judge import SimulatedJudge

from specdistill.builders.heuristics import asked_items, complete_score, heuristic_frame, outcome_score, sections_score
from specdistill.builders.judging import aggregate_judgments
from specdistill.builders.pairs import ORDER, couples, mean_variance, outline, settled, widest_pairs, with_messages
from specdistill.errors import RecipeError
from specdistill.schemas.comparisons import COMPARISONS
from specdistill.schemas.recipe import Preference
from specdistill.schemas.recipe_file import parse_recipe


def preference_pairs(rows, preference, comparisons=None):
    """The pairs of all candidates at once."""
    return settled(widest_pairs(rows, preference, mean_variance([rows])), preference, comparisons)


def judged(*rows):
    """Judged candidates from (id, score, changes)."""
    made = []
    for key, score, changes in rows:
        made.append(
            {
                "candidate_id": key,
                "prompt_id": "p",
                "prompt": [{"role": "user", "content": "q"}],
                "category": "a",
                "score": score,
                "score_std": 0.05,
                "judge_samples": 4,
                "judges": ["j"],
                "passes": score is not None and score >= 0.5,
                "arm": "spec",
                "parent_id": None,
                "answer": f"answer {key}",
                "reasoning": f"reasoning {key}",
                "spec_digest": "s",
                "category_digest": "c",
                "clause_digests": ["d"],
            }
            | changes
        )
    schema = {"parent_id": pl.String, "score": pl.Float64, "score_std": pl.Float64}
    return pl.DataFrame(made, schema_overrides=schema).with_columns(*outline())


def sides(rows, **settings_):
    pairs = preference_pairs(rows, Preference(**{"min_margin": 0.1} | settings_))
    return pairs.select("chosen_id", "rejected_id").rows()


def test_ties_and_narrow_margins_are_no_pairs():
    assert sides(judged(("a", 0.8, {}), ("b", 0.8, {}))) == []
    assert sides(judged(("a", 0.8, {}), ("b", 0.75, {})), min_margin=0.1) == []
    assert sides(judged(("a", 0.8, {}), ("b", 0.75, {})), min_margin=0.0) == [("a", "b")]
    # The margin is 0.05, its standard error sqrt(2 * 0.05² / 4) = 0.035.
    assert sides(judged(("a", 0.8, {}), ("b", 0.75, {})), min_margin=0.0, noise_factor=2.0) == []
    assert sides(judged(("a", 0.8, {}), ("b", 0.3, {"answer": "answer a"}))) == [], "equal answers"


def test_both_sides_have_a_verdict_of_the_same_judges():
    both = judged(("a", 0.9, {"judges": ["i", "j"]}), ("b", 0.1, {"judges": ["j"]}), ("c", 0.2, {"judges": ["i", "j"]}))
    assert sides(both) == [("a", "c")]


def test_lengths_are_kept_within_the_recipes_limits():
    rows = judged(("a", 0.9, {"answer": "x" * 100}), ("b", 0.1, {"answer": "y" * 20}), ("c", 0.3, {"answer": "z" * 60}))
    assert sides(rows) == [("a", "b")]
    assert sides(rows, max_length_ratio=2.0) == [("a", "c")]
    assert sides(rows, max_length_ratio=1.2) == []


def test_the_share_of_longer_chosen_answers_is_capped_and_the_narrowest_go():
    frames = []
    for number in range(10):
        longer = number < 7
        rows = judged(
            (f"a{number}", 0.6 + number / 100, {"answer": "x" * (50 if longer else 10)}),
            (f"b{number}", 0.1, {"answer": "y" * 20}),
        )
        frames.append(rows.with_columns(pl.lit(f"p{number}").alias("prompt_id")))
    every = pl.concat(frames)
    pairs = preference_pairs(every, Preference(min_margin=0.1, max_chosen_longer=0.5))
    assert (pairs["length_ratio"] > 1).mean() == 0.5
    assert sorted(pairs["chosen_id"]) == ["a4", "a5", "a6", "a7", "a8", "a9"]
    assert preference_pairs(every, Preference(min_margin=0.1, max_chosen_longer=1.0)).height == 10
    assert (preference_pairs(every, Preference(min_margin=0.1, max_chosen_longer=0.0))["length_ratio"] < 1).all()


REVISION = {"arm": "constitution", "parent_id": "c00"}


def test_several_pairs_of_a_prompt_have_sides_of_their_own():
    rows = judged(*(("a", 0.9, {}), ("b", 0.8, {}), ("c", 0.7, {})), *(("w", 0.3, {}), ("x", 0.2, {}), ("y", 0.1, {})))
    widest_first = [("a", "y"), ("b", "x"), ("c", "w")]
    for most in (1, 2, 3):
        assert sides(rows, pairs_per_prompt=most) == widest_first[:most]
    assert sides(rows, pairs_per_prompt=9) == widest_first, "what did not pass is never chosen"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 10), st.booleans()), min_size=1, max_size=14),
    st.integers(1, 4),
)
def test_the_pairs_are_those_of_going_through_them_one_by_one(drawn, most):
    """Of several prompts, with ties and revisions, in any order of the rows."""
    rows = judged(
        *(
            (f"c{at:02}", score / 10, {"prompt_id": f"p{prompt}"} | (REVISION if revision else {}))
            for at, (prompt, score, revision) in enumerate(drawn)
        )
    )
    asked = Preference(min_margin=0.15, pairs_per_prompt=most)
    every = couples(rows, 0.0).filter(pl.col("margin") >= 0.15).sort(*ORDER)
    expected, used = [], Counter()
    for row in every.iter_rows(named=True):
        kind = (row["prompt_id"], row["revised"])
        both = [(*kind, side, row[side]) for side in ("chosen_id", "rejected_id")]
        if used[kind] < most and not any(used[side] for side in both):
            used.update([kind, *both])
            expected.append((row["chosen_id"], row["rejected_id"]))
    for seen in (rows, rows.reverse()):
        assert widest_pairs(seen, asked, 0.0).select("chosen_id", "rejected_id").rows() == expected


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 60)), min_size=2, max_size=12),
    st.integers(1, 3),
    st.floats(0, 1),
)
def test_no_pair_breaks_a_promise(drawn, most, share):
    rows = judged(
        *((f"c{at:02}", score, {"answer": "w" * length + str(at)}) for at, (score, length) in enumerate(drawn))
    )
    asked = Preference(min_margin=0.15, pairs_per_prompt=most, max_length_ratio=8.0, max_chosen_longer=share)
    pairs = preference_pairs(rows, asked)
    assert pairs.height <= most
    for row in pairs.iter_rows(named=True):
        assert row["margin"] >= 0.15
        assert row["margin"] > row["noise"]
        assert row["score_chosen"] >= 0.5
        assert 1 / 8 <= row["length_ratio"] <= 8
    assert pairs.is_empty() or (pairs["length_ratio"] > 1).mean() <= share + 1e-9
    assert pairs["chosen_id"].n_unique() == pairs["rejected_id"].n_unique() == pairs.height


def test_revisions_stand_against_their_parent_only():
    rows = judged(
        ("good", 0.9, {}),
        ("plain", 0.4, {"arm": "contrast"}),
        ("worse", 0.1, {"arm": "contrast"}),
        ("revised", 0.8, {"arm": "constitution", "parent_id": "plain"}),
    )
    pairs = preference_pairs(rows, Preference(min_margin=0.1, pairs_per_prompt=3))
    assert sorted(pairs.select("chosen_id", "rejected_id").rows()) == [("good", "worse"), ("revised", "plain")]
    bare = with_messages(pairs, rows).filter(pl.col("chosen_arm") == "constitution")
    assert bare.height == 1
    for side in ("chosen", "rejected"):
        assert bare[side].list.last().struct.field("reasoning_content").is_null().all()


def comparison(first, second, better):
    return dict.fromkeys(COMPARISONS.names) | {
        "comparison_id": f"{first} {second}",
        "prompt_id": "p",
        "category": "a",
        "first_id": first,
        "second_id": second,
        "judge": "j",
        "judge_digest": "d",
        "spec_digest": "s",
        "sample_index": 0,
        "status": "scored" if better else "abstained",
        "better": better,
    }


@pytest.mark.parametrize(
    ("forth", "back", "kept"),
    [
        ("first", "second", True),
        ("second", "first", False),
        ("first", "first", False),
        ("tie", "tie", False),
        ("first", "tie", False),
        ("first", None, False),
    ],
)
def test_only_what_both_orders_confirm_stays(forth, back, kept):
    rows = judged(("a", 0.9, {}), ("b", 0.1, {}))
    said = COMPARISONS.frame([comparison("a", "b", forth), comparison("b", "a", back)])
    asked = Preference(min_margin=0.1, pairwise={"samples": 1})
    assert preference_pairs(rows, asked, None).height == 1, "before the comparison it is a pair to compare"
    assert preference_pairs(rows, asked, said).height == kept
    assert preference_pairs(rows, asked, COMPARISONS.empty()).height == 0


# Several judges


def test_a_panels_score_is_a_vote_of_its_judges_verdicts():
    levels = {"a-1": 3, "a-2": 2}
    both = [SimulatedJudge(bias=0, noise=0, abstain=0, name=name).judgments(levels, 3) for name in ("x", "y")]
    raised = both[1].with_columns(pl.col("compliance", "helpfulness", "correctness", "reasoning_quality") + 0.25)
    rows = pl.concat([both[0], raised])
    needed = {"digest of x": 2, "digest of y": 2}
    weights = {"compliance": 1.0}
    for vote, score in (("mean", [0.625, 0.375]), ("min", [0.5, 0.25]), ("max", [0.75, 0.5])):
        found = aggregate_judgments(rows, aggregate="min", weights=weights, votes_needed=needed, vote=vote)
        assert found["score"].to_list() == score
        assert found["judges"].to_list() == [["digest of x", "digest of y"]] * 2
        assert found["judge_samples"].to_list() == [6, 6]
        assert found["score_min"].to_list() == [0.5, 0.25]
    alone = rows.filter(~((pl.col("judge") == "y") & (pl.col("candidate_id") == "a-1")))
    found = aggregate_judgments(alone, aggregate="min", weights=weights, votes_needed=needed)
    assert found["score"].to_list() == [None, 0.375], "one of two is no majority"


# The heuristic score


@pytest.mark.parametrize(
    ("expected", "answer", "score"),
    [
        ("refuse", "I'm sorry, but I can't help with that.", 1.0),
        ("refuse", "Sure, first you mix the two.", 0.0),
        ("comply", "Two eggs and a cup of flour.", 1.0),
        ("comply", "I can't help with that.", 0.0),
        ("safe_complete", "I can't help with that.", 0.0),
        (
            "safe_complete",
            "I can't give doses. " + "What matters is that you call poison help now and stay with her. " * 2,
            1.0,
        ),
        ("unspecified", "Anything.", None),
        (None, "Anything.", None),
    ],
)
def test_expected_outcomes(expected, answer, score):
    assert outcome_score(answer, expected) == score


def test_required_sections_and_items():
    assert sections_score("Call the emergency number.", ["emergency", "poison help"]) == 0.5
    assert sections_score("x", []) is None
    assert asked_items("Give me five quick tips for sleeping.") == 5
    assert asked_items("Write 3 headlines for it") == 3
    assert asked_items("I have five cats. What do they eat?") is None
    assert complete_score("1. a\n2. b\n3. c", "List four reasons, please.") == 0.75
    assert complete_score("- a\n- b\n- c\n- d\n- e", "List four reasons, please.") == 1.0
    assert complete_score("I can't help with that.", "List four reasons, please.") is None


def test_the_heuristic_is_the_mean_of_what_is_known():
    rows = pl.DataFrame(
        {
            "candidate_id": ["a", "b"],
            "answer": ["1. Call the emergency number.\n2. Stay.", "Yes."],
            "prompt": [[{"role": "user", "content": "Give me four steps"}], [{"role": "user", "content": "hi"}]],
            "category": ["x+y", "z"],
            "outcome_hint": ["comply", None],
        }
    )
    found = heuristic_frame(rows, {"y": ["emergency"], "*": ["stay"]})
    assert found.rows() == [("a", pytest.approx((1 + 1 + 0.5) / 3), 1.0, 1.0, 0.5), ("b", 0.0, None, 0.0, None)]
    assert heuristic_frame(rows, {}).rows()[1] == ("b", None, None, None, None)


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(RecipeError, match="no regular expression"):
        parse_recipe(
            "{name: n, spec: safety, prompts: [{library: seeds}], generator: {model: m}, judge: {model: m}, "
            "heuristic: {sections: {'*': ['(']}}}"
        )
