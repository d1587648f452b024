"""Reading a model's text as (reasoning, answer). Pure, and closed on failure: what is in doubt is not a
training row.

Three ways of asking for reasoning, three ways of reading it:

- native: the model thinks by itself, `<think>…</think>` before the answer (engines put a server's separate
  reasoning field into this form);
- prompted: the prompt asks for `<reasoning>…</reasoning>` and `<answer>…</answer>`;
- guided: a JSON schema holds the model to an object with `reasoning`, then `answer`.

Splitting at the last `</think>` is not enough: a thought that is opened again, or never ended, would put
reasoning in front of the user.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from specdistill.schemas.vocabulary import FinishReason, ParseOutcome

Mode = Literal["native", "prompted", "guided"]

_TAG = re.compile(
    r"<\s*/?\s*(?:think|thinking|thought|reasoning|answer)\s*>|\[/?THINK\]|<\|[A-Za-z_]\w*\|>", re.IGNORECASE
)
"""Anything that marks where reasoning or a turn begins or ends, in any model's dialect; never part of an
answer."""
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>", re.DOTALL)
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Reading:
    """What a text was read as.

    Attributes:
        parse: whether it could be read; reasoning and answer are None unless it is OK.
        reasoning: the chain of thought, stripped; None where the model gave none.
        answer: what the user sees, stripped, never empty, never with a tag in it.
        detail: what was found instead, unless parse is OK.
    """

    parse: ParseOutcome
    reasoning: str | None = None
    answer: str | None = None
    detail: str | None = None


def guided_schema(max_reasoning_chars: int, max_answer_chars: int) -> dict[str, Any]:
    """JSON schema of a guided completion: an object with `reasoning`, then `answer`, both bounded in
    characters."""
    return {
        "type": "object",
        "properties": {
            "reasoning": {"type": "string", "minLength": 1, "maxLength": max_reasoning_chars},
            "answer": {"type": "string", "minLength": 1, "maxLength": max_answer_chars},
        },
        "required": ["reasoning", "answer"],
        "additionalProperties": False,
    }


def read_reasoned(text: str, mode: Mode, finish_reason: FinishReason, *, longest_answer: int | None = None) -> Reading:
    """Read a model's whole text.

    Args:
        text: as `Completion.canonical` gives it.
        mode: how reasoning was asked for.
        finish_reason: why generation ended. Text that ended at the token limit is truncated wherever it was
            cut.
        longest_answer: the schema's bound on the answer, in characters: a guided answer of exactly this
            length was cut by it. None to take such answers as whole.

    Returns:
        A reading; never raises, whatever the text.
    """
    if finish_reason is FinishReason.ERROR:
        return Reading(ParseOutcome.FAILED, detail="the call failed")
    cut = finish_reason is FinishReason.LENGTH
    if mode == "native":
        return _checked(_native(text, cut))
    thought = _THOUGHT.match(text)
    rest = text[thought.end() :] if thought else text
    if mode == "prompted":
        return _checked(_prompted(rest, cut))
    return _checked(_guided(rest, cut, longest_answer))


def _native(text: str, cut: bool) -> Reading:
    head, closer, answer = text.partition("</think>")
    before, opener, reasoning = head.partition("<think>")
    if not closer:
        if opener or cut:
            return Reading(ParseOutcome.TRUNCATED, detail="the thought never ended" if opener else _CUT)
        return Reading(ParseOutcome.OK, None, text)
    if opener and before.strip():
        return Reading(ParseOutcome.MALFORMED, detail="text before the thought")
    if not opener:  # the chat template had already opened it
        reasoning = head
    if cut:
        return Reading(ParseOutcome.TRUNCATED, detail=_CUT)
    return Reading(ParseOutcome.OK, reasoning, answer)


def _prompted(text: str, cut: bool) -> Reading:
    if cut:
        return Reading(ParseOutcome.TRUNCATED, detail=_CUT)
    before, opener, rest = text.partition("<reasoning>")
    reasoning, closer, rest = rest.partition("</reasoning>")
    between, answer_opener, rest = rest.partition("<answer>")
    answer, _, after = rest.partition("</answer>")  # a model that stopped by itself may leave out the last tag
    if not (opener and closer and answer_opener):
        return Reading(ParseOutcome.MALFORMED, detail="no <reasoning>…</reasoning> <answer>…</answer>")
    if before.strip() or between.strip() or after.strip():
        return Reading(ParseOutcome.MALFORMED, detail="text outside the tags")
    return Reading(ParseOutcome.OK, reasoning, answer)


def _guided(text: str, cut: bool, longest_answer: int | None) -> Reading:
    fenced = _FENCE.fullmatch(text)
    try:
        # Not strict: grammars of bounded strings let raw tabs and the like through, which do no harm.
        found = json.loads(fenced[1] if fenced else text, object_pairs_hook=_object, strict=False)
    except (ValueError, RecursionError) as exc:
        if cut:
            return Reading(ParseOutcome.TRUNCATED, detail=_CUT)
        if not text.strip():
            return Reading(ParseOutcome.EMPTY, detail="no text")
        return Reading(ParseOutcome.MALFORMED, detail=f"not JSON: {exc}"[:200])
    if not isinstance(found, dict) or set(found) != {"reasoning", "answer"}:
        return Reading(ParseOutcome.MALFORMED, detail="not an object with exactly reasoning and answer")
    reasoning, answer = found["reasoning"], found["answer"]
    if not isinstance(reasoning, str) or not isinstance(answer, str):
        return Reading(ParseOutcome.MALFORMED, detail="reasoning or answer is not a string")
    if longest_answer is not None and len(answer) >= longest_answer:
        return Reading(ParseOutcome.TRUNCATED, detail=f"the answer was cut at {longest_answer} characters")
    return Reading(ParseOutcome.OK, reasoning, answer)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without doubled keys, of which JSON parsers silently keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _checked(reading: Reading) -> Reading:
    """What holds in every mode: an answer, no tags in it or in the reasoning, text that can be stored."""
    if reading.parse is not ParseOutcome.OK or reading.answer is None:
        return reading
    reasoning, answer = (reading.reasoning or "").strip(), reading.answer.strip()
    if not answer:
        return Reading(ParseOutcome.EMPTY, detail="reasoning without an answer" if reasoning else "no text")
    for name, part in (("reasoning", reasoning), ("answer", answer)):
        if tag := _TAG.search(part):
            return Reading(ParseOutcome.MALFORMED, detail=f"{tag[0]} inside the {name}")
        if _SURROGATE.search(part):
            return Reading(ParseOutcome.MALFORMED, detail=f"half a character in the {name}")
    return Reading(ParseOutcome.OK, reasoning or None, answer)


_CUT = "cut at the token limit"
