"""Published rows to trainer rows: the columns one trainer needs, in the tokenizer's own convention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from specdistill.train.template import Convention, as_text, assistant_turn

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

CONFIG_OF = {"sft": "sft", "dpo": "preference", "reward": "preference", "kto": "kto", "grpo": "prompts"}
"""Trainer to the published config it takes."""

COMPLETIONS = {"sft": ("completion",), "dpo": ("chosen", "rejected"), "kto": ("completion",), "grpo": ()}
COMPLETIONS["reward"] = COMPLETIONS["dpo"]
"""Trainer to the columns that hold assistant turns."""

_KEPT = {
    "sft": {},
    "dpo": {},
    "reward": {"margin": "float64"},
    "kto": {"label": "bool"},
    "grpo": {"category": "string", "outcome_hint": "string"},
}
"""Trainer to the further columns it (or its reward) reads, with their types."""


def training_rows(
    method: str,
    published: datasets.Dataset,
    tokenizer: PreTrainedTokenizerBase,
    convention: Convention,
) -> datasets.Dataset:
    """Rows as the trainer takes them; `id` is kept so that what became of a row can be looked up.

    Message lists are stored as JSON, since Arrow would give every message every key, and templates ask whether a key
    exists (gpt-oss-like ones fail on a null thought).

    Args:
        published: rows of the config `CONFIG_OF[method]`.

    Raises:
        TrainError: a row that the convention cannot express.
    """
    import datasets as hf

    turns = COMPLETIONS[method]
    as_strings = convention.name == "text" and method != "grpo"
    messages = hf.Value("string") if as_strings else hf.List(hf.Json())
    features: dict[str, Any] = {
        "id": hf.Value("string"),
        "prompt": messages,
        **dict.fromkeys(turns, messages),
    }
    features |= {name: hf.Value(kind) for name, kind in _KEPT[method].items()}
    if convention.kwargs and not as_strings and method != "grpo":
        features["chat_template_kwargs"] = hf.Json()

    def convert(row: Mapping[str, Any]) -> dict[str, Any]:
        prompt = [{"role": turn["role"], "content": turn["content"]} for turn in row["prompt"]]
        out: dict[str, Any] = {"id": row["id"], **{name: row[name] for name in _KEPT[method]}}
        out["prompt"] = prompt
        for name in turns:
            reasoning, answer = reasoning_and_answer(row[name])
            if as_strings:
                out["prompt"], out[name] = as_text(tokenizer, convention, prompt, reasoning, answer)
            else:
                out[name] = [assistant_turn(convention.name, reasoning, answer)]
        if "chat_template_kwargs" in features:
            out["chat_template_kwargs"] = convention.kwargs
        return out

    return published.map(
        convert, remove_columns=published.column_names, features=hf.Features(features), desc="Rendering rows"
    )


def reasoning_and_answer(completion: list[Mapping[str, Any]]) -> tuple[str | None, str]:
    """The two halves of a published assistant turn."""
    turn = completion[-1]
    return turn.get("reasoning_content") or None, turn["content"]
