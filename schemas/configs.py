"""The published configs: what `load_dataset(ID, CONFIG)` gives, each ready for its trainer without a map step."""

from __future__ import annotations

import polars as pl

from specdistill.schemas.rows import (
    CANDIDATES,
    CATEGORY_DIGEST,
    JUDGMENTS,
    MESSAGES,
    OUTCOMES,
    PARENT_ID,
    REASONED_MESSAGES,
)
from specdistill.schemas.table import Column, Table
from specdistill.schemas.vocabulary import CRITERIA, Arm, RejectReason

SCHEMA_VERSION = "1.1.0"
AUDITED = "1.2.0"
"""Configs that say what people said."""

_VERSION = Column("schema_version", pl.String, "Version of this config's schema.")
_PROMPT = Column("prompt", MESSAGES, "The conversation without the spec; the last turn is the user's.")
_CATEGORY = Column("category", pl.String, "Category of the spec.")
_PROMPT_ID = Column("prompt_id", pl.String, "The prompt's id; samples of one prompt share it.")
_CLAUSE_DIGESTS = Column(
    "clause_digests",
    pl.List(pl.String),
    "Content digests of the clauses that the reasoning cites, in the order of their anchors.",
    nullable=True,
)
_DIGESTS = (
    Column("spec_digest", pl.String, "Digest of the rendered spec(category) shown.", nullable=True),
    CATEGORY_DIGEST,
    _CLAUSE_DIGESTS,
)
"""What exactly was taught: a row of another policy version is told from today's without reading either."""
_COMPLETION = Column(
    "completion",
    REASONED_MESSAGES,
    "One assistant message: the answer in `content`, the reasoning in `reasoning_content`.",
)
_AUDIT = Column(
    "audit",
    pl.String,
    "What people said: `confirmed`; `corrected` where a person wrote the answer; null where nobody looked or decided.",
    nullable=True,
    values=("confirmed", "corrected"),
)
_CORRECTED_FROM = Column(
    "corrected_from",
    pl.String,
    "candidate_id of the model's candidate whose answer a person replaced; its reasoning is kept.",
    nullable=True,
)
_SCORE = Column("score", pl.Float64, "Aggregated judge score, 0 to 1 (aggregation: see the manifest).")
_CRITERIA = tuple(
    Column(name, pl.Float64, f"Aggregated {name}, 0 to 1; null if no sample scored it.", True) for name in CRITERIA
)

JUDGED = "1.3.0"
"""Configs that say how a rewritten candidate came to be, and more of what the judges said."""
_LINEAGE = (
    Column("arm", pl.String, "How it was made: `spec` sampled, `repair` a leak rewritten away, …", True, tuple(Arm)),
    PARENT_ID,
)
_HEURISTIC = (
    Column("heuristic", pl.Float64, "Mean of the three below, where any is known; no judge had a part in it.", True),
    Column("heuristic_outcome", pl.Float64, "1 if the answer refuses exactly where that is expected, else 0.", True),
    Column("heuristic_sections", pl.Float64, "Share of what the recipe requires of an answer that it has.", True),
    Column("heuristic_complete", pl.Float64, "Share of the items asked for (`five tips`) that it lists.", True),
)

SFT = Table(
    "sft",
    JUDGED,
    "Accepted (prompt, reasoning, answer) triples, the spec stripped: supervised fine-tuning.",
    (
        Column("id", pl.String, "candidate_id."),
        _PROMPT,
        _COMPLETION,
        _CATEGORY,
        _PROMPT_ID,
        Column(
            "outcome_hint",
            pl.String,
            "Expected outcome, where the prompt's source states one.",
            True,
            OUTCOMES,
        ),
        Column(
            "score",
            pl.Float64,
            "Aggregated judge score, 0 to 1 (aggregation: see the manifest); null where a person wrote the answer or "
            "accepted it without a judge's verdict.",
            nullable=True,
        ),
        Column("clauses", pl.List(pl.String), "Clauses of the spec that the reasoning cites."),
        *_LINEAGE,
        *_DIGESTS,
        _AUDIT,
        _CORRECTED_FROM,
        _VERSION,
    ),
    key=("id",),
)

