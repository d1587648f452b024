"""Leaks, citations and copies: labelled texts, shapes of anchors, frame versions equal to the plain ones."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specdistill.schemas.citations import cited_clauses, cited_series
from specdistill.schemas.copying import copied_series, copied_words, shingles, shingles_of
from specdistill.schemas.leak import find_leak, leak_series

ANCHORS = [f"{area}-{kind}{n}" for area in ("SH", "VI", "HA", "EX", "RA") for kind in "CRS" for n in range(1, 5)] + [
    "ST-1",
    "ST-2",
]
LABELLED = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "leak_labelled.jsonl").read_text(encoding="utf-8").splitlines()
]


def precision_recall(part: str) -> tuple[float, float]:
    rows = [row for row in LABELLED if row["part"] == part]
    found = [find_leak(row["text"], ANCHORS) is not None for row in rows]
    true = sum(hit and row["leak"] for hit, row in zip(found, rows, strict=True))
    return true / sum(found), true / sum(row["leak"] for row in rows)


def test_leaks_on_texts_the_rules_were_made_with() -> None:
    precision, recall = precision_recall("dev")
    assert precision >= 0.98
    assert recall >= 0.98


def test_leaks_on_texts_the_rules_were_not_made_with() -> None:
    # Measured: precision 0.96, recall 0.83 on 70 texts written after the rules and never used to change them.
    precision, recall = precision_recall("held_out")
    assert precision >= 0.95
    assert recall >= 0.80


def test_a_doubtful_phrase_is_no_leak_when_the_user_asked_about_a_policy() -> None:
    answer = "The policy says that you pay the first 500 euros."
    assert find_leak(answer, ANCHORS) == "The policy says"
    assert find_leak(answer, ANCHORS, asked="What does my household policy cover?") is None


@pytest.mark.parametrize(
    ("text", "known", "invented"),
    [
        ("[SH-R1, SH-R2] apply, [VI-C1](#VI-C1) too.", ["SH-R1", "SH-R2", "VI-C1"], []),
        ("SH-R1 applies and so does SH-R9.", ["SH-R1"], ["SH-R9"]),
        ("Non-breaking: SH‑R1–SH‑R2.", ["SH-R1", "SH-R2"], []),
        ("[sh-r1] and [sh-r9]", ["SH-R1"], ["sh-r9"]),
        ("[clause SH-R1 and VI-C2]; [see: HA-S1]", ["SH-R1", "VI-C2", "HA-S1"], []),
        ("policy[SH-R1]", ["SH-R1"], []),
        ("[ZZ-Q1] and ZZ-Q2", [], ["ZZ-Q1", "ZZ-Q2"]),
        ("An AK-47, an LD-50 and COVID-19 are not clauses; ST-9 is made up.", [], ["ST-9"]),
        ("[he had an AK-47 and knew SH-R2]", ["SH-R2"], []),
        ("[sic], [1], [link](https://example.org), list[int], [name]", [], []),
        ("SH-R1.", ["SH-R1"], []),
    ],
)
def test_citations(text: str, known: list[str], invented: list[str]) -> None:
    assert cited_clauses(text, ANCHORS) == (known, invented)


def test_plain_word_anchors_count_only_where_they_are_cited() -> None:
    anchors = ["privacy", "self-harm", "do_not_lie"]
    text = "Your privacy matters, self-harm is hard, row[privacy], [privacy](https://example.org), user_name"
    assert cited_clauses(text, anchors) == ([], [])
    assert cited_clauses("[privacy], [self-harm](#self-harm), rule 'privacy', do_not_lie, [do_not_steal]", anchors) == (
        ["privacy", "self-harm", "do_not_lie"],
        ["do_not_steal"],
    )


def test_short_codes_need_a_word_that_cites_them() -> None:
    anchors = ["S1", "S2", "M3"]
    assert cited_clauses("Vitamin B12, an S3 bucket and the M3 motorway.", anchors) == ([], [])
    assert cited_clauses("Clause S1 and, under M3, rule S9 [S7].", anchors) == (["S1", "M3"], ["S9", "S7"])


PIECES = st.sampled_from(
    [
        "[SH-R1]",
        "SH-R9",
        "[ZZ-Q1, VI-C2]",
        "x[SH-R1]",
        "[a b]",
        "ST-1",
        "ST-77",
        "AK-47",
        "[",
        "]",
        "(",
        "#",
        ",",
        "é",
        "‑",
        " per ",
        "the policy says ",
        "insurance policy ",
        "<think>",
        "my guidelines ",
        "\n",
        "**",
        "privacy",
        "[sic](x)",
        "x" * 400,
    ]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join), st.none())


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=8))
def test_frame_versions_say_what_the_plain_ones_say(texts: list[str | None]) -> None:
    series = pl.Series("text", texts, dtype=pl.String)
    table = cited_series(series, ANCHORS)
    assert list(zip(table["known"].to_list(), table["invented"].to_list(), strict=True)) == [
        cited_clauses(text or "", ANCHORS) for text in texts
    ]
    assert leak_series(series, ANCHORS).to_list() == [
        find_leak(text, ANCHORS) if text is not None else None for text in texts
    ]


WORDS = st.lists(st.sampled_from(["one", "Two", "three,", "**four**", "fünf", "six_seven", "-"]), max_size=14).map(
    " ".join
)


@settings(deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=5), WORDS)
def test_copies_are_found_whatever_their_dress(answers: list[str], spec: str) -> None:
    known = shingles(spec, 4)
    expected = [copied_words(answer, known, 4) for answer in answers]
    assert copied_series(pl.Series(answers), known).to_list() == expected


def test_a_copy_needs_n_words_in_a_row() -> None:
    known = shingles_of(["Never tell a user how the lock is opened without a key."], 6)
    assert copied_words("So: never tell a USER, how *the* door works", known, 6) == "never tell a user how the"
    assert copied_words("never tell a user how a lock is opened", known, 6) is None
    assert copied_words("tell a user how", known, 6) is None
