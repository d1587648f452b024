"""What is compared: each arm is a way to train on the same run, its rows derived by selection, without a model call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from specdistill.builders.audit.pull import read_table
from specdistill.builders.audit.verdicts import People, verdicts
from specdistill.builders.compare_stage import stored_comparisons
from specdistill.builders.run import open_run
from specdistill.builders.selection import Sets, select, split_sets
from specdistill.builders.sets import assistant
from specdistill.builders.splits import split_of
from specdistill.builders.stored import Rows, read_rows
from specdistill.errors import RunError, UsageError
from specdistill.schemas.audit import RESPONSES
from specdistill.schemas.citations import cited_series
from specdistill.schemas.configs import SFT
from specdistill.schemas.digest import digest
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.vocabulary import Arm as Sampled
from specdistill.schemas.vocabulary import ParseOutcome


@dataclass(frozen=True)
class ArmKind:
    """One way of using a run.

    Attributes:
        method: trainer; None for no training.
        note: what it is, for tables.
        start: the arm whose model it starts from; None for the base model.
        with_spec: asked with spec(category) in context.
    """

    name: str
    method: str | None
    note: str
    start: str | None = None
    with_spec: bool = False


_KINDS = (
    ArmKind("base", None, "the base model"),
    ArmKind("base_spec", None, "the base model with spec(category) in the system prompt", with_spec=True),
    ArmKind("sft_unfiltered", "sft", "SFT on every readable candidate: plain context distillation"),
    ArmKind("sft_filtered", "sft", "SFT on accepted candidates"),
    ArmKind("sft_no_reasoning", "sft", "SFT on accepted candidates, answers only"),
    ArmKind("dpo", "dpo", "DPO on the preference pairs, from sft_filtered", start="sft_filtered"),
    ArmKind("constitutional", "dpo", "DPO on constitutional pairs, from sft_filtered", start="sft_filtered"),
    ArmKind("sft_grpo", "grpo", "GRPO with the judge as reward, from sft_filtered", start="sft_filtered"),
)
ARMS = {kind.name: kind for kind in _KINDS}
"""Name to arm."""
CONSTITUTION = "constitution"
"""Arm of candidates made by critique and revision (arXiv 2212.08073); one on either side makes such a pair."""


@dataclass(frozen=True)
class Material:
    """A run as the arms use it.

    Attributes:
        layout: where it lies.
        recipe: of the run.
        rows: as stored.
        sets: what selection derives from them.
    """

    layout: RunLayout
    recipe: Recipe
    rows: Rows
    sets: Sets


def open_material(run: Path) -> Material:
    """Read a run and derive its sets.

    Raises:
        RunError: no run, or nothing was accepted, or nothing is held out.
    """
    layout, recipe = open_run(run)
    rows = read_rows(layout, recipe)
    answers = read_table(layout, RESPONSES)
    people = People() if answers.is_empty() else People.of(verdicts(answers, recipe.audit))
    comparisons = stored_comparisons(layout, recipe)
    sets = select(rows.prompts, rows.candidates, rows.judgments, rows.clauses, recipe, people, comparisons)
    if sets["sft"]["train"].is_empty():
        raise RunError("Nothing of this run is accepted.", "Lower judge.threshold, or build more.", file=run)
    if "test" not in sets["prompts"]:
        raise RunError(
            "This run holds nothing out.",
            "Select with --set split.test=0.1: without a test split nothing can be evaluated.",
            file=run,
        )
    return Material(layout, recipe, rows, sets)


def arm_rows(material: Material, arm: str, *, fraction: float, seed: int, match_size: bool) -> dict[str, pl.DataFrame]:
    """The training rows of one arm, by config.

    Args:
        fraction: share of the training prompts, 0 to 1; smaller shares of one seed are parts of larger ones.
        match_size: unfiltered rows are drawn down to as many as were accepted, so that filtering alone differs.

    Raises:
        UsageError: an unknown arm, or the run has no rows for it.
    """
    kind = kind_of(arm)
    train = {config: splits["train"] for config, splits in material.sets.items()}
    if arm == "sft_unfiltered":
        found = unfiltered(material)
        if match_size and found.height > train["sft"].height:
            order = [digest("arm", seed, key) for key in found["id"].to_list()]
            found = found.with_columns(pl.Series("order", order)).sort("order").head(train["sft"].height).drop("order")
        config, rows = "sft", found.sort("id")
    elif arm == "sft_no_reasoning":
        config, rows = "sft", without_reasoning(train["sft"])
    elif arm == "constitutional":
        config, rows = "preference", train["preference"].filter(constitutional(train["preference"]))
    elif kind.method == "dpo":
        config = "preference"
        rows = train["preference"].filter(~constitutional(train["preference"]))
    else:
        config = "prompts" if kind.method == "grpo" else "sft"
        rows = train[config]
    rows = part_of(rows, fraction, seed)
    if rows.is_empty():
        raise UsageError(f"This run has no rows for arm '{arm}'.", "Leave the arm out, or build what it needs.")
    return {config: rows}


def constitutional(pairs: pl.DataFrame) -> pl.Expr:
    """Which preference pairs were made by critique and revision."""
    sides = [name for name in ("chosen_arm", "rejected_arm") if name in pairs.columns]
    return pl.any_horizontal((pl.col(name) == CONSTITUTION).fill_null(False) for name in sides)


def kind_of(arm: str) -> ArmKind:
    """An arm by name.

    Raises:
        UsageError: there is no such arm.
    """
    if arm not in ARMS:
        raise UsageError(f"There is no arm '{arm}'.", f"Known: {', '.join(ARMS)}.")
    return ARMS[arm]


def has_rows(material: Material, arm: str) -> bool:
    """Whether the run has anything for an arm."""
    try:
        return kind_of(arm).method is None or bool(arm_rows(material, arm, fraction=1, seed=0, match_size=False))
    except UsageError:
        return False


def unfiltered(material: Material) -> pl.DataFrame:
    """Every candidate of the training prompts that was sampled with the spec and could be read, as sft rows.

    Scores are null: an arm without a filter has not asked for any.
    """
    rows, recipe = material.rows, material.recipe
    found = rows.candidates.filter(
        (pl.col("arm") == Sampled.SPEC)
        & (pl.col("parse") == ParseOutcome.OK)
        & pl.col("answer").is_not_null()
        & pl.col("reasoning").is_not_null()
    ).join(rows.prompts.select("prompt_id", "prompt", "outcome_hint"), on="prompt_id", how="inner")
    anchors = rows.clauses["anchor"].to_list()
    made = found.with_columns(
        pl.col("candidate_id").alias("id"),
        assistant().alias("completion"),
        pl.lit(None, dtype=pl.Float64).alias("score"),
        pl.lit(SFT.version).alias("schema_version"),
        cited_series(found["reasoning"], anchors)["known"].alias("clauses"),
    )
    # What selection alone knows stays null: these rows are trained on, and never published.
    made = made.select(
        (pl.col(name) if name in made.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in SFT.schema.items()
    )
    return split_sets({"sft": made.sort("id")}, split_of(rows.prompts, recipe.split))["sft"]["train"]


def without_reasoning(sft: pl.DataFrame) -> pl.DataFrame:
    """The same rows, answers only."""
    turn = pl.col("completion").list.first()
    bare = pl.struct(
        turn.struct.field("role"),
        turn.struct.field("content"),
        pl.lit(None, dtype=pl.String).alias("reasoning_content"),
    )
    return sft.with_columns(pl.concat_list(bare).cast(SFT.schema["completion"]).alias("completion"))


def part_of(rows: pl.DataFrame, fraction: float, seed: int) -> pl.DataFrame:
    """The rows of a share of the prompts, by category: the first of each category's prompts in a seeded order."""
    if fraction >= 1:
        return rows
    key = "prompt_id" if "prompt_id" in rows.columns else "id"
    prompts = rows.select(pl.col(key).alias("prompt_id"), "category").unique("prompt_id").sort("prompt_id")
    order = [digest("fraction", seed, prompt) for prompt in prompts["prompt_id"].to_list()]
    place = pl.col("order").rank("ordinal").over("category")
    wanted = (pl.len().over("category") * fraction).ceil()
    kept = prompts.with_columns(pl.Series("order", order, dtype=pl.String)).filter(place <= wanted)
    return rows.filter(pl.col(key).is_in(kept["prompt_id"].to_list()))


def count_of(rows: Mapping[str, pl.DataFrame]) -> int:
    """Rows of an arm's set."""
    return sum(frame.height for frame in rows.values())
