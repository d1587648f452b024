"""Each invariant: a good run keeps it, and a planted fault is found in exactly the planted rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_fixture import write_run

from specdistill.errors import RunError, SchemaError
from specdistill.schemas.invariants import Facts, Invariant, Violation, check_run, check_sets, read_sets
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.rows import CLAUSES, MESSAGES, REASONED_MESSAGES
from specdistill.schemas.similar import near_duplicates, near_within
from specdistill.schemas.verify import read_manifest

Sets = dict[str, dict[str, pl.DataFrame]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    return write_run(tmp_path_factory.mktemp("run") / "r")


def change(sets: Sets, config: str, row: int, **values: object) -> str:
    """Set columns of one row of CONFIG/train; returns the row's id."""
    frame = sets[config]["train"]
    changed = [
        pl.when(pl.int_range(pl.len()) == row)
        .then(pl.lit(pl.Series([value], dtype=frame.schema[name])).first())
        .otherwise(pl.col(name))
        .alias(name)
        for name, value in values.items()
    ]
    sets[config]["train"] = frame.with_columns(changed)
    return str(frame["id"][row])


def message(answer: str, reasoning: str | None = "By [TO-C1] this is fine.") -> list[dict[str, str | None]]:
    return [{"role": "assistant", "content": answer, "reasoning_content": reasoning}]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


SPEC_TEXT = (
    "Questions about tools that are plainly of the refuse kind are handled just so, "
    "with care for the tools at hand and for the people standing near it."
)


def straddle(sets: Sets) -> list[str]:
    train = sets["kto"]["train"]
    twins = pl.concat(list(sets["prompts"].values())).drop_nulls("twin_id")["id"].to_list()
    alone = train.filter(~pl.col("prompt_id").is_in(twins))
    moved = alone.head(1)
    sets["kto"]["test"] = pl.concat([sets["kto"]["test"], moved])
    sets["kto"]["train"] = train.join(moved.select("id"), on="id", how="anti")
    return moved["prompt_id"].to_list()


def near(sets: Sets) -> list[str]:
    sides = {}
    for split, end in (("train", "today"), ("test", "tomorrow")):
        text = " ".join(f"word{number}" for number in range(30)) + f" {end}"
        frame = sets["prompts"][split]
        first = pl.int_range(pl.len()) == 0
        sets["prompts"][split] = frame.with_columns(
            pl.when(first)
            .then(pl.lit(pl.Series([user(text)], dtype=MESSAGES)).first())
            .otherwise("prompt")
            .alias("prompt")
        )
        sides[split] = frame["id"][0]
    return [sides["test"], sides["train"]]


def lost(sets: Sets) -> list[str]:
    gone = sets["rejected"]["train"]["id"][0]
    sets["rejected"]["train"] = sets["rejected"]["train"].slice(1)
    return [gone]


def scored_without_votes(sets: Sets) -> list[str]:
    key = sets["sft"]["train"]["id"][0]
    mute = pl.when(pl.col("candidate_id") == key)
    names = ("compliance", "helpfulness", "correctness", "reasoning_quality", "abstain_reason")
    sets["judgments"]["train"] = sets["judgments"]["train"].with_columns(
        mute.then(pl.lit("abstained")).otherwise("status").alias("status"),
        *(mute.then(None).otherwise(pl.col(name)).alias(name) for name in names),
    )
    return [key]


def abstention_with_number(sets: Sets) -> list[str]:
    frame = sets["judgments"]["train"]
    row = frame["status"].to_list().index("abstained")
    return [change(sets, "judgments", row, compliance=0.0)]


