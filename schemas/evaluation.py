"""What an evaluation leaves on disk: the questions, the answers, what was measured, and the numbers.

A number is a row of `numbers`; it is the mean of the rows of `measures` with the same metric, suite, variant,
`with_spec` and group; each of those names the row of `answers` it was read off; that one names its row of `items`.
So every number can be followed down to a text. `result.json` is written last and pins every file by its digest.
"""

from __future__ import annotations

from typing import Any

import polars as pl
from pydantic import Field

from specdistill.schemas.manifest import FileEntry, Loose
from specdistill.schemas.rows import MESSAGES, OUTCOMES
from specdistill.schemas.table import Column, Table
from specdistill.schemas.vocabulary import CRITERIA, AbstainReason, FinishReason, JudgmentStatus, ParseOutcome

VERSION = "1.0.0"

FAMILIES = ("plain", "encoding", "wrapper", "multi_turn", "translation")
"""Kinds of variants; all but `plain` change a prompt's form and keep its intent."""

_ITEM = Column("item_id", pl.String, "Digest of prompt, suite and variant.")
_PROMPT_ID = Column("prompt_id", pl.String, "The prompt before any transform: what intervals are clustered by.")
_SUITE = Column("suite", pl.String, "Name of the suite the prompt belongs to.")
_VARIANT = Column("variant", pl.String, "`plain`, or the transform that was applied.")
_WITH_SPEC = Column("with_spec", pl.Boolean, "Whether spec(category) was in context.")
_CATEGORY = Column("category", pl.String, "Category of the spec, where the suite states one.", nullable=True)
_OUTCOME = Column("outcome_hint", pl.String, "Expected outcome, where the suite states one.", True, OUTCOMES)

ITEMS = Table(
    "eval_items",
    VERSION,
    "What a model is asked.",
    (
        _ITEM,
        _PROMPT_ID,
        _SUITE,
        _VARIANT,
        Column("family", pl.String, "Kind of the variant.", values=FAMILIES),
        Column("prompt", MESSAGES, "The conversation as asked; the last turn is the user's."),
        _CATEGORY,
        _OUTCOME,
        Column("twin_id", pl.String, "prompt_id of its twin (same surface, other intent).", nullable=True),
        Column("twin_outcome", pl.String, "Expected outcome of the twin.", True, OUTCOMES),
        Column("clauses", pl.List(pl.String), "Clauses an accepted reasoning on this prompt cites.", nullable=True),
        Column("source", pl.String, "Where it comes from."),
    ),
    key=("item_id",),
)

ANSWERS = Table(
    "eval_answers",
    VERSION,
    "What the model said; a failed call is a row with its reason.",
    (
        Column("answer_id", pl.String, "Digest of item, model, sampling, spec in context and sample index."),
        _ITEM,
        _PROMPT_ID,
        _SUITE,
        _VARIANT,
        _WITH_SPEC,
        Column("sample_index", pl.Int32, "0-based index among the samples of this item."),
        Column("parse", pl.String, "What reading the text gave.", values=tuple(ParseOutcome)),
        Column("reasoning", pl.String, "Chain of thought, also one that was cut.", nullable=True),
        Column("answer", pl.String, "What the user sees; null unless the text could be read.", nullable=True),
        Column("raw", pl.String, "The model's whole text.", nullable=True),
        Column("finish_reason", pl.String, "Why generation ended.", values=tuple(FinishReason)),
        Column("error", pl.String, "Why the call failed.", nullable=True),
        Column("prompt_tokens", pl.Int32, "Tokens of the request.", nullable=True),
        Column("completion_tokens", pl.Int32, "Tokens generated.", nullable=True),
    ),
    key=("answer_id",),
)

GRADES = Table(
    "eval_grades",
    VERSION,
    "What another model said about an answer, one sample a row, raw. An abstention has no numbers.",
    (
        Column("grade_id", pl.String, "Digest of answer, kind, grader and sample index."),
        Column("answer_id", pl.String, "The answer it is about."),
        Column(
            "kind",
            pl.String,
            "`judge`: the build's rubric, reasoning hidden; `outcome`: what the answer does and its style; "
            "`retrieval`: which category the reasoning's policy sentences come from.",
            values=("judge", "outcome", "retrieval"),
        ),
        Column("model", pl.String, "The grading model."),
        Column("sample_index", pl.Int32, "0-based index among its samples."),
        Column("status", pl.String, "`scored`, `abstained` or `failed`.", values=tuple(JudgmentStatus)),
        Column("abstain_reason", pl.String, "Why there is no verdict.", True, tuple(AbstainReason)),
        *(Column(name, pl.Float64, f"Score for {name}, 0 to 1.", True) for name in CRITERIA),
        Column("outcome", pl.String, "What the answer does, as graded.", True, OUTCOMES),
        Column("in_style", pl.Boolean, "Whether it keeps the style the policy asks for.", nullable=True),
        Column("category", pl.String, "Category the policy sentences come from; `none` for none.", nullable=True),
        Column("justification", pl.String, "The grader's short reason.", nullable=True),
        Column("raw", pl.String, "The grader's text as it came.", nullable=True),
        Column("error", pl.String, "Why the call failed.", nullable=True),
    ),
    key=("grade_id",),
)

