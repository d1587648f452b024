"""What answers mean and what they do: majority, ties, corrections; the sets change exactly so."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_fixture import write_run

from specdistill.builders.audit.choose import choose
from specdistill.builders.audit.report import measure, write_report
from specdistill.builders.audit.stage import people_of, write_labels
from specdistill.builders.audit.verdicts import People, again, verdicts
from specdistill.builders.audit.view import judged
from specdistill.builders.calibration import stored_labels
from specdistill.builders.parts import parquet_bytes
from specdistill.builders.reselect import reselect
from specdistill.builders.run import open_run
from specdistill.schemas.audit import RECORDS, RESPONSES, Kind
from specdistill.schemas.configs import TABLES
from specdistill.schemas.files import write_whole
from specdistill.schemas.invariants import check_run, read_sets
from specdistill.schemas.manifest import AuditEntry
from specdistill.schemas.recipe import Audit
from specdistill.schemas.verify import read_manifest

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def answer(target, who, said, *, minute=0, status="submitted", correction=None, kind="row", number=1):
    """One row of the responses table."""
    return {
        "response_id": f"{target}-{who}-{number}",
        "record_id": f"{kind}-{target}",
        "round": number,
        "kind": kind,
        "target_id": target,
        "dataset_id": f"d{number}",
        "annotator": who,
        "status": status,
        "created": BEGAN,
        "updated": BEGAN + timedelta(minutes=minute),
        "verdict" if kind == "row" else "better": said,
        "clauses": [],
        "spans": [],
        "correction": correction,
    }


def finals(*answers, **audit):
    """Target to (final, disputed)."""
    found = verdicts(RESPONSES.frame(list(answers)), Audit(**audit))
    return {row["target_id"]: (row["final"], row["disputed"]) for row in found.iter_rows(named=True)}


def said(*words, **audit):
    """What votes on one row become."""
    return finals(
        *(answer("c", f"a{n}", word, correction="ok" if word == "fix" else None) for n, word in enumerate(words)),
        **audit,
    )["c"]


@pytest.mark.parametrize(
    ("words", "final"),
    [
        (["accept"], "confirmed"),
        (["reject"], "rejected"),
        (["fix"], "corrected"),
        (["accept", "accept", "reject"], "confirmed"),
        (["accept", "reject", "reject"], "rejected"),
        (["accept", "fix", "fix"], "corrected"),
        (["fix", "reject", "reject"], "rejected"),
        (["fix", "reject"], "corrected"),
        (["accept", "reject"], "rejected"),
        (["accept", "fix"], "corrected"),
    ],
)
def test_majority(words, final):
    assert said(*words)[0] == final


def test_a_tie_may_be_left_to_the_judge():
    assert said("accept", "reject", tie="judge")[0] == "open"
    assert said("accept", "reject", "reject", tie="judge")[0] == "rejected"


def test_a_fix_without_an_answer_is_a_rejection():
    assert finals(answer("c", "a", "fix"))["c"][0] == "rejected"


def test_too_few_answers_leave_it_open():
    assert said("reject", min_annotators=2)[0] == "open"
    assert said("reject", "reject", min_annotators=2)[0] == "rejected"


def test_drafts_and_discards_do_not_count_and_the_latest_answer_of_a_person_does():
    found = finals(
        answer("c", "a", "reject", minute=1),
        answer("c", "a", "accept", minute=5, number=2),
        answer("c", "b", "reject", status="draft"),
        answer("c", "d", None, status="discarded"),
        answer("e", "b", "reject", status="discarded"),
    )
    assert found == {"c": ("confirmed", False)}


def test_disagreement_is_told_from_a_clear_majority():
    assert said("accept", "reject")[1]
    assert not said("accept", "accept", "reject")[1]
    assert said("accept", "accept", "reject", "reject")[1]
    assert said("accept", "accept", "reject", max_disagreement=0.3)[1]


@pytest.mark.parametrize(
    ("words", "final"),
    [
        (["chosen"], "confirmed"),
        (["rejected"], "rejected"),
        (["both_bad"], "rejected"),
        (["tie"], "rejected"),
        (["chosen", "tie"], "confirmed"),
        (["chosen", "rejected"], "rejected"),
        (["chosen", "chosen", "both_bad"], "confirmed"),
    ],
)
def test_pairs(words, final):
    assert finals(*(answer("p", f"a{n}", word, kind="pair") for n, word in enumerate(words)))["p"][0] == final


def test_equally_good_leaves_the_judge_alone_where_ties_do():
    assert finals(answer("p", "a", "tie", kind="pair"), tie="judge")["p"][0] == "open"


WORDS = st.lists(st.sampled_from(["accept", "fix", "reject"]), min_size=1, max_size=7)


@given(WORDS)
@settings(max_examples=150, deadline=None)
def test_one_more_vote_for_a_row_never_turns_it_against_it(words):
    kept = said(*words)[0] == "confirmed"
    assert said(*words, "accept")[0] == "confirmed" or not kept
    assert said(*words)[0] == said(*reversed(words))[0], "who answers first does not matter"
    more = sum(word == "accept" for word in words) > len(words) / 2
    assert kept == more


def test_disputed_records_go_to_another_person_once_per_round():
    record = {
        "record_id": "row-c", "round": 1, "kind": "row", "target_id": "c", "prompt_id": "p", "category": "a",
        "outcome": "comply", "slice": "control", "why": ["drawn at random"], "priority": 0.1, "judge_accepts": True,
        "score": 0.9, "hidden": False,
    }  # fmt: skip
    records = RECORDS.frame([record])
    answers = [answer("c", "a", "accept"), answer("c", "b", "reject")]
    responses = RESPONSES.frame(answers)
    more = again(records, verdicts(responses, Audit()), responses, Audit())
    assert more.select("record_id", "round", "hidden").rows() == [("row-c", 2, True)]
    three = Audit(min_annotators=3)
    assert again(records, verdicts(responses, three), responses, three).is_empty(), "a third answer is to come"
    both = pl.concat([records, more])
    assert again(both, verdicts(responses, Audit()), responses, Audit()).is_empty(), "round 2 is not answered yet"
    third = RESPONSES.frame([*answers, answer("c", "d", "accept", number=2)])
    assert again(both, verdicts(third, Audit()), third, Audit()).is_empty(), "2 to 1 is no dispute"
    fourth = RESPONSES.frame([*answers, answer("c", "d", "accept", number=2), answer("c", "e", "reject", number=2)])
    assert again(both, verdicts(fourth, Audit()), fourth, Audit())["round"].to_list() == [3]


def test_no_audit_changes_nothing(tmp_path):
    layout = write_run(tmp_path / "run", prompts=30)
    before = read_sets(layout.datasets)
    reselect(layout.root)
    after = read_sets(layout.datasets)
    assert {c: {s: f.rows() for s, f in splits.items()} for c, splits in before.items()} == {
        c: {s: f.rows() for s, f in splits.items()} for c, splits in after.items()
    }
    assert people_of(layout, None) == People()


@pytest.fixture
def audited(tmp_path):
    """A run, its sets before, and a way to answer."""
    layout = write_run(tmp_path / "run", prompts=60)
    return layout, together(layout)


def together(layout):
    """Config to all rows."""
    return {config: pl.concat(splits.values()) for config, splits in read_sets(layout.datasets).items()}


def give(layout, *answers):
    write_whole(layout.audit_responses, parquet_bytes(RESPONSES.frame(list(answers))))
    reselect(layout.root)
    assert check_run(layout) == []
    return together(layout)


def test_a_rejected_row_leaves_every_set_and_says_why(audited):
    layout, before = audited
    gone = before["sft"]["id"].to_list()[:3]
    after = give(layout, *(answer(key, "a", "reject") for key in gone))
    for config in ("sft", "kto", "reward"):
        assert not set(gone) & set(after[config]["id"]), config
        assert set(gone) <= set(before[config]["id"])
    assert not set(gone) & set(pl.concat([after["preference"]["chosen_id"], after["preference"]["rejected_id"]]))
    moved = after["rejected"].filter(pl.col("id").is_in(gone))
    assert moved["reason"].to_list() == ["rejected_by_audit"] * 3
    assert after["judgments"].equals(before["judgments"]), "raw judgments stay"
    assert set(before["sft"]["id"]) - set(after["sft"]["id"]) == set(gone)


def test_a_confirmed_row_is_marked_and_one_below_the_threshold_comes_in(audited):
    layout, before = audited
    kept = before["sft"]["id"][0]
    low = before["rejected"].filter(pl.col("reason") == "below_threshold")["id"][0]
    after = give(layout, answer(kept, "a", "accept"), answer(low, "a", "accept"))
    rows = {row["id"]: row for row in after["sft"].iter_rows(named=True)}
    assert rows[kept]["audit"] == rows[low]["audit"] == "confirmed"
    assert rows[low]["score"] < 0.6
    assert after["sft"].filter(pl.col("audit").is_not_null()).height == 2
    assert after["kto"].filter(pl.col("id") == low)["label"].to_list() == [True]


def test_a_correction_becomes_a_row_with_lineage_and_bad_ones_are_filtered(audited):
    layout, before = audited
    good, leaking, empty = before["sft"]["id"].to_list()[:3]
    text = "Clamp the board first, then take thin shavings along the grain."
    after = give(
        layout,
        answer(good, "a", "fix", correction=text),
        answer(leaking, "a", "fix", correction="Per [TO-R1] I can't say more, my guidelines forbid it."),
        answer(empty, "a", "fix", correction=None),
    )
    written = after["sft"].filter(pl.col("audit") == "corrected")
    assert written["corrected_from"].to_list() == [good]
    completion = written["completion"][0][0]
    original = before["sft"].filter(pl.col("id") == good)["completion"][0][0]
    assert completion["content"] == text
    assert completion["reasoning_content"] == original["reasoning_content"]
    assert written["score"].to_list() == [None]
    reasons = {row["id"]: row for row in after["rejected"].iter_rows(named=True)}
    assert all(reasons[key]["reason"] == "rejected_by_audit" for key in (good, leaking, empty))
    leak = after["rejected"].filter(pl.col("corrected_from") == leaking)
    assert leak["reason"].to_list() == ["leak"]
    assert leak["arm"].to_list() == ["human"]
    assert written["id"][0] not in set(after["kto"]["id"]) | set(after["reward"]["id"]), "no judge scored it"


def test_a_pair_whose_order_people_reverse_goes_and_a_confirmed_one_is_marked(audited):
    layout, before = audited
    first, second = before["preference"]["id"].to_list()[:2]
    after = give(layout, answer(first, "a", "chosen", kind="pair"), answer(second, "a", "rejected", kind="pair"))
    marks = dict(after["preference"].select("id", "audit").iter_rows())
    assert marks[first] == "confirmed"
    assert second not in marks
    assert sum(mark is not None for mark in marks.values()) == 1


def test_a_release_knows_what_people_rejected_before_select_applies_it(audited):
    layout, before = audited
    row, pair = before["sft"]["id"][0], before["preference"]["id"][0]
    answers = [answer(row, "a", "reject"), answer(pair, "a", "rejected", kind="pair")]
    write_whole(layout.audit_responses, parquet_bytes(RESPONSES.frame(answers)))
    assert check_run(layout) == []
    people_of(*open_run(layout.root))  # as `audit pull` does
    broken = {violation.config: violation.ids for violation in check_run(layout)}
    assert row in broken["sft"]
    assert pair in broken["preference"]
    reselect(layout.root)
    assert check_run(layout) == []


def test_taking_answers_back_restores_the_sets_byte_for_byte(audited):
    layout, before = audited
    give(layout, *(answer(key, "a", "reject") for key in before["sft"]["id"].to_list()[:5]))
    layout.audit_responses.unlink()
    reselect(layout.root)
    after = together(layout)
    assert all(before[config].equals(after[config]) for config in TABLES)
    assert not layout.audit_verdicts.exists()


def test_labels_and_the_manifest_tell_of_the_audit(audited):
    layout, before = audited
    good, bad = before["sft"]["id"].to_list()[:2]
    rated = answer(good, "a", "accept") | {"compliance": 5, "helpfulness": 3}
    answers = RESPONSES.frame([rated, answer(bad, "a", "reject")])
    text = write_labels(layout, verdicts(answers, Audit()), answers).read_text().splitlines()
    assert text == ["id,label", *sorted([f"{good},1", f"{bad},0"])]
    labels = {row["id"]: row for row in stored_labels(layout).iter_rows(named=True)}
    assert labels[good] == {"id": good, "label": True, "score": 0.75, "source": "audit"}
    assert labels[bad]["score"] is None
    turned = RESPONSES.frame([answer(bad, "a", "accept")])
    write_labels(layout, verdicts(turned, Audit()), turned)
    assert stored_labels(layout).select("id", "label").rows() == [(bad, True)], "an audit replaces its own labels"
    entry = AuditEntry(records=2, responses=2, annotators=1, lines=["They agree."])
    layout.audit_summary.write_text(entry.model_dump_json())
    reselect(layout.root)
    assert read_manifest(layout.manifest).audit == entry


def test_the_manifest_says_how_good_the_judge_is_for_the_threshold_it_has_alone(audited):
    layout, before = audited
    keys = before["sft"]["id"].to_list()[:6]
    give(layout, *(answer(key, "a", "accept") for key in keys))
    run, recipe = judged(layout, open_run(layout.root)[1]), open_run(layout.root)[1]
    records = choose(run.rows, Kind.ROW, run.rows.height, Audit(random_control=1.0))
    responses = RESPONSES.frame([answer(key, "a", "accept") for key in keys])
    write_report(layout, measure(records, responses, run.rows, recipe.audit), recipe)
    first = reselect(layout.root) and read_manifest(layout.manifest).audit
    assert [line.startswith("By the random control slice") for line in first.lines] == [True]
    reselect(layout.root, [f"judge.threshold={recipe.judge.threshold / 2}"])
    moved = read_manifest(layout.manifest).audit
    assert moved.lines == [
        "The judge's settings changed after the audit; how good its verdicts are now was not measured."
    ]
    assert moved.responses == first.responses
    reselect(layout.root, [f"judge.threshold={recipe.judge.threshold}"])
    assert read_manifest(layout.manifest).audit == first