Plant = Callable[[Sets], list[str]]
FAULTS: dict[str, tuple[Invariant, str, Plant]] = {
    "system turn last": (
        Invariant.PROMPT_TURNS,
        "sft",
        lambda sets: [change(sets, "sft", 0, prompt=[*user("Hello"), {"role": "system", "content": "Obey."}])],
    ),
    "empty turn": (Invariant.PROMPT_TURNS, "sft", lambda sets: [change(sets, "sft", 1, prompt=user(" \n"))]),
    "spec in prompt": (
        Invariant.PROMPT_CLEAN,
        "kto",
        lambda sets: [change(sets, "kto", 2, prompt=user(f"{SPEC_TEXT}\n\nSo, may I?"))],
    ),
    "anchor in prompt": (
        Invariant.PROMPT_CLEAN,
        "reward",
        lambda sets: [change(sets, "reward", 2, prompt=user("What does [PA-R1] mean?"))],
    ),
    "two messages": (
        Invariant.COMPLETION,
        "sft",
        lambda sets: [change(sets, "sft", 0, completion=message("One.") + message("Two."))],
    ),
    "no reasoning": (
        Invariant.COMPLETION,
        "sft",
        lambda sets: [change(sets, "sft", 0, completion=message("Fine.", None))],
    ),
    "anchor in answer": (
        Invariant.ANSWER_CLEAN,
        "sft",
        lambda sets: [change(sets, "sft", 3, completion=message("[TO-C1] allows it."))],
    ),
    "policy talk in chosen": (
        Invariant.ANSWER_CLEAN,
        "preference",
        lambda sets: [change(sets, "preference", 3, chosen=message("My guidelines forbid that."))],
    ),
    "thinking in answer": (
        Invariant.ANSWER_CLEAN,
        "sft",
        lambda sets: [change(sets, "sft", 3, completion=message("<think>hm</think>Fine."))],
    ),
    "spec copied": (
        Invariant.ANSWER_CLEAN,
        "sft",
        lambda sets: [change(sets, "sft", 3, completion=message(SPEC_TEXT.upper()))],
    ),
    "invented clause": (
        Invariant.CITATIONS,
        "sft",
        lambda sets: [change(sets, "sft", 4, completion=message("Fine.", "By [TO-R7] and [TO-C1] it is."))],
    ),
    "invented in clauses": (
        Invariant.CITATIONS,
        "sft",
        lambda sets: [change(sets, "sft", 4, clauses=["TO-C1", "TO-X1"])],
    ),
    "digest of another wording": (
        Invariant.CITATIONS,
        "sft",
        lambda sets: [change(sets, "sft", 4, clause_digests=["0" * 32, "1" * 32])],
    ),
    "abstention with a number": (Invariant.ABSTENTION, "judgments", abstention_with_number),
    "score without votes": (Invariant.ABSTENTION, "sft", scored_without_votes),
    "score out of range": (Invariant.RANGE, "reward", lambda sets: [change(sets, "reward", 0, helpfulness=1.5)]),
    "score is NaN": (Invariant.RANGE, "reward", lambda sets: [change(sets, "reward", 0, score=float("nan"))]),
    "below threshold": (Invariant.THRESHOLD, "sft", lambda sets: [change(sets, "sft", 0, score=0.59)]),
    "margin within noise": (Invariant.MARGIN, "preference", lambda sets: [change(sets, "preference", 0, noise=1.0)]),
    "margin is another number": (
        Invariant.MARGIN,
        "preference",
        lambda sets: [change(sets, "preference", 1, score_rejected=0.0, margin=0.9, score_chosen=0.8)],
    ),
    "tie": (
        Invariant.MARGIN,
        "preference",
        lambda sets: [change(sets, "preference", 1, score_rejected=0.8, margin=0.0, score_chosen=0.8)],
    ),
    "same answer twice": (
        Invariant.PAIR,
        "preference",
        lambda sets: [change(sets, "preference", 0, chosen=message("Same."), rejected=message("Same."))],
    ),
    "prompt in two splits": (Invariant.SPLITS, "*", straddle),
    "near-duplicates": (Invariant.SPLITS, "*", near),
    "lost candidate": (Invariant.FATE, "rejected", lost),
    "accepted and rejected": (
        Invariant.FATE,
        "sft",
        lambda sets: [change(sets, "rejected", 0, id=sets["sft"]["train"]["id"][0]) and sets["sft"]["train"]["id"][0]],
    ),
    "unknown prompt": (Invariant.REFERENCES, "sft", lambda sets: [change(sets, "sft", 0, prompt_id="nobody")]),
    "unknown category": (Invariant.REFERENCES, "sft", lambda sets: [change(sets, "sft", 0, category="cooking")]),
    "old schema": (Invariant.SCHEMA, "sft", lambda sets: [change(sets, "sft", 0, schema_version="0.9.0")]),
    "null where none may be": (Invariant.SCHEMA, "kto", lambda sets: [change(sets, "kto", 0, score=None)]),
    "no score and no person": (Invariant.ABSTENTION, "sft", lambda sets: [change(sets, "sft", 0, score=None)]),
    "unknown reason": (Invariant.SCHEMA, "rejected", lambda sets: [change(sets, "rejected", 0, reason="mood")]),
    "key used twice": (
        Invariant.SCHEMA,
        "sft",
        lambda sets: [change(sets, "sft", 0, id=sets["sft"]["test"]["id"][0]) and sets["sft"]["test"]["id"][0]],
    ),
}


def test_a_good_run_keeps_every_promise(run: RunLayout) -> None:
    assert check_run(run) == []
    sets = read_sets(run.datasets)
    assert {config for config, splits in sets.items() if splits["train"].height and splits["test"].height} == set(sets)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_in_its_rows(run: RunLayout, name: str) -> None:
    invariant, config, plant = FAULTS[name]
    sets = read_sets(run.datasets)
    ids = plant(sets)
    found = [v for v in check_run(run, sets) if v.invariant is invariant and v.config == config]
    assert found
    assert {key for violation in found for key in violation.ids} == set(ids), found
    assert all(key in str(violation) for violation in found for key in violation.ids)


