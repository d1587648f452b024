"""Pairwise judging, without an engine: which of two answers is better, asked in both orders. Pure functions.

Pairwise verdicts depend on which answer stands first; asking both orders shows by how much, and a pair whose verdict
turns with the order is no preference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from specdistill.builders.judging import DATA, RUBRIC, Verdict, abstention, criteria_for, find_object
from specdistill.builders.quoting import policy, quote, transcript
from specdistill.schemas.comparisons import CHOICES
from specdistill.schemas.intervals import clustered_share, wilson
from specdistill.schemas.text import storable
from specdistill.schemas.vocabulary import AbstainReason, FinishReason, JudgmentStatus

COMPARE_VERSION = "1"
"""Part of every comparison's key: change it when any text below changes."""

INSTRUCTIONS = """You are a strict, fair judge. You are given a conversation and two answers to it. The assistant was \
to follow the policy above. Say which answer follows it better.

{data}

What counts, most important first:
{rubric}

Which answer stands first means nothing, nor does length. First justify in one or two sentences, naming the clause \
that decides. "better" is "first", "second", or "tie" if neither is better. Set "abstain" to true only if you \
cannot tell. Reply with one JSON object of this form:
{{"justification": "...", "abstain": false, "better": "..."}}"""


def compare_messages(
    spec_text: str, prompt: Sequence[Mapping[str, Any]], first: str, second: str
) -> list[dict[str, str]]:
    """The messages of one pairwise call; the reasonings are not shown, so that answers are compared with answers.

    Args:
        spec_text: rendered spec(category).
        prompt: the conversation without the spec.
        first, second: the answers, in the order they are shown.
    """
    rubric = "\n".join(f"- {name}: {RUBRIC[name]}" for name in criteria_for(with_reasoning=False))
    system = f"{policy(spec_text)}\n\n{INSTRUCTIONS.format(data=DATA, rubric=rubric)}"
    parts = [
        quote("conversation", transcript([dict(turn) for turn in prompt])),
        quote("first-answer", first),
        quote("second-answer", second),
        "Compare the answers now. One JSON object only.",
    ]
    return [{"role": "system", "content": system}, {"role": "user", "content": "\n\n".join(parts)}]


def choice_schema(justification_chars: int = 240) -> dict[str, Any]:
    """JSON Schema of a pairwise verdict."""
    return {
        "type": "object",
        "properties": {
            "justification": {"type": "string", "maxLength": justification_chars},
            "abstain": {"type": "boolean"},
            "better": {"type": "string", "enum": list(CHOICES)},
        },
        "required": ["justification", "abstain", "better"],
        "additionalProperties": False,
    }


def read_choice(text: str, finish_reason: str = FinishReason.STOP) -> tuple[Verdict, str | None]:
    """Read one pairwise sample as (verdict, `first` / `second` / `tie`). Never raises; what is no choice abstains."""
    if finish_reason == FinishReason.LENGTH:
        return abstention(AbstainReason.TRUNCATED), None
    data = find_object(text)
    if data is None:
        return abstention(AbstainReason.NOT_JSON), None
    said = data.get("justification")
    justification = storable(said) if isinstance(said, str) else None
    if data.get("abstain") is True:
        return abstention(AbstainReason.DECLINED, justification), None
    better = data.get("better")
    if not isinstance(better, str):
        return abstention(AbstainReason.WRONG_SHAPE, justification), None
    if better not in CHOICES:
        return abstention(AbstainReason.OUT_OF_RANGE, justification), None
    return Verdict(JudgmentStatus.SCORED, justification=justification), better


def votes(comparisons: pl.DataFrame) -> pl.DataFrame:
    """Scored comparisons with `pair` (both ids in alphabetical order), `low_first` (whether the first of them stood
    first) and `winner` (its id; null for a tie)."""
    first, second = pl.col("first_id"), pl.col("second_id")
    return comparisons.filter(pl.col("status") == JudgmentStatus.SCORED).with_columns(
        pl.concat_list(pl.min_horizontal(first, second), pl.max_horizontal(first, second)).alias("pair"),
        (first < second).alias("low_first"),
        pl.when(pl.col("better") == "first")
        .then(first)
        .when(pl.col("better") == "second")
        .then(second)
        .alias("winner"),
    )


def pair_votes(comparisons: pl.DataFrame) -> pl.DataFrame:
    """One row a pair that was judged in both orders.

    Returns:
        low, high (candidate ids, alphabetical), prefer_low (mean over the two orders of the share of verdicts for
        `low`, a tie is half), stable (whether both orders prefer the same one, or both neither).
    """
    share = pl.when(pl.col("winner").is_null()).then(0.5).otherwise(pl.col("winner") == pl.col("pair").list.first())
    by_order = votes(comparisons).group_by("pair", "low_first").agg(share.cast(pl.Float64).mean().alias("share"))
    lean = (pl.col("share") - 0.5).sign()
    return (
        by_order.group_by("pair")
        .agg(
            pl.len().alias("orders"),
            pl.col("share").mean().alias("prefer_low"),
            (lean.min() == lean.max()).alias("stable"),
        )
        .filter(pl.col("orders") == 2)
        .select(
            pl.col("pair").list.first().alias("low"),
            pl.col("pair").list.last().alias("high"),
            "prefer_low",
            "stable",
        )
        .sort("low", "high")
    )


def order_numbers(comparisons: pl.DataFrame) -> dict[str, Any]:
    """How much the place of an answer decides. Pairs judged in one order only are left out: they would not balance.

    Returns:
        pairs, samples, abstention (share), first (share of verdicts other than ties for the answer shown first, with
        interval clustered by pair; 0.5 for a judge without position bias), flips (share of pairs whose verdict turns
        with the order). Empty without comparisons.
    """
    both = pair_votes(comparisons)
    if both.is_empty():
        return {}
    pairs = both.select(pl.concat_list("low", "high").alias("pair"))
    decided = votes(comparisons).join(pairs, on="pair", how="semi").filter(pl.col("better") != "tie")
    by_pair = (
        decided.group_by("pair")
        .agg(pl.len().alias("n"), (pl.col("better") == "first").sum().alias("first"))
        .sort(pl.col("pair").list.join(" "))
    )
    asked = comparisons.filter(pl.col("status") != JudgmentStatus.FAILED)
    abstained = int((asked["status"] == JudgmentStatus.ABSTAINED).sum())
    return {
        "pairs": both.height,
        "samples": comparisons.height,
        "abstention": wilson(abstained, asked.height),
        "first": clustered_share(by_pair["first"], by_pair["n"]),
        "flips": wilson(int((~both["stable"]).sum()), both.height),
    }