PREFERENCE = Table(
    "preference",
    JUDGED,
    "Pairs for the same prompt whose score difference is larger than the judge's own noise.",
    (
        Column("id", pl.String, "Digest of the two candidate ids."),
        _PROMPT,
        Column("chosen", REASONED_MESSAGES, "The better completion."),
        Column("rejected", REASONED_MESSAGES, "The worse completion."),
        Column("score_chosen", pl.Float64, "Aggregated judge score of `chosen`."),
        Column("score_rejected", pl.Float64, "Aggregated judge score of `rejected`."),
        Column("margin", pl.Float64, "score_chosen - score_rejected, always positive."),
        _CATEGORY,
        _PROMPT_ID,
        Column("noise", pl.Float64, "Standard error of the score difference over the judge samples."),
        Column("chosen_id", pl.String, "candidate_id of `chosen`."),
        Column("rejected_id", pl.String, "candidate_id of `rejected`."),
        Column("rejected_arm", pl.String, "Arm `rejected` was sampled in.", values=tuple(Arm)),
        Column("chosen_arm", pl.String, "How `chosen` was made.", nullable=True, values=tuple(Arm)),
        Column("length_ratio", pl.Float64, "Characters of the chosen answer over those of the rejected one.", True),
        Column(
            "pairwise",
            pl.Float64,
            "Share of pairwise verdicts, both orders, for `chosen`; null where pairs were not compared.",
            nullable=True,
        ),
        *_DIGESTS,
        _AUDIT,
        _VERSION,
    ),
    key=("id",),
)

KTO = Table(
    "kto",
    AUDITED,
    "Single completions with a binary label.",
    (
        Column("id", pl.String, "candidate_id."),
        _PROMPT,
        _COMPLETION,
        Column(
            "label",
            pl.Boolean,
            "Whether people accept it, else whether the score reaches the threshold; the filters pass.",
        ),
        _SCORE,
        _CATEGORY,
        _PROMPT_ID,
        *_DIGESTS,
        _AUDIT,
        _VERSION,
    ),
    key=("id",),
)

REWARD = Table(
    "reward",
    JUDGED,
    "Every judged candidate with all criteria, aggregated over the judge samples.",
    (
        Column("id", pl.String, "candidate_id."),
        _PROMPT,
        _COMPLETION,
        _SCORE,
        *_CRITERIA,
        Column("score_mean", pl.Float64, "Mean of all judge samples' scores, whatever the aggregation.", True),
        Column("score_min", pl.Float64, "Lowest of all judge samples' scores.", True),
        Column(
            "score_std",
            pl.Float64,
            "Sample standard deviation of the judge's scores; null for one sample.",
            True,
        ),
        Column("judge_samples", pl.Int32, "Judge samples that gave a score."),
        Column("abstentions", pl.Int32, "Judge samples that gave none."),
        _CATEGORY,
        _PROMPT_ID,
        Column("arm", pl.String, "Arm it was sampled in.", values=tuple(Arm)),
        Column(
            "label",
            pl.Boolean,
            "Whether people accept it, else whether the score reaches the threshold; the filters pass.",
        ),
        PARENT_ID,
        *_HEURISTIC,
        *_DIGESTS,
        _AUDIT,
        _VERSION,
    ),
    key=("id",),
)

PROMPT_SET = Table(
    "prompts",
    "1.2.0",
    "All prompts, for sampling and reinforcement learning.",
    (
        Column("id", pl.String, "prompt_id."),
        _PROMPT,
        _CATEGORY,
        Column("outcome_hint", pl.String, "Expected outcome, where the source states one.", True, OUTCOMES),
        Column("twin_id", pl.String, "id of its twin (same surface, other intent).", nullable=True),
        Column("source", pl.String, "Where it comes from."),
        Column("language", pl.String, "ISO 639-1 code of the user's text; null where it is not clear.", nullable=True),
        Column("lineage", pl.String, "How a synthetic prompt came to be, as JSON; null for others.", nullable=True),
        _VERSION,
    ),
    key=("id",),
)

REJECTED = Table(
    "rejected",
    JUDGED,
    "Candidates that were not accepted, each with the first reason that holds.",
    (
        Column("id", pl.String, "candidate_id."),
        _PROMPT,
        Column("reason", pl.String, "Why it was not accepted.", values=tuple(RejectReason)),
        Column(
            "detail",
            pl.String,
            "What exactly was found (the leaked words, the invented clause).",
            nullable=True,
        ),
        *(column for column in CANDIDATES.columns if column.name != "candidate_id"),
        _CLAUSE_DIGESTS,
        Column("score", pl.Float64, "Aggregated judge score, if it was judged.", nullable=True),
        _CORRECTED_FROM,
        _VERSION,
    ),
    key=("id",),
)

JUDGMENT_SET = Table(
    "judgments",
    JUDGED,
    "One judge sample a row, raw, so that everything can be aggregated anew.",
    (
        Column("id", pl.String, "judgment_id."),
        *(column for column in JUDGMENTS.columns if column.name != "judgment_id"),
        _VERSION,
    ),
    key=("id",),
)

TABLES = {table.name: table for table in (SFT, PREFERENCE, KTO, REWARD, PROMPT_SET, REJECTED, JUDGMENT_SET)}
"""Config name to table, in card order."""
