"""A small run, a small model and an experiment over both, so that every path of an evaluation runs in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import run_fixture
from tiny_model import tiny_model

from specdistill.schemas.layout import RunLayout


def small_run(folder: Path, **changes: Any) -> RunLayout:
    """The templated workshop run with a fifth held out."""
    return run_fixture.write_run(folder, prompts=60, recipe=run_fixture.recipe(split={"test": 0.2}, **changes))


def corpus(layout: RunLayout) -> list[str]:
    """Texts a tokenizer is trained on."""
    import polars as pl

    rows = pl.concat([pl.read_parquet(path) for path in layout.candidates.glob("*.parquet")])
    texts = rows["reasoning"].drop_nulls().to_list() + rows["answer"].drop_nulls().to_list()
    return texts[:200]


def small_model(folder: Path, layout: RunLayout) -> str:
    """A model of 0.4 million weights."""
    return str(tiny_model(folder, corpus(layout)))


def settings(layout: RunLayout, model: str, **changes: Any) -> dict[str, Any]:
    """A whole experiment of a few seconds a cell."""
    quick = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "bf16": False}
    asked: dict[str, Any] = {
        "run": str(layout.root),
        "model": model,
        "arms": ["base", "sft_unfiltered", "sft_filtered"],
        "train": {"sft": quick, "dpo": quick},
        "engine": {
            "engine": "transformers",
            "model": "-",
            "temperature": 0.0,
            "max_tokens": 12,
            "options": {"dtype": "float32"},
        },
        "evaluate": {"limit": 6, "variants": ["rot13"], "variant_limit": 3, "resamples": 100},
    }
    return asked | changes
