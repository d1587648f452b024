"""Rows for TRL's on-policy self-distillation: the prompt for the student, the spec as what only the teacher sees.

Context distillation's on-policy cousin: the student samples without the spec, and the same model with the spec in
view says how likely each of its tokens is (`trl.experimental.sdft.SDFTTrainer`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from specdistill.builders.asking import generation_messages
from specdistill.errors import TrainError
from specdistill.schemas.rows import MESSAGES
from specdistill.train.data import open_set
from specdistill.train.specfacts import spec_text

SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "prompt": MESSAGES,
    "privileged_context": pl.String,
    "category": pl.String,
}
"""Columns of the export; SDFTTrainer reads `prompt` and `privileged_context`."""


def distill_frame(dataset: str, split: str = "train") -> pl.DataFrame:
    """Every prompt of a split with spec(category) and how to reason over it as its privileged context.

    Args:
        dataset: a folder or org/name@revision.

    Returns:
        Columns of SCHEMA. The prompt is the published one, without a word of the spec.

    Raises:
        TrainError: a category has no rendered spec in the set.
    """
    published = open_set(dataset)
    rows, spec = published.load("prompts", split), spec_text(published)
    missing = sorted(set(rows["category"]) - set(spec.rendered))
    if missing:
        raise TrainError(
            f"The set has no rendered spec for the categories {missing}.",
            "Publish the run again; spec/rendered/CATEGORY.md belongs to a published set.",
        )
    contexts = {
        category: generation_messages(
            [{"role": "user", "content": ""}], spec_text=text, example_anchor=_example(text, spec.anchors)
        )[0]["content"]
        for category, text in spec.rendered.items()
    }
    return pl.DataFrame(
        [
            {
                "id": row["id"],
                "prompt": row["prompt"],
                "privileged_context": contexts[row["category"]],
                "category": row["category"],
            }
            for row in rows
        ],
        schema=SCHEMA,
    )


def export(dataset: str, split: str, target: Path) -> int:
    """Write `distill_frame` as Parquet.

    Returns:
        Rows written.
    """
    frame = distill_frame(dataset, split)
    target.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(target)
    return frame.height


def _example(text: str, anchors: frozenset[str]) -> str:
    """An anchor that stands in the text, to show the citation form."""
    return min((anchor for anchor in anchors if anchor in text), key=text.index, default="S1")
