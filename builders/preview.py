"""A few whole exchanges without a run: the exact messages, what came back, and how it was read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from specdistill.builders.build import Observer, prepare
from specdistill.builders.engines.base import Engine, Request
from specdistill.builders.engines.factory import EnginePool, Host, engines_of
from specdistill.builders.engines.foreign_code import foreign_code
from specdistill.builders.parts import read_parts
from specdistill.builders.pipelines import PROMPT_COLUMNS, generate_task, judge_task
from specdistill.builders.tasks import SampledTask
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.rows import PROMPTS
from specdistill.schemas.vocabulary import Arm

SHOWN = ("parse", "reasoning", "answer", "status", "abstain_reason", "compliance", "helpfulness", "correctness")


def preview(
    recipe: Recipe, base: Path, count: int, *, trust_remote_code: bool = False, host: Host | None = None
) -> list[dict[str, Any]]:
    """Generate and judge one sample for the first prompts, categories in turn. Nothing is kept on disk.

    Returns:
        For each prompt: prompt_id, category, calls; each call has step, messages, schema, text, error, read.

    Raises:
        EngineError: an engine cannot be used.
        RecipeError: the recipe asks for foreign code, and `trust_remote_code` is not given.
    """
    trust = foreign_code(trust_remote_code, *engines_of(recipe))
    with trust, TemporaryDirectory() as scratch, EnginePool(host=host) as pool:
        layout = RunLayout(Path(scratch))
        prepare(recipe, layout, base, Observer())
        prompts = read_parts(layout.prompts, PROMPTS)
        turns = prompts.with_columns(pl.col("prompt_id").cum_count().over("category").alias("turn"))
        rows = turns.sort("turn", "category").head(count).select(PROMPT_COLUMNS).to_dicts()
        engines = pool.engine(recipe.generator), pool.engine(recipe.judge)
        return asyncio.run(exchanges(recipe, layout, engines, rows))


async def exchanges(
    recipe: Recipe, layout: RunLayout, engines: tuple[Engine, Engine], rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """All exchanges: every generation first, then every judgment, so that two models need not be loaded at once."""
    generate = generate_task(recipe, layout, engines[0], Arm.SPEC)
    judge = judge_task(recipe, layout, engines[1], "judge")
    await asyncio.to_thread(engines[0].load)
    generated = await asyncio.gather(*(exchange(generate, row) for row in rows))
    engines[0].unload()
    found = []
    await asyncio.to_thread(engines[1].load)
    for row, (call, candidate) in zip(rows, generated, strict=True):
        calls = [call]
        if candidate["answer"]:
            calls.append((await exchange(judge, candidate))[0])
        found.append({"prompt_id": row["prompt_id"], "category": row["category"], "calls": calls})
    engines[1].unload()
    return found


async def exchange(task: SampledTask, row: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """One call of a task, as shown, and the row it gave."""
    given = task.format_input(row)
    messages, structured = given if isinstance(given, tuple) else (given, None)
    schema = (structured or {}).get("schema")
    completion = (await task.llm.complete(Request(messages, 1, schema)))[0]  # type: ignore[attr-defined]
    result = task.rows(row, {0: completion})[0]
    shown = {
        "step": task.name,
        "messages": messages,
        "schema": schema,
        "text": completion.canonical(),
        "error": completion.error,
        "read": {name: result[name] for name in SHOWN if result.get(name) is not None},
    }
    return shown, result
