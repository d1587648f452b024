"""The published sets from decided candidates: one function a config."""

from __future__ import annotations

import polars as pl

from specdistill.builders.heuristics import heuristic_frame
from specdistill.builders.pairs import TARGETS, with_messages
from specdistill.schemas.configs import TABLES
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.vocabulary import CRITERIA, RejectReason


def assistant(answer: str = "answer", reasoning: str = "reasoning") -> pl.Expr:
    """One assistant message: answer in `content`, reasoning in `reasoning_content`."""
    message = pl.struct(
        pl.lit("assistant").alias("role"),
        pl.col(answer).alias("content"),
        pl.col(reasoning).alias("reasoning_content"),
    )
    return pl.concat_list(message)


def finish(config: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The config's columns, in order, with its version, sorted by prompt and id, validated."""
    table = TABLES[config]
    frame = frame.with_columns(pl.lit(table.version).alias("schema_version"))
    order = ["prompt_id", "id"] if "prompt_id" in table.names else ["id"]
    return table.validate(frame.select(table.names).cast(table.schema).sort(order))


def with_verdict(decided: pl.DataFrame) -> pl.DataFrame:
    """The candidates that a judge scored and no person refused."""
    refused = (pl.col("reason") == RejectReason.REJECTED_BY_AUDIT).fill_null(False)
    return decided.filter(pl.col("score").is_not_null() & pl.col("answer_chars").is_not_null() & ~refused)


def with_context(decided: pl.DataFrame, prompts: pl.DataFrame, clauses: pl.DataFrame) -> pl.DataFrame:
    """Decided candidates with their `id`, prompt, expected outcome, and digests of the clauses they cite."""
    return decided.join(
        prompts.select("prompt_id", "prompt", "outcome_hint"), on="prompt_id", how="inner", maintain_order="left"
    ).with_columns(pl.col("candidate_id").alias("id"), cited_digests(clauses))


def make_sets(
    prompts: pl.DataFrame,
    decided: pl.DataFrame,
    judgments: pl.DataFrame,
    clauses: pl.DataFrame,
    pairs: pl.DataFrame,
    recipe: Recipe,
) -> dict[str, pl.DataFrame]:
    """Every published config, not yet split. What people rejected is in `rejected` and nowhere else.

    Args:
        decided: from `selection.decide_all`.
        clauses: the clause table of the spec.
        pairs: from `selection.pairs_of`.
    """
    rows = with_context(decided, prompts, clauses)
    judged = with_verdict(rows)
    whole = judged.filter("complete")  # a score of some samples is no target for a reward model
    return {
        "sft": finish("sft", rows.filter(pl.col("reason").is_null()).with_columns(assistant().alias("completion"))),
        "preference": finish("preference", with_messages(pairs, judged)),
        "kto": finish("kto", kto(judged)),
        "reward": finish(
            "reward",
            whole.join(heuristic_frame(whole, recipe.heuristic.sections), on="candidate_id", how="left").with_columns(
                assistant().alias("completion"), pl.col("passes").alias("label"), *map(pl.col, CRITERIA)
            ),
        ),
        "prompts": finish("prompts", prompts.with_columns(pl.col("prompt_id").alias("id"))),
        "rejected": finish("rejected", rows.filter(pl.col("reason").is_not_null())),
        "judgments": finish("judgments", judgments.with_columns(pl.col("judgment_id").alias("id"))),
    }


def cited_digests(clauses: pl.DataFrame) -> pl.Expr:
    """`clause_digests`: the digest of each clause in `clauses`, in the same order."""
    known = dict(clauses.select("anchor", "digest").iter_rows())
    digests = pl.element().replace_strict(known, default=None, return_dtype=pl.String)
    return pl.col("clauses").list.eval(digests).alias("clause_digests")


def kto(judged: pl.DataFrame) -> pl.DataFrame:
    """Labelled single completions. Arms that are no training targets give negatives only."""
    return judged.filter(pl.col("arm").is_in(TARGETS) | ~pl.col("passes")).with_columns(
        assistant().alias("completion"), pl.col("passes").alias("label")
    )
