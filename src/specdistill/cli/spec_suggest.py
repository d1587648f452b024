"""`specdistill spec coverage --suggest`: ask the run's generator for prompts that would exercise uncovered clauses."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from specdistill.errors import DiskError, EngineError

if TYPE_CHECKING:
    from specdistill.builders.engines.base import Engine
    from specdistill.builders.engines.exchange import Completion
    from specdistill.specs.model import Spec
    from specdistill.specs.suggest import SuggestionRequest


@dataclass(frozen=True)
class Suggested:
    """What came back.

    Attributes:
        rows: prompt-set rows: prompt, category, outcome_hint, suggested_for.
        asked: clauses asked for.
        faults: why replies gave nothing, with their number.
    """

    rows: list[dict[str, str | None]]
    asked: int
    faults: dict[str, int]


def suggest(run: Path, spec: Spec, uncovered: Sequence[str], n: int) -> Suggested:
    """Ask the generator of a run's recipe for `n` prompts for each uncovered clause.

    Raises:
        EngineError: the engine cannot be started, or not one reply had a usable prompt.
    """
    from specdistill.builders.engines.factory import make_engine
    from specdistill.builders.run import open_run
    from specdistill.builders.stored import read_rows
    from specdistill.specs.suggest import suggest_messages

    layout, recipe = open_run(run)
    seen = [turns[-1]["content"] for turns in read_rows(layout, recipe).prompts["prompt"].to_list()]
    requests = suggest_messages(spec, uncovered, n)
    if not requests:
        return Suggested([], 0, {})
    engine = make_engine(recipe.generator)
    engine.load()
    try:
        replies = asyncio.run(_ask(engine, requests))
    finally:
        engine.unload()
    found = _read(requests, replies, seen)
    if not found.rows:
        reasons = ", ".join(f"{reason} ({number})" for reason, number in found.faults.items())
        raise EngineError(
            f"None of {len(requests)} replies of '{recipe.generator.model}' had a usable prompt: {reasons}.",
            "Raise generator.max_tokens where they were truncated, take a larger model, or write prompts by hand.",
        )
    return found


async def _ask(engine: Engine, requests: Sequence[SuggestionRequest]) -> list[Completion]:
    """One completion for each request."""
    from specdistill.builders.engines.exchange import Request

    async def one(request: SuggestionRequest) -> Completion:
        # A schema would forbid a native reasoner to think first; its JSON is found in the text.
        schema = None if engine.reasoning == "native" else request.schema
        (completion, *_) = await engine.complete(Request(list(request.messages), 1, schema))
        return completion

    return list(await asyncio.gather(*(one(request) for request in requests)))


def _read(requests: Sequence[SuggestionRequest], replies: Sequence[Completion], seen: Sequence[str]) -> Suggested:
    """The usable prompts of all replies, and why the others gave none."""
    from specdistill.builders.engines.exchange import THINK_CLOSE
    from specdistill.schemas.vocabulary import FinishReason
    from specdistill.specs.suggest import SuggestionParse, parse_suggestions

    rows: list[dict[str, str | None]] = []
    faults: Counter[str] = Counter()
    for request, reply in zip(requests, replies, strict=True):
        if reply.error:
            faults["call_failed"] += 1
            continue
        if reply.finish_reason is FinishReason.LENGTH:
            faults["truncated"] += 1
            continue
        text = reply.text.rpartition(THINK_CLOSE)[2]
        found = parse_suggestions(text, request, [*seen, *(row["prompt"] or "" for row in rows)])
        rows += found.rows
        if found.parse is not SuggestionParse.OK:
            faults[found.parse] += 1
    return Suggested(rows, len(requests), dict(faults))


def write_suggestions(found: Suggested, path: Path) -> None:
    """Write the rows as JSONL, as a prompt source reads it."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found.rows)
    try:
        path.write_text(lines, encoding="utf-8")
    except OSError as exc:
        cause = f"The prompts cannot be written to {path}: {exc.strerror or exc}."
        raise DiskError(cause, "Free some space or name another file with --to.") from exc
