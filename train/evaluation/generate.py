"""The model's answers: one engine, items in, rows out, in parts, so that a stopped evaluation goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from specdistill.builders.asking import generation_messages
from specdistill.builders.engines.exchange import Completion, Request
from specdistill.builders.parts import read_parts, write_part
from specdistill.builders.reading import guided_schema, read_reasoned
from specdistill.errors import TrainError
from specdistill.schemas.digest import digest
from specdistill.schemas.evaluation import ANSWERS
from specdistill.schemas.recipe import Engine as EngineConfig
from specdistill.schemas.text import storable
from specdistill.schemas.vocabulary import FinishReason
from specdistill.train.evaluation.identity import sampling_of

if TYPE_CHECKING:
    from specdistill.builders.engines.base import Engine

CHUNK = 64
"""Items answered before their rows are written: what a kill costs at most."""
GUIDED_CHARS = 2000


def answer_items(
    engine: Callable[[], Engine],
    config: EngineConfig,
    items: pl.DataFrame,
    *,
    key: str,
    with_spec: bool,
    rendered: Mapping[str, str],
    anchors: Mapping[str, str],
    samples: int,
    folder: Path,
    note: Callable[[int, int], None] = lambda done, total: None,
) -> pl.DataFrame:
    """Answers to all items, those already in `folder` included.

    Args:
        engine: gives the loaded engine; asked only when an answer is missing.
        config: how it samples and how reasoning is asked for.
        key: what identifies the model.
        with_spec: put spec(category) in context.
        rendered: category to the text of spec(category).
        anchors: category to an anchor of it, to show the citation form.
        folder: where parts of answers lie.
        note: told how many of how many are done.

    Returns:
        Rows of the answers table for these items, in their order.

    Raises:
        TrainError: with_spec, and a category without a rendered spec.
        EngineUnreachable, EngineError: as the engine raises them.
    """
    if with_spec:  # neighbours with one spec(category) share its computation
        items = items.sort("category", maintain_order=True)
    wanted = {}
    for row in items.iter_rows(named=True):
        shown = messages_for(row, config, with_spec, rendered, anchors) if with_spec else None
        for index, one in enumerate(answer_ids(row["item_id"], key, config, shown, samples)):
            wanted[one] = (row, index)
    stored = read_parts(folder, ANSWERS).filter(pl.col("error").is_null())
    done = set(stored["answer_id"].to_list())
    pending = [key for key in wanted if key not in done]
    total = len(wanted)
    mode = config.reasoning if with_spec else "native"  # a bare conversation asks for no form
    for start in range(0, len(pending), CHUNK):
        note(total - len(pending) + start, total)
        chunk = pending[start : start + CHUNK]
        asked = [
            Request(
                messages_for(wanted[key][0], config, with_spec, rendered, anchors),
                1,
                guided_schema(GUIDED_CHARS, GUIDED_CHARS) if mode == "guided" else None,
                seed=wanted[key][1],
            )
            for key in chunk
        ]
        found = asyncio.run(_complete(engine(), asked))
        rows = [answer_row(key, *wanted[key], one, mode, with_spec) for key, one in zip(chunk, found, strict=True)]
        write_part(folder, ANSWERS.frame(rows))
    note(total, total)
    stored = read_parts(folder, ANSWERS)
    order = pl.DataFrame({"answer_id": list(wanted)}, schema={"answer_id": pl.String})
    return order.join(stored, on="answer_id", how="inner", maintain_order="left").select(ANSWERS.names)


def answer_ids(
    item: str, key: str, config: EngineConfig, shown: Sequence[Mapping[str, str]] | None, samples: int
) -> list[str]:
    """Keys of an item's answers: everything that decides them.

    Args:
        item: the item's id, which holds its conversation.
        key: what identifies the model.
        shown: the messages with the spec in context; None where the bare conversation is sent.
    """
    how = sampling_of(config)
    sampling = [how[name] for name in ("temperature", "top_p", "max_tokens", "seed", "reasoning")]
    kwargs = how["options"].pop("chat_template_kwargs", None)
    # What older results did not have in their keys is added only where there is any: their other answers still serve.
    more = [digest("shown", shown)] if shown is not None else []
    more += [digest("options", how["options"])] if how["options"] else []
    return [digest("answer", item, key, sampling, kwargs, shown is not None, at, *more) for at in range(samples)]


def messages_for(
    row: Mapping[str, Any],
    config: EngineConfig,
    with_spec: bool,
    rendered: Mapping[str, str],
    anchors: Mapping[str, str],
) -> list[dict[str, str]]:
    """What is sent: the bare conversation, or with spec(category) as the generator of the data was shown it.

    Raises:
        TrainError: the spec of the item's category is wanted and not there.
    """
    if not with_spec:
        return [{"role": turn["role"], "content": turn["content"]} for turn in row["prompt"]]
    category = row["category"]
    if category not in rendered:
        raise TrainError(
            f"Suite '{row['suite']}' has a prompt of category '{category}', for which the set has no rendered spec.",
            "Leave --with-spec out for suites without categories, or add a category column.",
        )
    return generation_messages(
        row["prompt"],
        spec_text=rendered[category],
        example_anchor=anchors.get(category, ""),
        reasoning=config.reasoning,
    )


async def _complete(engine: Engine, asked: Sequence[Request]) -> list[Completion]:
    found = await asyncio.gather(*(engine.complete(request) for request in asked))
    missing = Completion("", None, FinishReason.ERROR, None, None, error="the engine sent no sample")
    return [samples[0] if samples else missing for samples in found]


def answer_row(
    key: str, row: Mapping[str, Any], index: int, one: Completion, mode: Any, with_spec: bool
) -> dict[str, Any]:
    """One completion as a row; a thought that was cut is kept as reasoning, since what it cites was said."""
    text = storable(one.canonical())
    reading = read_reasoned(text, mode, one.finish_reason)
    reasoning = reading.reasoning or (cut_thought(text) if reading.answer is None else None)
    return {
        "answer_id": key,
        **{name: row[name] for name in ("item_id", "prompt_id", "suite", "variant")},
        "with_spec": with_spec,
        "sample_index": index,
        "parse": str(reading.parse),
        "reasoning": storable(reasoning) if reasoning else None,
        "answer": storable(reading.answer) if reading.answer else None,
        "raw": text,
        "finish_reason": str(one.finish_reason),
        "error": one.error,
        "prompt_tokens": one.prompt_tokens,
        "completion_tokens": one.completion_tokens,
    }


def cut_thought(text: str) -> str | None:
    """The thought of a text that could not be read: what follows its opening tag, up to a closing one."""
    for opener, closer in (("<think>", "</think>"), ("<reasoning>", "</reasoning>")):
        _, found, rest = text.partition(opener)
        if found:
            return rest.partition(closer)[0].strip() or None
    return None
