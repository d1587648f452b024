"""Cleaning a pool: every removal has its reason, twins stay, and equal input gives equal output."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specdistill.builders.cleaning import meaning, near
from specdistill.builders.cleaning.clean import clean, removal_counts
from specdistill.builders.cleaning.decontaminate import decontaminate, matches
from specdistill.builders.cleaning.evalsets import read_eval_sets
from specdistill.builders.cleaning.texts import normal
from specdistill.builders.pool import make_prompts
from specdistill.builders.prompts import pool_frame, prompt_id, tabled
from specdistill.builders.splits import split_of
from specdistill.errors import PromptError
from specdistill.schemas.recipe import Recipe, Split
from specdistill.schemas.recipe_prompts import Clean, EvalSet, Overlap

LONG = (
    "My neighbour keeps parking his van across our shared drive every evening and I would like to write him a polite "
    "letter that asks him to stop without starting a quarrel over it"
)


def rows(*texts, **more):
    return [
        {
            "prompt": [{"role": "user", "content": text}],
            "category": "a",
            "source": f"p.jsonl:{number}",
            **{name: values[number - 1] for name, values in more.items()},
        }
        for number, text in enumerate(texts, start=1)
    ]


def cleaned(*texts, rules=None, **more):
    return clean(pool_frame(rows(*texts, **more)), rules or Clean())


def reasons(result):
    return dict(result.removed.select("source", "reason").iter_rows())


def test_every_removal_has_its_reason_and_the_row_it_doubles():
    found = cleaned(
        LONG,
        LONG.upper() + " !!",
        LONG.replace("evening", "morning"),
        "x",
        "y" * 200,
        "Wie schreibe ich meinem Nachbarn einen höflichen Brief über seinen Lieferwagen?",
        "How do I set up two-factor codes on my bank account so that attackers don't get past them?",
        "My password is hunter2 and my card number is 4111 1111 1111 1111, is that safe?",
        rules=Clean(max_chars=190, languages=["en"], private="remove", min_chars=2),
    )
    assert reasons(found) == {
        "p.jsonl:2": "duplicate",
        "p.jsonl:3": "near_duplicate",
        "p.jsonl:4": "too_short",
        "p.jsonl:5": "too_long",
        "p.jsonl:6": "language",
        "p.jsonl:8": "private",
    }
    assert removal_counts(found.removed) == {
        "too_short": 1,
        "too_long": 1,
        "language": 1,
        "private": 1,
        "duplicate": 1,
        "near_duplicate": 1,
    }
    near_row = found.removed.filter(pl.col("reason") == "near_duplicate").row(0, named=True)
    assert near_row["matched_id"] == found.kept["prompt_id"][0]
    assert near_row["matched_text"] == LONG
    assert near_row["similarity"] >= 0.8
    assert found.kept.height == 2


def test_words_in_another_order_mean_the_same():
    other = (
        "Could you write a polite letter to my neighbour, whose van is parked across our shared drive every evening,"
    )
    other += " asking him to stop, without starting a quarrel?"
    loose = cleaned(LONG, other, "How do I bake rye bread?", rules=Clean(meaning=0.85))
    assert reasons(loose) == {"p.jsonl:2": "same_meaning"}
    assert cleaned(LONG, other, rules=Clean(meaning=None)).removed.is_empty()


def test_private_data_is_flagged_and_kept_by_default():
    found = cleaned("Is 4111 1111 1111 1111 a valid card number, or what is wrong with it?", "What is a card number?")
    assert found.removed.is_empty()
    assert found.kept["flags"].to_list() == [["personal: CREDIT_CARD"], []]


def test_twins_and_opposed_outcomes_are_never_doubles():
    turned = LONG.replace("polite", "threatening")
    assert reasons(cleaned(LONG, turned)) == {"p.jsonl:2": "near_duplicate"}
    twins = cleaned(LONG, turned, source_id=["1", "2"], twin_id=["2", None])
    opposed = cleaned(LONG, turned, outcome_hint=["comply", "refuse"])
    for found in (twins, opposed):
        assert found.removed.is_empty()
        table = tabled(found.kept, found.kept, found.removed, found.links)
        assert table["group_id"].n_unique() == 1


def test_a_twin_that_is_removed_hands_over_to_the_row_it_doubled():
    pool = pool_frame(rows(LONG, "Write to him.", LONG + ".", source_id=["1", "2", "3"], twin_id=[None, "3", None]))
    found = clean(pool, Clean())
    table = tabled(pool, found.kept, found.removed, found.links)
    twin = table.filter(pl.col("source") == "p.jsonl:2").row(0, named=True)
    assert twin["twin_id"] == prompt_id([{"role": "user", "content": LONG}])


def test_ids_of_two_sources_are_their_own():
    pool = pool_frame(
        [
            row | {"source": f"{name}:1", "source_id": "1", "twin_id": "2" if name == "a.jsonl" else None}
            for name, row in zip(("a.jsonl", "b.jsonl"), rows("one here", "two there"), strict=True)
        ]
        + [rows("the twin of b")[0] | {"source": "b.jsonl:2", "source_id": "2"}]
    )
    assert tabled(pool, pool)["twin_id"].null_count() == 3


def test_of_equal_rows_one_with_a_category_stays():
    pool = pool_frame([rows(LONG)[0] | {"category": None}, rows(LONG)[0] | {"source": "q.jsonl:1"}])
    assert clean(pool, Clean()).kept["source"].to_list() == ["q.jsonl:1"]


words = st.sampled_from(
    ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "wizards", "boil", "ink"]
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(words, min_size=1, max_size=12).map(" ".join), min_size=1, max_size=25))
def test_cleaning_loses_no_row_and_leaves_no_double(texts):
    found = cleaned(*texts, rules=Clean(meaning=None))
    assert sorted(found.kept["source"].to_list() + found.removed["source"].to_list()) == sorted(
        f"p.jsonl:{number}" for number in range(1, len(texts) + 1)
    )
    kept = found.kept.select(pl.col("prompt").list.last().struct.field("content").alias("t")).select(
        normal(pl.col("t"))
    )["t"]
    sets = [{text[at : at + 5] for at in range(max(len(text) - 4, 1))} for text in kept]
    for left in range(len(sets)):
        for right in range(left):
            a, b = sets[left], sets[right]
            assert len(a & b) / len(a | b) < 0.8
    again = cleaned(*texts, rules=Clean(meaning=None))
    assert again.kept.equals(found.kept)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=8))
def test_grams_of_any_text_are_its_own(texts):
    hashes, offsets = near.gram_hashes(texts)
    assert len(offsets) == len(texts) + 1
    assert offsets[-1] == len(hashes)
    for text, start, end in zip(texts, offsets, offsets[1:], strict=False):
        alone, _ = near.gram_hashes([text])
        assert hashes[start:end].tolist() == alone.tolist()


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("Hello, World!", "hello world", True),
        ("What is C++?", "What is C?", False),
        ("a < b", "a > b", False),
        ("ﬁne\u200b", "fine", True),
        ("???", "!!!", False),
    ],
)
def test_normal_form(left, right, same):
    forms = pl.DataFrame({"t": [left, right]}).select(normal(pl.col("t")))["t"]
    assert (forms[0] == forms[1]) is same


def test_close_pairs_are_all_pairs():
    texts = pl.Series([f"how do I {verb} a {thing}" for verb in ("bake", "fry", "mend") for thing in ("pie", "shoe")])
    vectors = meaning.embedded(texts)
    placed = meaning.place(texts, meaning.axes_of(texts))
    assert np.allclose(placed.vectors(slice(None)) @ placed.vectors(slice(None)).T, vectors @ vectors.T, atol=1e-3)
    found = meaning.close_pairs(placed, 0.5)
    exact = {
        (left, right)
        for left in range(6)
        for right in range(left + 1, 6)
        if float(vectors[left] @ vectors[right]) >= 0.5
    }
    assert set(found.select("left", "right").iter_rows()) == exact
    assert 0 < len(exact) < 15
    best = meaning.best_matches(placed, placed, 0.5)
    assert best["right"].to_list() == list(range(6))
    assert best["similarity"].to_list() == [1.0] * 6, "in half precision too"
    assert not meaning.embedded(pl.Series([""])).any()


QUESTION = "How many litres of paint does a room of four by five metres need"


@pytest.mark.parametrize(
    ("prompt", "overlap", "how"),
    [
        (QUESTION + "?", {}, "n-grams"),
        ("I am a student. " + QUESTION + ", and please show each step of the sum in a table", {}, "n-grams"),
        ("How many litres of paint does a room of seven by nine metres want", {"similarity": None, "share": 0.9}, None),
        ("For a room of four by five metres, how many litres of paint does it need?", {"similarity": 0.9}, "meaning"),
        ("hello there, how do I bake bread", {}, None),
        ("Hello!", {}, "n-grams"),
    ],
)
def test_contamination_by_words_and_by_meaning(prompt, overlap, how):
    evals = pl.Series([QUESTION, "hello"])
    found = matches(pl.Series([prompt]), evals, Overlap(**overlap))
    assert found["how"].to_list() == ([how] if how else [])


def test_the_matched_pair_is_kept_with_its_set(tmp_path):
    (tmp_path / "exam.jsonl").write_text(json.dumps({"q": QUESTION}) + "\n")
    (tmp_path / "chat.jsonl").write_text(
        json.dumps({"prompt": [{"role": "user", "content": LONG}, {"role": "assistant", "content": "no"}]}) + "\n"
    )
    evals = read_eval_sets([EvalSet(path="exam.jsonl", column="q"), EvalSet(path="chat.jsonl")], tmp_path)
    found = decontaminate(pool_frame(rows(QUESTION, LONG, "something else")), evals, Overlap())
    gone = found.removed()
    assert gone.select("matched_set", "matched_row", "matched_text").rows() == [
        ("exam.jsonl", 1, QUESTION),
        ("chat.jsonl", 1, LONG),
    ]
    assert found.kept().height == 1


def test_a_set_without_the_column_is_refused(tmp_path):
    (tmp_path / "exam.jsonl").write_text('{"q": "x"}\n')
    with pytest.raises(PromptError, match=r"'exam.jsonl' has no column 'prompt' \(columns: q\)"):
        read_eval_sets([EvalSet(path="exam.jsonl")], tmp_path)


def recipe(tmp_path, lines, **more):
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Recipe.model_validate(
        {
            "name": "t",
            "spec": "safety",
            "prompts": [{"path": "p.jsonl"}],
            "generator": {"model": "m"},
            "judge": {"model": "j"},
            **more,
        }
    )


TOPICS = ("bread", "violins", "tax forms", "glaciers", "bicycles", "tides", "chess", "beehives", "kites", "mosaics")
ASKED = ("Who first made {}?", "I want a poem on {} for my aunt.", "What may go wrong with {}, and why is that so?")


def test_splits_never_part_twins_translations_or_near_duplicates(tmp_path):
    lines = []
    for number, topic in enumerate(TOPICS):
        english, twin = ASKED[0].format(topic), ASKED[1].format(topic)
        lines += [
            {"prompt": english, "category": "a", "id": f"{number}", "twin_id": f"{number}t", "group": f"g{number}"},
            {"prompt": twin, "category": "b", "id": f"{number}t"},
            {"prompt": f"Wer hat zuerst {topic} gemacht?", "category": "a", "group": f"g{number}"},
        ]
        long = f"{LONG}, and tell me what {topic} have to do with it"
        lines.append({"prompt": long, "category": "a", "outcome_hint": "comply"})
        lines.append({"prompt": long.replace("polite", "nasty"), "category": "a", "outcome_hint": "refuse"})
    made = make_prompts(recipe(tmp_path, lines, clean={"near": 0.95, "meaning": None}), ["a", "b"], tmp_path, [])
    assert made.table.height == len(lines)
    placed = made.table.join(split_of(made.table, Split(test=0.3)), on="prompt_id")
    assert set(placed["split"]) == {"train", "test"}
    where = {turns[0]["content"]: split for turns, split in placed.select("prompt", "split").iter_rows()}
    for start in range(0, len(lines), 5):
        family = {where[line["prompt"]] for line in lines[start : start + 3]}
        pair = {where[line["prompt"]] for line in lines[start + 3 : start + 5]}
        assert len(family) == len(pair) == 1


def test_evaluation_takes_the_best_of_each_category_and_what_is_close_to_them_leaves(tmp_path):
    lines = [
        {"prompt": ASKED[n % 3].format(topic), "category": "ab"[n % 2], "score": n, "id": str(n)}
        for n, topic in enumerate(TOPICS)
    ]
    lines[0]["twin_id"] = "9"
    made = make_prompts(recipe(tmp_path, lines, evaluation={"per_category": 2}), ["a", "b"], tmp_path, [])
    assert sorted(made.evaluation["source_score"].to_list()) == [6, 7, 8, 9]
    assert made.removed.select("source", "reason").rows() == [("p.jsonl:1", "beside_evaluation")]
    assert not set(made.table["group_id"]) & set(made.evaluation["group_id"])
    unscored = [{name: value for name, value in line.items() if name != "score"} for line in lines]
    with pytest.raises(PromptError, match="no prompt has one"):
        make_prompts(recipe(tmp_path, unscored, evaluation={"per_category": 2}), ["a", "b"], tmp_path, [])


def test_unlabelled_rows_need_a_classifier(tmp_path):
    lines = [{"prompt": "who made bread?"}, {"prompt": "who made kites?", "category": "a"}]
    with pytest.raises(PromptError, match=r"p\.jsonl:1: no category"):
        make_prompts(recipe(tmp_path, lines), ["a"], tmp_path, [])
    made = make_prompts(recipe(tmp_path, lines, classifier={"model": "m"}), ["a"], tmp_path, [])
    assert made.table.height == 1
    assert made.summary["removed"] == {"unlabelled": 1}
