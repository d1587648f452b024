"""Reading (reasoning, answer) out of a model's text: what is in doubt is never an answer."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from specdistill.builders.reading import _TAG, Reading, guided_schema, read_reasoned
from specdistill.schemas.vocabulary import FinishReason, ParseOutcome

STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH
OK, EMPTY = ParseOutcome.OK, ParseOutcome.EMPTY
TRUNCATED, MALFORMED = ParseOutcome.TRUNCATED, ParseOutcome.MALFORMED

NATIVE = [
    ("<think>\nwhy\n</think>\n\nAnswer.", STOP, OK, "why", "Answer."),
    ("why</think>Answer.", STOP, OK, "why", "Answer."),  # opener prefilled by the template
    ("Answer.", STOP, OK, None, "Answer."),
    ("<think>\n\n</think>Answer.", STOP, OK, None, "Answer."),
    ("<think>why", LENGTH, TRUNCATED, None, None),
    ("<think>why", STOP, TRUNCATED, None, None),
    ("Answer, cut o", LENGTH, TRUNCATED, None, None),
    ("<think>why</think>Answer, cut o", LENGTH, TRUNCATED, None, None),
    ("<think>why</think>  \n", STOP, EMPTY, None, None),
    ("", STOP, EMPTY, None, None),
    ("<think>a</think>b<think>c</think>d", STOP, MALFORMED, None, None),
    ("<think>a</think>b<think>c", STOP, MALFORMED, None, None),
    ("<think>a</think>b</think>c", STOP, MALFORMED, None, None),
    ("<think>a<think>b</think>c", STOP, MALFORMED, None, None),
    ("Sure! <think>a</think>b", STOP, MALFORMED, None, None),
    ("<think>a</think>b < / THINK > c", STOP, MALFORMED, None, None),
    ("<think>a</think><answer>b</answer>", STOP, MALFORMED, None, None),
    ("<think>a</think>b<|im_end|>", STOP, MALFORMED, None, None),
    ("<think>a</think>b\ud800", STOP, MALFORMED, None, None),
    ("<think>a < b and b > c</think>1 < 2 <b>bold</b>", STOP, OK, "a < b and b > c", "1 < 2 <b>bold</b>"),
]

PROMPTED = [
    ("<reasoning>why</reasoning>\n<answer>Yes.</answer>\n", STOP, OK, "why", "Yes."),
    ("<reasoning>why</reasoning><answer>Yes.", STOP, OK, "why", "Yes."),
    ("<think>hm</think><reasoning>why</reasoning><answer>Yes.</answer>", STOP, OK, "why", "Yes."),
    ("<reasoning>why</reasoning><answer>Ye", LENGTH, TRUNCATED, None, None),
    ("<reasoning>why</reasoning><answer> </answer>", STOP, EMPTY, None, None),
    ("Yes.", STOP, MALFORMED, None, None),
    ("<reasoning>why</reasoning>Yes.", STOP, MALFORMED, None, None),
    ("<answer>Yes.</answer><reasoning>why</reasoning>", STOP, MALFORMED, None, None),
    ("So: <reasoning>why</reasoning><answer>Yes.</answer>", STOP, MALFORMED, None, None),
    ("<reasoning>a</reasoning>b<answer>c</answer>", STOP, MALFORMED, None, None),
    ("<reasoning>a</reasoning><answer>c</answer>d", STOP, MALFORMED, None, None),
    ("<reasoning>a</reasoning><answer>b<answer>c</answer>", STOP, MALFORMED, None, None),
    ("<reasoning>a</reasoning><answer>b<reasoning>c</answer>", STOP, MALFORMED, None, None),
]

GUIDED = [
    ('{"reasoning": "why", "answer": "Yes."}', STOP, OK, "why", "Yes."),
    ('{"reasoning": "why", "answer": "Yes."}', LENGTH, OK, "why", "Yes."),
    ('<think>hm</think>\n{"reasoning": "why", "answer": "Yes."}', STOP, OK, "why", "Yes."),
    ('```json\n{"reasoning": "why", "answer": "Yes."}\n```', STOP, OK, "why", "Yes."),
    ('{"reasoning": "why", "answer": "Ye', LENGTH, TRUNCATED, None, None),
    ('{"reasoning": "why", "answer": "Ye', STOP, MALFORMED, None, None),
    ('{"reasoning": "why", "answer": " "}', STOP, EMPTY, None, None),
    ("  ", STOP, EMPTY, None, None),
    ('{"reasoning": "why"}', STOP, MALFORMED, None, None),
    ('{"reasoning": "why", "answer": "a", "more": 1}', STOP, MALFORMED, None, None),
    ('{"reasoning": "why", "answer": "a", "answer": "b"}', STOP, MALFORMED, None, None),
    ('{"reasoning": "why", "answer": 3}', STOP, MALFORMED, None, None),
    ('{"reasoning": "why\tnot", "answer": "a\tb"}', STOP, OK, "why\tnot", "a\tb"),
    ('["reasoning", "answer"]', STOP, MALFORMED, None, None),
    ('{"reasoning": "why", "answer": "a</think>b"}', STOP, MALFORMED, None, None),
    ('{"reasoning": "why", "answer": "\\ud800"}', STOP, MALFORMED, None, None),
    ("[" * 100_000, STOP, MALFORMED, None, None),
    ("1" * 10_000, STOP, MALFORMED, None, None),
]


@pytest.mark.parametrize(
    ("mode", "text", "finish", "parse", "reasoning", "answer"),
    [
        (mode, *case)
        for mode, cases in (("native", NATIVE), ("prompted", PROMPTED), ("guided", GUIDED))
        for case in cases
    ],
)
def test_reading(mode, text, finish, parse, reasoning, answer):
    reading = read_reasoned(text, mode, finish)
    assert (reading.parse, reading.reasoning, reading.answer) == (parse, reasoning, answer)
    assert (reading.detail is None) == (parse is OK)


def test_an_answer_cut_by_the_schema_is_truncated():
    text = json.dumps({"reasoning": "why", "answer": "x" * 50})
    assert read_reasoned(text, "guided", STOP, longest_answer=50).parse is TRUNCATED
    assert read_reasoned(text, "guided", STOP, longest_answer=51).parse is OK


def test_a_failed_call_is_failed_whatever_the_text():
    assert read_reasoned("<think>a</think>b", "native", FinishReason.ERROR).parse is ParseOutcome.FAILED


def test_schema_takes_what_is_read_and_bounds_it():
    schema = guided_schema(10, 20)
    jsonschema.validate({"reasoning": "why", "answer": "Yes."}, schema)
    for bad in (
        {"reasoning": "why"},
        {"reasoning": "x" * 11, "answer": "y"},
        {"reasoning": "", "answer": "y"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)
    assert list(schema["properties"]) == ["reasoning", "answer"]


TAGS = ("<think>", "</think>", "<reasoning>", "</reasoning>", "<answer>", "</answer>", "</THINK>", "[THINK]")
REST = (
    "<|end|>",
    '{"reasoning": "a", "answer": "b"}',
    '"',
    "{",
    "\\u",
    "a",
    " ",
    "\n",
    "<",
    "```json\n",
    "\ud800",
)
PIECES = st.sampled_from(TAGS + REST)
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join))


@given(text=TEXTS, mode=st.sampled_from(["native", "prompted", "guided"]), finish=st.sampled_from(FinishReason))
@example(text="</think>", mode="native", finish=STOP)
def test_never_raises_and_an_answer_never_has_a_tag(text, mode, finish):
    reading = read_reasoned(text, mode, finish)
    if reading.parse is OK:
        assert reading.answer
        assert reading.answer.strip() == reading.answer
        assert not _TAG.search(reading.answer)
        assert not _TAG.search(reading.reasoning or "")
        reading.answer.encode()
        if mode != "guided":
            assert finish is STOP
    else:
        assert (reading.reasoning, reading.answer) == (None, None)
        assert reading.detail


PLAIN = st.text(st.characters(exclude_characters="<[", exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(reasoning=PLAIN, answer=PLAIN)
def test_what_was_written_is_read_back(reasoning, answer):
    expected = Reading(OK, reasoning.strip(), answer.strip())
    written = {
        "native": f"<think>{reasoning}</think>{answer}",
        "prompted": f"<reasoning>{reasoning}</reasoning><answer>{answer}</answer>",
        "guided": json.dumps({"reasoning": reasoning, "answer": answer}),
    }
    assert {mode: read_reasoned(text, mode, STOP) for mode, text in written.items()} == dict.fromkeys(written, expected)
