"""Numbers about texts: leaks, lengths, pairs, and which clauses the reasonings cite."""

from __future__ import annotations

from typing import Any

import polars as pl

from specdistill.cards.judge_numbers import Whole
from specdistill.cards.statistics import quartiles, read, wilson
from specdistill.schemas.citations import cited_series
from specdistill.schemas.leak import leak_series
from specdistill.schemas.vocabulary import Arm

LATER = {"chosen_arm": pl.String, "pairwise": pl.Float64}
"""Columns of pairs since 1.3.0."""
BATCH = 2_000
"""Rows whose texts are looked at together."""


def leaks(whole: Whole, clauses: pl.DataFrame) -> dict[str, Any]:
    """Answers of training targets that show the policy behind them (should be none), and the screen's catch."""
    if "sft" not in whole:
        return {"answers": 0, "leaking": 0}
    anchors = frozenset(clauses["anchor"].to_list())
    texts = whole["sft"].select(
        pl.col("completion").list.last().struct.field("content").alias("answer"),
        pl.col("prompt").list.last().struct.field("content").alias("asked"),
    )
    answers = leaking = 0
    for part in texts.collect_batches(chunk_size=BATCH):
        answers += part.height
        leaking += int(leak_series(part["answer"], anchors, part["asked"]).is_not_null().sum())
    return {"answers": answers, "leaking": leaking, **wilson(leaking, answers)}


def pairs(whole: Whole) -> dict[str, Any]:
    """Preference pairs: margins, noise, and how often the longer answer was chosen."""
    if "preference" not in whole:
        return {"pairs": 0}
    there = whole["preference"].collect_schema()
    missing = (pl.lit(None, kind).alias(name) for name, kind in LATER.items() if name not in there)
    lazy = (
        whole["preference"]
        .with_columns(*missing)
        .select(
            *LATER,
            "margin",
            "noise",
            "rejected_arm",
            *(
                pl.col(side).list.last().struct.field("content").str.len_chars().alias(f"{side}_chars")
                for side in ("chosen", "rejected")
            ),
        )
    )
    if not (frame := read(lazy)).height:
        return {"pairs": 0}
    longer = int((frame["chosen_chars"] > frame["rejected_chars"]).sum())
    known = frame.filter((pl.col("chosen_chars") > 0) & (pl.col("rejected_chars") > 0))
    return {
        "pairs": frame.height,
        "margin": quartiles(frame["margin"]),
        "noise": quartiles(frame["noise"]),
        "from_contrast": int((frame["rejected_arm"] == Arm.CONTRAST).sum()),
        "chosen_longer": wilson(longer, frame.height),
        "length_ratio": quartiles(known["chosen_chars"] / known["rejected_chars"]),
        "constitutional": int((frame["chosen_arm"] == Arm.CONSTITUTION).sum()),
        "pairwise": quartiles(frame["pairwise"].drop_nulls()),
    }


def lengths(whole: Whole) -> dict[str, Any]:
    """Characters of prompts, reasonings and answers of accepted rows, and turns of a conversation."""
    if "sft" not in whole:
        return {}
    turn = pl.col("completion").list.last().struct
    lazy = whole["sft"].select(
        pl.col("prompt").list.eval(pl.element().struct.field("content").str.len_chars()).list.sum().alias("prompt"),
        turn.field("reasoning_content").str.len_chars().alias("reasoning"),
        turn.field("content").str.len_chars().alias("answer"),
        pl.col("prompt").list.len().alias("turns"),
    )
    measured = read(lazy)
    multi = int((measured["turns"] > 1).sum())
    return {name: quartiles(measured[name]) for name in ("prompt", "reasoning", "answer")} | {
        "multi_turn": wilson(multi, measured.height)
    }


def clause_use(whole: Whole, clauses: pl.DataFrame) -> list[dict[str, Any]]:
    """How many accepted reasonings cite each clause, in the spec's order; zero where none does."""
    anchors = clauses.select("anchor", "category", "outcome", "title")
    if "sft" not in whole:
        return anchors.with_columns(pl.lit(0).alias("rows")).to_dicts()
    known = frozenset(clauses["anchor"].to_list())
    reasonings = whole["sft"].select(pl.col("completion").list.last().struct.field("reasoning_content"))
    parts = [
        cited_series(part.to_series(), known).explode("known").drop_nulls("known").group_by("known").len("rows")
        for part in reasonings.collect_batches(chunk_size=BATCH)
    ]
    parts.append(pl.DataFrame(schema={"known": pl.String, "rows": pl.get_index_type()}))
    counted = pl.concat(parts).group_by(pl.col("known").alias("anchor")).agg(pl.col("rows").sum())
    table = anchors.join(counted, on="anchor", how="left", maintain_order="left")
    return table.with_columns(pl.col("rows").fill_null(0)).to_dicts()
