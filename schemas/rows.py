"""The tables of a run on disk: what `runs/NAME/{prompts,candidates,judgments}/*.parquet` and `spec/` hold."""

from __future__ import annotations

import polars as pl

from specdistill.schemas.table import Column, Table
from specdistill.schemas.vocabulary import (
    CRITERIA,
    AbstainReason,
    Arm,
    FinishReason,
    HintAnswer,
    JudgmentStatus,
    Outcome,
    ParseOutcome,
)

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
"""A conversation: list of {role, content}."""
REASONED_MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String, "reasoning_content": pl.String}))
"""One assistant turn with its reasoning apart: list of {role, content, reasoning_content}."""

OUTCOMES = tuple(Outcome)

CLAUSES = Table(
    "clauses",
    "1.0.0",
    "Every citable clause of the spec as used, once. Other tables refer to it by anchor.",
    (
        Column("anchor", pl.String, "Stable name of the clause, as cited in reasonings: [anchor]."),
        Column("category", pl.String, "Category id; null for clauses of the style document.", nullable=True),
        Column("outcome", pl.String, "What the clause asks for.", values=OUTCOMES),
        Column("title", pl.String, "Heading of the clause."),
        Column("text", pl.String, "The rule in Markdown."),
        Column("digest", pl.String, "Content digest of outcome, title, text and attributes."),
    ),
    key=("anchor",),
)

PROMPTS = Table(
    "prompts",
    "1.1.0",
    "Conversations to be answered, labelled with a category.",
    (
        Column("prompt_id", pl.String, "Digest of the conversation: equal text has equal id."),
        Column("prompt", MESSAGES, "The conversation; the last turn is the user's."),
        Column("category", pl.String, "Category of the spec it belongs to."),
        Column("outcome_hint", pl.String, "Expected outcome, where the source states one.", True, OUTCOMES),
        Column("twin_id", pl.String, "prompt_id of its twin (same surface, other intent).", nullable=True),
        Column("source", pl.String, "File or hub dataset with revision, and row: `prompts.jsonl:12`."),
        Column("source_id", pl.String, "The row's own id in its source.", nullable=True),
        Column("group_id", pl.String, "Rows that must stay on one side of a split share it."),
        Column("language", pl.String, "ISO 639-1 code of the user's text; null where it is not clear.", nullable=True),
        Column("flags", pl.List(pl.String), "Kinds of secrets and personal data that it seems to hold.", nullable=True),
        Column("lineage", pl.String, "How a synthetic prompt came to be, as JSON; null for others.", nullable=True),
        Column("label_share", pl.Float64, "Share of classifier samples for its category; null if given.", True),
        Column("source_score", pl.Float64, "The source's own score, for picking evaluation prompts.", nullable=True),
    ),
    key=("prompt_id",),
)

CATEGORY_DIGEST = Column(
    "category_digest", pl.String, "Digest of the shown category's own content; null without a spec.", nullable=True
)

PARENT_ID = Column(
    "parent_id",
    pl.String,
    "candidate_id it was rewritten from (a leak repaired, a draft revised); null for one sampled from the prompt.",
    nullable=True,
)

CANDIDATES = Table(
    "candidates",
    "1.2.0",
    "One sampled (reasoning, answer) a row.",
    (
        Column("candidate_id", pl.String, "Digest of prompt, generator, rendered spec and sample index."),
        Column("prompt_id", pl.String, "The prompt it answers."),
        Column("category", pl.String, "Category whose spec was shown."),
        PARENT_ID,
        Column(
            "arm",
            pl.String,
            "`spec`: sampled with the spec in context; `contrast`: without.",
            values=tuple(Arm),
        ),
        Column("sample_index", pl.Int32, "0-based index among the samples of this prompt and arm."),
        Column("model", pl.String, "Generator model."),
        Column("generator_digest", pl.String, "Digest of model, sampling, reasoning mode and template version."),
        Column(
            "spec_digest",
            pl.String,
            "Digest of the rendered spec(category) shown; null without one.",
            nullable=True,
        ),
        CATEGORY_DIGEST,
        Column("parse", pl.String, "What reading the text gave.", values=tuple(ParseOutcome)),
        Column("reasoning", pl.String, "Chain of thought.", nullable=True),
        Column("answer", pl.String, "What the user sees.", nullable=True),
        Column("raw", pl.String, "The model's whole text where it could not be parsed.", nullable=True),
        Column("finish_reason", pl.String, "Why generation ended.", values=tuple(FinishReason)),
        Column("error", pl.String, "Why the call failed, where parse is `failed`.", nullable=True),
        Column("prompt_tokens", pl.Int32, "Tokens of the request, counted by the engine.", nullable=True),
        Column("completion_tokens", pl.Int32, "Tokens generated for this sample.", nullable=True),
    ),
    key=("candidate_id",),
)

HINTS = tuple(HintAnswer)

JUDGMENTS = Table(
    "judgments",
    "1.2.0",
    "One judge sample a row, raw. An abstention has no numbers.",
    (
        Column("judgment_id", pl.String, "Digest of candidate, judge and sample index."),
        Column("candidate_id", pl.String, "The candidate it judges."),
        Column("prompt_id", pl.String, "The candidate's prompt."),
        Column("category", pl.String, "Category whose spec the judge held."),
        Column("judge", pl.String, "Judge model."),
        Column("judge_digest", pl.String, "Digest of judge model, sampling, rubric and template version."),
        Column("spec_digest", pl.String, "Digest of the rendered spec(category) the judge held."),
        CATEGORY_DIGEST,
        Column("sample_index", pl.Int32, "0-based index among the k samples."),
        Column("status", pl.String, "`scored`, `abstained` or `failed`.", values=tuple(JudgmentStatus)),
        Column("abstain_reason", pl.String, "Why there is no verdict.", True, tuple(AbstainReason)),
        *(Column(name, pl.Float64, f"Score for {name}, 0 to 1; null unless scored.", True) for name in CRITERIA),
        Column("justification", pl.String, "The judge's short reason.", nullable=True),
        Column("hint", pl.String, "Whether it agrees with the hint it was shown; never a label.", True, HINTS),
        Column("raw", pl.String, "The judge's text as it came.", nullable=True),
        Column("error", pl.String, "Why the call failed, where status is `failed`.", nullable=True),
        Column("prompt_tokens", pl.Int32, "Tokens of the request.", nullable=True),
        Column("completion_tokens", pl.Int32, "Tokens generated for this sample.", nullable=True),
    ),
    key=("judgment_id",),
)
