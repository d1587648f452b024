"""The table of pairwise judgments: which of two answers is better, asked in both orders."""

from __future__ import annotations

import polars as pl

from specdistill.schemas.table import Column, Table
from specdistill.schemas.vocabulary import AbstainReason, JudgmentStatus

CHOICES = ("first", "second", "tie")

COMPARISONS = Table(
    "comparisons",
    "1.0.0",
    "One pairwise judge sample a row, raw. Every pair is asked in both orders.",
    (
        Column("comparison_id", pl.String, "Digest of both candidates in this order, judge and sample index."),
        Column("prompt_id", pl.String, "The prompt both answer."),
        Column("category", pl.String, "Category whose spec the judge held."),
        Column("first_id", pl.String, "candidate_id of the answer shown first."),
        Column("second_id", pl.String, "candidate_id of the answer shown second."),
        Column("judge", pl.String, "Judge model."),
        Column("judge_digest", pl.String, "Digest of judge model, sampling and template version."),
        Column("spec_digest", pl.String, "Digest of the rendered spec(category) the judge held."),
        Column("sample_index", pl.Int32, "0-based index among the samples of this order."),
        Column("status", pl.String, "`scored`, `abstained` or `failed`.", values=tuple(JudgmentStatus)),
        Column("abstain_reason", pl.String, "Why there is no verdict.", True, tuple(AbstainReason)),
        Column("better", pl.String, "Which answer is better, by its place; null unless scored.", True, CHOICES),
        Column("justification", pl.String, "The judge's short reason.", nullable=True),
        Column("raw", pl.String, "The judge's text as it came.", nullable=True),
        Column("error", pl.String, "Why the call failed, where status is `failed`.", nullable=True),
        Column("prompt_tokens", pl.Int32, "Tokens of the request.", nullable=True),
        Column("completion_tokens", pl.Int32, "Tokens generated for this sample.", nullable=True),
    ),
    key=("comparison_id",),
)
