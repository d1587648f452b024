"""Selection: every candidate has one fate, and no set breaks its promise, whatever the rows."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specdistill.builders.filters import repeat_share
from specdistill.builders.screens import SpecFacts, screen
from specdistill.builders.selection import select
from specdistill.builders.splits import split_of
from specdistill.schemas.configs import TABLES
from specdistill.schemas.recipe import Recipe, Screens, Split
from specdistill.schemas.rows import CANDIDATES, CLAUSES, JUDGMENTS, PROMPTS
from specdistill.schemas.vocabulary import CONFIGS, CRITERIA, RejectReason

CLAUSE_ROWS = CLAUSES.frame(
    [
        {"anchor": "AA-R1", "category": "a", "outcome": "refuse", "title": "t", "text": "Never do it.", "digest": "d"},
        {"anchor": "AA-C1", "category": "a", "outcome": "comply", "title": "t", "text": "Do it.", "digest": "e"},
    ]
)


def recipe(**changes):
    return Recipe.model_validate(
        {
            "name": "t",
            "spec": "safety",
            "prompts": [{"path": "p.jsonl"}],
            "generator": {"model": "m", "samples": 3},
            "contrast": {"samples": 1},
            "judge": {"model": "j", "k": 3, "threshold": 0.5, "aggregate": "mean"},
            **changes,
        }
    )


def tables(prompts, seed_scores):
    """Rows of a run: `prompts` prompts, 4 candidates each, 3 judge samples each from `seed_scores` in turn."""
    prompt_rows, candidate_rows, judgment_rows = [], [], []
    scores = iter(seed_scores)
    for number in range(prompts):
        prompt = f"p{number:02}"
        prompt_rows.append(
            {
                "prompt_id": prompt,
                "prompt": [{"role": "user", "content": f"question {number}"}],
                "category": "ab"[number % 2],
                "source": f"s:{number}",
                "group_id": f"g{number // 2 if number % 3 else number}",
            }
        )
        for index in range(4):
            candidate = f"{prompt}-{index}"
            arm = "contrast" if index == 3 else "spec"
            parse = "truncated" if (number + index) % 7 == 6 else "ok"
            candidate_rows.append(
                {
                    "candidate_id": candidate,
                    "prompt_id": prompt,
                    "category": "ab"[number % 2],
                    "arm": arm,
                    "sample_index": 0 if arm == "contrast" else index,
                    "model": "m",
                    "generator_digest": "g",
                    "spec_digest": None if arm == "contrast" else "s",
                    "parse": parse,
                    "reasoning": "This is decided by [AA-R1], so I decline." if parse == "ok" else None,
                    "answer": f"I can't help with that ({candidate})." if parse == "ok" else None,
                    "finish_reason": "stop" if parse == "ok" else "length",
                }
            )
            for sample in range(3 if parse == "ok" else 0):
                score = next(scores)
                judgment_rows.append(
                    {
                        "judgment_id": f"{candidate}-{sample}",
                        "candidate_id": candidate,
                        "prompt_id": prompt,
                        "category": "ab"[number % 2],
                        "judge": "j",
                        "judge_digest": "d",
                        "spec_digest": "s",
                        "sample_index": sample,
                        "status": "abstained" if score is None else "scored",
                        "abstain_reason": "not_json" if score is None else None,
                        **dict.fromkeys(CRITERIA, score),
                    }
                )
    return [
        table.frame([dict.fromkeys(table.names) | row for row in rows])
        for table, rows in ((PROMPTS, prompt_rows), (CANDIDATES, candidate_rows), (JUDGMENTS, judgment_rows))
    ]


def together(splits):
    return pl.concat(list(splits.values()))


scores_strategy = st.lists(
    st.none() | st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=12 * 4 * 3, max_size=12 * 4 * 3
)


@settings(max_examples=15, deadline=None)
@given(scores_strategy, st.integers(1, 3), st.integers(1, 4), st.randoms(use_true_random=False))
def test_every_candidate_has_one_fate_and_every_set_keeps_its_promise(scores, per_prompt, per_category, random):
    asked = recipe(
        quota={"max_samples_per_prompt": per_prompt, "per_category": per_category},
        preference={"min_margin": 0.1, "pairs_per_prompt": 2},
        split={"test": 0.25},
    )
    prompts, candidates, judgments = tables(12, scores)
    sets = select(prompts, candidates, judgments, CLAUSE_ROWS, asked)
    assert set(sets) == set(CONFIGS)
    for config, splits in sets.items():
        for frame in splits.values():
            assert TABLES[config].problems(frame) == []
    sft, rejected = together(sets["sft"]), together(sets["rejected"])
    assert sorted(sft["id"].to_list() + rejected["id"].to_list()) == candidates["candidate_id"].to_list()
    assert (sft["score"] >= 0.5).all()
    assert sft.group_by("prompt_id").len()["len"].max() in (None, *range(per_prompt + 1))
    assert sft.group_by("category").len()["len"].max() in (None, *range(per_category + 1))
    pairs = together(sets["preference"])
    assert (pairs["margin"] > pairs["noise"]).all()
    assert (pairs["margin"] >= 0.1).all()
    assert (pairs["score_chosen"] > pairs["score_rejected"]).all()
    by_abstention = judgments.filter(pl.col("status") == "scored").group_by("candidate_id").len()
    reward = together(sets["reward"]).join(by_abstention, left_on="id", right_on="candidate_id", how="left")
    assert (reward["judge_samples"] == reward["len"]).all(), "an abstention is never counted as a score"
    train_prompts = set(sets["prompts"]["train"]["id"])
    test_prompts = set(sets["prompts"].get("test", prompts.head(0).rename({"prompt_id": "id"}))["id"])
    groups = dict(prompts.select("prompt_id", "group_id").iter_rows())
    assert not {groups[key] for key in train_prompts} & {groups[key] for key in test_prompts}
    seed = random.randint(0, 99)
    shuffled = [frame.sample(fraction=1.0, shuffle=True, seed=seed) for frame in (candidates, judgments)]
    again = select(prompts, *shuffled, CLAUSE_ROWS, asked)
    for config, splits in sets.items():
        for split, frame in splits.items():
            assert frame.equals(again[config][split]), "row order changes nothing"


def test_thresholds_move_rows_between_accepted_and_rejected():
    prompts, candidates, judgments = tables(6, [0.75] * 72)
    low = select(prompts, candidates, judgments, CLAUSE_ROWS, recipe())
    high = select(prompts, candidates, judgments, CLAUSE_ROWS, recipe(judge={"model": "j", "k": 3, "threshold": 0.9}))
    assert together(low["sft"]).height > 0
    assert together(high["sft"]).height == 0
    assert set(together(high["rejected"])["reason"]) == {"below_threshold", "contrast_arm", "truncated"}
    assert together(high["kto"])["label"].sum() == 0


def candidate(**changes):
    return {
        "arm": "spec",
        "parse": "ok",
        "error": None,
        "prompt": [{"role": "user", "content": "hello"}],
        "reasoning": "The clause [AA-R1] decides this.",
        "answer": "I cannot help with that, but here is what I can do.",
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"parse": "failed", "error": "timeout"}, RejectReason.CALL_FAILED),
        ({"parse": "truncated"}, RejectReason.TRUNCATED),
        ({"parse": "empty"}, RejectReason.EMPTY_ANSWER),
        ({"parse": "malformed"}, RejectReason.MALFORMED),
        ({"reasoning": None}, RejectReason.NO_REASONING),
        ({"answer": "one two three four five six seven eight " * 6}, RejectReason.REPEATED_TEXT),
        ({"answer": "Clause [AA-R1] forbids it."}, RejectReason.LEAK),
        ({"answer": "According to the policy I was given, no."}, RejectReason.LEAK),
        ({"reasoning": "The clause [AA-R9] decides this."}, RejectReason.INVENTED_CLAUSE),
        ({"reasoning": "The clause [AA-R9] decides this.", "arm": "contrast"}, None),
        ({"answer": "N/A"}, RejectReason.EMPTY_ANSWER),
        ({"answer": "I can help you with this. First you write to the"}, RejectReason.TRUNCATED),
        ({"answer": '{"answer": "no"}'}, RejectReason.MALFORMED),
        ({"answer": "Das kann ich nicht tun, aber ich kann dir zeigen, wie es geht."}, None),  # "hello" may be German
        ({"reasoning": "By [AA-C1] I will help. No, I will refuse. Then I will help."}, RejectReason.VACILLATING),
        ({"reasoning": "By [AA-C1] this is harmless. I will answer it."}, RejectReason.CONTRADICTION),
        ({"reasoning": "By [AA-C1] this is harmless. I will answer it.", "arm": "contrast"}, None),
    ],
)
def test_screens_name_the_first_thing_that_is_wrong(changes, reason):
    facts = SpecFacts.of(CLAUSE_ROWS, 25)
    finding = screen(candidate(**changes), facts, Screens())
    assert (finding.reason if finding else None) == reason


def test_copied_spec_text_is_found():
    long = CLAUSE_ROWS.with_columns(pl.lit(" ".join(f"word{n}" for n in range(40))).alias("text"))
    facts = SpecFacts.of(long, 25)
    finding = screen(candidate(answer="Well: " + " ".join(f"word{n}" for n in range(5, 35))), facts, Screens())
    assert finding.reason is RejectReason.SPEC_COPIED


def test_repeat_share():
    assert repeat_share("a b c") == 0.0
    assert repeat_share(" ".join(str(n) for n in range(50))) == 0.0
    assert repeat_share("the same eight words are here once again " * 10) > 0.8


def test_splits_are_stratified_and_seeded():
    rows = [
        {
            "prompt_id": f"{category}{n}",
            "prompt": [{"role": "user", "content": "x"}],
            "category": category,
            "source": "s",
            "group_id": f"{category}{n}",
        }
        for category in "abc"
        for n in range(40)
    ]
    prompts = PROMPTS.frame([dict.fromkeys(PROMPTS.names) | row for row in rows])
    split = prompts.join(split_of(prompts, Split(test=0.1)), on="prompt_id")
    counts = dict(split.filter(pl.col("split") == "test").group_by("category").len().iter_rows())
    assert counts == {"a": 4, "b": 4, "c": 4}
    assert split_of(prompts, Split(test=0.1)).equals(split_of(prompts, Split(test=0.1)))
    assert not split_of(prompts, Split(test=0.1)).equals(split_of(prompts, Split(test=0.1, seed=1)))
    assert set(split_of(prompts, Split(test=0.0))["split"]) == {"train"}
    for size in (2, 5, 10, 20):  # twins, translations
        groups = pl.col("prompt_id").str.head(1) + (pl.int_range(pl.len()) // size).cast(pl.String)
        for share in (0.05, 0.1, 0.2, 0.5):
            many = pl.concat([prompts.with_columns(prompt_id=pl.col("prompt_id") + f"-{n}") for n in range(10)])
            many = many.sort("category", "prompt_id").with_columns(group_id=groups)
            taken = many.join(split_of(many, Split(test=share)), on="prompt_id").filter(pl.col("split") == "test")
            for _, here in taken.group_by("category"):
                assert abs(here.height - share * 400) <= size, (size, share, here.height)
            assert set(taken.group_by("group_id").len()["len"]) <= {size}, "no group is parted"
    one_each = prompts.unique("category", maintain_order=True)
    assert set(split_of(one_each, Split(test=0.9))["split"]) == {"train"}, "a category's last group stays in train"