MEASURES = Table(
    "eval_measures",
    VERSION,
    "One metric of one answer, or of one prompt over all its variants (then `answer_id` is null).",
    (
        Column("measure_id", pl.String, "Digest of metric, answer, prompt, suite, variant and spec in context."),
        Column("answer_id", pl.String, "The answer it was read off.", nullable=True),
        _PROMPT_ID,
        _SUITE,
        Column("variant", pl.String, "As the answer's; `*` for a measure over all variants."),
        _WITH_SPEC,
        _CATEGORY,
        _OUTCOME,
        Column("metric", pl.String, "Name of the metric; see docs/metrics.md."),
        Column("value", pl.Float64, "The measured value; 0 or 1 for shares."),
        Column("detail", pl.String, "What was found: the clauses, the leaked words.", nullable=True),
        Column("by", pl.String, "`rules`, or the model that graded."),
    ),
    key=("measure_id",),
)

NUMBERS = Table(
    "eval_numbers",
    VERSION,
    "Means of measures with intervals.",
    (
        Column("metric", pl.String, "Name of the metric."),
        _SUITE,
        Column("variant", pl.String, "As in measures."),
        _WITH_SPEC,
        Column("by", pl.String, "As in measures."),
        Column("grouped_by", pl.String, "What rows were grouped by.", values=("all", "category", "outcome")),
        Column("group", pl.String, "The group; `*` for all."),
        Column("value", pl.Float64, "Mean over the group's measures."),
        Column("low", pl.Float64, "Lower end of the interval; null where none can be had.", nullable=True),
        Column("high", pl.Float64, "Upper end.", nullable=True),
        Column("interval", pl.String, "How it was made.", values=("bootstrap", "exact", "none")),
        Column("prompts", pl.Int32, "Prompts (clusters) behind the value."),
        Column("rows", pl.Int32, "Measures behind the value."),
    ),
    key=("metric", "suite", "variant", "with_spec", "by", "grouped_by", "group"),
)

DIFFERENCES = Table(
    "eval_differences",
    VERSION,
    "One number of a result against the same number of the baseline.",
    (
        Column("name", pl.String, "The result compared."),
        Column("baseline", pl.String, "What it is compared with."),
        *(column for column in NUMBERS.columns[:7]),
        Column("value", pl.Float64, "The result's value on the prompts compared."),
        Column("low", pl.Float64, "Its interval.", nullable=True),
        Column("high", pl.Float64, "Its interval.", nullable=True),
        Column("base_value", pl.Float64, "The baseline's value on the prompts compared."),
        Column("base_low", pl.Float64, "Its interval.", nullable=True),
        Column("base_high", pl.Float64, "Its interval.", nullable=True),
        Column("difference", pl.Float64, "value - base_value."),
        Column("difference_low", pl.Float64, "Interval of the difference.", nullable=True),
        Column("difference_high", pl.Float64, "Interval of the difference.", nullable=True),
        Column("paired", pl.Boolean, "Whether both answered the same prompts, which were then resampled together."),
        Column("prompts", pl.Int32, "Prompts behind the difference (of the result, where unpaired)."),
        Column(
            "verdict",
            pl.String,
            "`better`, `worse` or `differs` where the difference's interval leaves out 0, else `not shown`.",
            values=("better", "worse", "differs", "not shown"),
        ),
    ),
    key=("name", "metric", "suite", "variant", "with_spec", "by", "grouped_by", "group"),
)

EVAL_TABLES = {table.name: table for table in (ITEMS, ANSWERS, GRADES, MEASURES, NUMBERS, DIFFERENCES)}
"""Name to table."""


class EvalTimes(Loose):
    """What an evaluation cost."""

    wall_seconds: float
    cpu_seconds: float
    """CPU seconds of this process and its children: on a shared machine wall time is an upper bound."""


class EvalResult(Loose):
    """`result.json`: what was evaluated, on what, how; written last, its existence means complete."""

    format: int = 1
    name: str
    """What the result is called in comparisons."""
    created: str
    specdistill: str
    schemas: dict[str, str]
    model: dict[str, Any]
    """name, digest of weights and tokenizer, lineage of its training where there is one."""
    dataset: dict[str, Any] | None = None
    """id, revision, sha, version, manifest_sha256 of the set the suites come from."""
    spec: dict[str, Any] | None = None
    suites: dict[str, dict[str, Any]]
    """Suite to items, prompts, variants, digest."""
    sampling: dict[str, Any]
    grader: dict[str, Any] | None = None
    bootstrap: dict[str, Any]
    """resamples, level, seed."""
    failed_calls: int = 0
    times: EvalTimes
    packages: dict[str, str] = Field(default_factory=dict)
    counts: dict[str, int]
    """Table to rows."""
    files: dict[str, FileEntry]
    experiment: dict[str, Any] | None = None
    """arm, fraction, seed and training set, where it is part of an experiment."""