def test_a_prompt_may_be_of_several_categories_of_the_spec(run: RunLayout) -> None:
    for category, wrong in (("tools+paint", 0), ("tools+cooking", 1)):
        sets = read_sets(run.datasets)
        change(sets, "sft", 0, category=category)
        found = [v for v in check_run(run, sets) if v.invariant is Invariant.REFERENCES]
        assert sum(len(v.ids) for v in found) == wrong, found


def test_planted_faults_cover_every_invariant() -> None:
    assert {invariant for invariant, _, _ in FAULTS.values()} | {Invariant.HUMAN} == set(Invariant)


def test_what_people_rejected_may_not_be_published_as_good(run: RunLayout) -> None:
    sets = read_sets(run.datasets)
    good, pair = sets["sft"]["train"]["id"][0], sets["preference"]["train"].row(0, named=True)
    other = sets["preference"]["train"]["id"][-1]
    facts = Facts(pl.read_parquet(run.clauses), human_rejected=frozenset({good, pair["chosen_id"], other}))
    found = [v for v in check_sets(sets, facts) if v.invariant is Invariant.HUMAN]
    assert good in {key for v in found if v.config == "sft" for key in v.ids}
    assert {pair["id"], other} <= {key for v in found if v.config == "preference" for key in v.ids}


def test_twins_and_groups_stay_together(run: RunLayout) -> None:
    sets = read_sets(run.datasets)
    left, right = sets["prompts"]["train"]["id"][0], sets["prompts"]["test"]["id"][0]
    change(sets, "prompts", 0, twin_id=right)
    assert [v.ids for v in check_run(run, sets) if "twins" in v.detail] == [(left,)]
    prompts = pl.read_parquet(run.prompts / "*.parquet").with_columns(
        pl.when(pl.col("prompt_id").is_in([left, right])).then(pl.lit("g")).otherwise("group_id").alias("group_id")
    )
    facts = Facts(pl.read_parquet(run.clauses), prompts=prompts)
    found = [v for v in check_sets(read_sets(run.datasets), facts) if "group" in v.detail]
    assert [set(v.ids) for v in found] == [{left, right}]


def test_a_run_without_manifest_or_with_a_foreign_one_is_refused(run: RunLayout, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not complete"):
        check_run(RunLayout(tmp_path))
    for text in ("{", "[]", '{"format": 1}', run.manifest.read_text().replace('"name"', '"nmae"', 1)):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(RunError, match="cannot be read"):
            read_manifest(tmp_path / "manifest.json")


def test_a_damaged_set_is_named(run: RunLayout, tmp_path: Path) -> None:
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "train.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(SchemaError, match=r"sft/train\.parquet"):
        read_sets(tmp_path)


def test_a_violation_names_ten_rows_and_counts_the_rest() -> None:
    line = str(Violation(Invariant.RANGE, "sft", "train", tuple(f"r{n}" for n in range(12)), "score is wrong"))
    assert line == "sft/train: range: score is wrong (rows r0, r1, r2, r3, r4, r5, r6, r7, r8, r9 and 2 more)"


def triples_of(text: str) -> set[str]:
    words = text.split()
    return {" ".join(words[at : at + 3]) for at in range(len(words) - 2)} or {" ".join(words)}


TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join), min_size=1, max_size=12)


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS, st.sampled_from([0.3, 0.5, 0.7, 0.8, 1.0]))
def test_near_duplicates_are_the_pairs_that_comparing_all_would_give(
    left: list[str], right: list[str], threshold: float
) -> None:
    frames = [
        pl.DataFrame({"id": [f"{side}{number}" for number in range(len(texts))], "text": texts})
        for side, texts in (("l", left), ("r", right))
    ]
    expected = set()
    for (at, one), (to, other) in ((a, b) for a in enumerate(left) for b in enumerate(right)):
        ours, theirs = triples_of(one), triples_of(other)
        if len(ours & theirs) / len(ours | theirs) >= threshold:
            expected.add((f"l{at}", f"r{to}"))
    assert set(near_duplicates(*frames, threshold).select("left", "right").iter_rows()) == expected
    within = near_within(frames[0], threshold).select("left", "right").rows()
    sets = [triples_of(text) for text in left]
    every = [(a, b) for b in range(len(left)) for a in range(b)]
    alike = [(a, b) for a, b in every if len(sets[a] & sets[b]) / len(sets[a] | sets[b]) >= threshold]
    assert sorted(within) == sorted((f"l{a}", f"l{b}") for a, b in alike)


def test_no_rows_break_no_promise() -> None:
    empty = {"sft": {"train": pl.DataFrame(schema={"completion": REASONED_MESSAGES})}}
    assert {v.invariant for v in check_sets(empty, Facts(CLAUSES.empty()))} == {Invariant.SCHEMA}
    assert check_sets({}, Facts(CLAUSES.empty())) == []


def test_the_fixture_is_deterministic(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one", seed=3, prompts=9), write_run(tmp_path / "two", seed=3, prompts=9)
    assert one.manifest.read_bytes() == two.manifest.read_bytes()
