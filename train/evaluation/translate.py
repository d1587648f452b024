"""Prompts in another language, by an engine. Not deterministic across engines, so the translations are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from specdistill.builders.engines.exchange import Completion, Request
from specdistill.builders.parts import parquet_bytes
from specdistill.errors import EngineError, UsageError
from specdistill.schemas.digest import digest
from specdistill.schemas.evaluation import ITEMS
from specdistill.schemas.files import write_whole
from specdistill.schemas.text import storable

if TYPE_CHECKING:
    from specdistill.builders.engines.base import Engine
    from specdistill.train.evaluation.evaluate import Asked, Engines, Note

_ASK = "Translate the text below into {language}. Write the translation only, nothing else.\n\n{text}"


def translation_messages(text: str, language: str) -> list[dict[str, str]]:
    """The messages that ask for one translation."""
    return [{"role": "user", "content": _ASK.format(language=language, text=text)}]


def translated(
    items: pl.DataFrame, variants: Sequence[str], asked: Asked, engines: Engines, folder: Path, note: Note
) -> pl.DataFrame:
    """The items with translations of the plain ones.

    A text is translated once, whatever suites and limits it is asked in later; all else of an item is today's.

    Args:
        variants: `translation:LANGUAGE`.
        asked: the grader translates; without one the model under test would translate its own questions.

    Raises:
        UsageError: no grader is named.
        EngineError: every translation failed.
    """
    if asked.grader is None:
        raise UsageError("Translations need an engine beside the model under test.", "Name one with --grader FILE.")
    store = folder / "translations.parquet"
    kept = pl.read_parquet(store) if store.is_file() else ITEMS.empty()
    chosen = items.filter(pl.col("variant") == "plain")
    if asked.variant_limit is not None:
        chosen = chosen.sort("prompt_id").head(asked.variant_limit)
    made, wanted = [kept], list(dict.fromkeys(variants))
    for variant in wanted:
        language = variant.partition(":")[2]
        if not language:
            raise UsageError("A translation needs a language.", "Write translation:French, for example.")
        have = kept.filter(pl.col("variant") == variant)["prompt_id"].to_list()
        once = chosen.unique("prompt_id", keep="first", maintain_order=True)
        missing = once.filter(~pl.col("prompt_id").is_in(have)).to_dicts()
        if not missing:
            continue
        note(variant, 0, len(missing))
        engine = engines.get(asked.grader)
        found = asyncio.run(_translate(engine, [row["prompt"][-1]["content"] for row in missing], language))
        rows = [_row(row, one.text, variant) for row, one in zip(missing, found, strict=True) if one.error is None]
        if not rows:
            raise EngineError(f"No translation into {language} succeeded: {found[0].error}", "Mend the grader.")
        made.append(ITEMS.frame(rows))
    whole = pl.concat(made)
    write_whole(store, parquet_bytes(whole))
    texts = {(row["variant"], row["prompt_id"]): row["prompt"][-1]["content"] for row in whole.iter_rows(named=True)}
    translations = [
        _row(row, texts[variant, row["prompt_id"]], variant)
        for variant in wanted
        for row in chosen.iter_rows(named=True)
        if (variant, row["prompt_id"]) in texts
    ]
    return pl.concat([items, ITEMS.frame(translations)]).sort("category", maintain_order=True)


def _row(row: dict[str, Any], text: str, variant: str) -> dict[str, Any]:
    prompt = [*row["prompt"][:-1], {"role": "user", "content": storable(text.strip())}]
    return row | {
        "item_id": digest("item", row["prompt_id"], row["suite"], variant, prompt),
        "variant": variant,
        "family": "translation",
        "prompt": prompt,
    }


async def _translate(engine: Engine, texts: Sequence[str], language: str) -> list[Completion]:
    found = await asyncio.gather(*(engine.complete(Request(translation_messages(text, language))) for text in texts))
    return [samples[0] for samples in found]
