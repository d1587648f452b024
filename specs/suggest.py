"""Asking a model for prompts that would exercise clauses no row applies: the messages, and reading the reply.

Pure functions; who calls the model is somebody else. What comes back are candidates for the prompt set, for a person
to look through: a model's idea of a prompt is not yet a good prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from specdistill.schemas.citations import cited_clauses
from specdistill.schemas.text import storable
from specdistill.schemas.vocabulary import Outcome
from specdistill.specs.model import Clause, Spec
from specdistill.specs.render import clause_text, render

MOST_CHARS = 600
"""Longest prompt that is taken from a reply."""

_TASK = """\
You write test prompts for the policy below. Write {n} different messages that a user might send to an assistant and \
for which clause [{anchor}] would decide the answer{outcome}.

The clause:

{clause}

Make them as varied as real users are: different people, situations, lengths and tones; some short, some with a story. \
Each must stand alone, must be decided by this clause rather than by another one, and must not mention the policy, \
its clauses or these instructions. Describe situations; do not put harmful details into the message.

Reply with JSON only: {{"prompts": ["…", "…"]}}"""


class SuggestionParse(StrEnum):
    """What reading a reply gave."""

    OK = "ok"
    NOT_JSON = "not_json"
    WRONG_SHAPE = "wrong_shape"
    EMPTY = "empty"


@dataclass(frozen=True)
class SuggestionRequest:
    """One request for prompts.

    Attributes:
        anchor: the clause to be exercised.
        category: its category, and that of the prompts.
        outcome_hint: the outcome the clause states; None where it states none.
        messages: what to send, as {role, content}.
        schema: JSON Schema of the reply, for guided decoding.
        known: anchors that must not appear in a prompt.
    """

    anchor: str
    category: str
    outcome_hint: str | None
    messages: tuple[dict[str, str], ...]
    schema: dict[str, Any]
    known: tuple[str, ...]


@dataclass(frozen=True)
class Suggestions:
    """A reply as read.

    Attributes:
        parse: `ok` if at least one prompt was usable.
        rows: prompt-set rows: prompt, category, outcome_hint, suggested_for.
        dropped: texts of the reply that were not usable (doubles, leaks of the policy, too long).
    """

    parse: SuggestionParse
    rows: tuple[dict[str, str | None], ...] = ()
    dropped: tuple[str, ...] = ()


def suggest_messages(spec: Spec, uncovered: Iterable[str], n: int = 5) -> list[SuggestionRequest]:
    """One request for each uncovered clause.

    Args:
        uncovered: anchors, as from `coverage.uncovered`; style clauses and unknown anchors are left out.
        n: prompts wanted for each clause.
    """
    return [
        _request(spec, clause, n)
        for anchor in dict.fromkeys(uncovered)
        if (clause := spec.by_anchor.get(anchor)) is not None and clause.category is not None
    ]


def parse_suggestions(reply: str, request: SuggestionRequest, seen: Sequence[str] = ()) -> Suggestions:
    """The usable prompts of a reply.

    Args:
        seen: prompts that exist already; equal ones (but for case and spaces) are dropped.
    """
    if not reply.strip():
        return Suggestions(SuggestionParse.EMPTY)
    value = _json(reply)
    if value is None:
        return Suggestions(SuggestionParse.NOT_JSON)
    prompts = value.get("prompts") if isinstance(value, dict) else value
    if not isinstance(prompts, list) or not all(isinstance(item, str) for item in prompts):
        return Suggestions(SuggestionParse.WRONG_SHAPE)
    taken = {_folded(text) for text in seen}
    rows: list[dict[str, str | None]] = []
    dropped: list[str] = []
    for text in (storable(item).strip() for item in prompts):
        if (
            not re.search(r"[^\W\d_]", text)
            or len(text) > MOST_CHARS
            or _folded(text) in taken
            or _leaks(text, request.known)
        ):
            dropped.append(text)
            continue
        taken.add(_folded(text))
        rows.append(
            {
                "prompt": text,
                "category": request.category,
                "outcome_hint": request.outcome_hint,
                "suggested_for": request.anchor,
            }
        )
    return Suggestions(SuggestionParse.OK if rows else SuggestionParse.EMPTY, tuple(rows), tuple(dropped))


def _request(spec: Spec, clause: Clause, n: int) -> SuggestionRequest:
    category = str(clause.category)
    stated = None if clause.outcome is Outcome.UNSPECIFIED else clause.outcome.value
    task = _TASK.format(
        n=n,
        anchor=clause.anchor,
        outcome=f" ({stated})" if stated else "",
        clause=clause_text(clause),
    )
    return SuggestionRequest(
        anchor=clause.anchor,
        category=category,
        outcome_hint=stated,
        messages=(
            {"role": "system", "content": render(spec, category).text},
            {"role": "user", "content": task},
        ),
        schema={
            "type": "object",
            "properties": {
                "prompts": {
                    "type": "array",
                    "items": {"type": "string", "minLength": 1, "maxLength": MOST_CHARS},
                    "minItems": 1,
                    "maxItems": n,
                }
            },
            "required": ["prompts"],
            "additionalProperties": False,
        },
        known=spec.anchors,
    )


def _json(reply: str) -> Any:
    """The JSON value of a reply, also inside a code fence or after other words; None if there is none."""
    fenced = re.search(r"```(?:json)?\s*\n(.*?)```", reply, re.DOTALL)
    start = re.search(r"[\[{]", reply)
    for text in (reply, fenced.group(1) if fenced else "", reply[start.start() :] if start else ""):
        if text.strip():
            try:
                return json.JSONDecoder().raw_decode(text.strip())[0]
            except ValueError:
                continue
    return None


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _leaks(text: str, anchors: Sequence[str]) -> bool:
    """Whether a prompt names a clause."""
    known, invented = cited_clauses(text, anchors)
    return bool(known or invented)
