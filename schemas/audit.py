"""The tables of the human audit in a run's `audit/` folder: what was shown, what people answered, what follows.

Usernames are in `responses` only, which stays in the run; nothing published names a person.
"""

from __future__ import annotations

from enum import StrEnum

import polars as pl

from specdistill.schemas.rows import OUTCOMES
from specdistill.schemas.table import Column, Table
from specdistill.schemas.vocabulary import CRITERIA


class Kind(StrEnum):
    """What is shown."""

    ROW = "row"
    """One candidate: conversation, reasoning, answer."""
    PAIR = "pair"
    """Two answers to one conversation."""


class Slice(StrEnum):
    """Why it is shown."""

    BORDERLINE = "borderline"
    """The judge or the heuristics are not sure."""
    CONTROL = "control"
    """Drawn at random, so that the judge can be measured."""


class Say(StrEnum):
    """A person's verdict on a row."""

    ACCEPT = "accept"
    """Fit to learn from as it is."""
    FIX = "fix"
    """Not as it is; the corrected answer is."""
    REJECT = "reject"
    """Not fit to learn from."""


class Better(StrEnum):
    """A person's verdict on a pair, in the judge's terms once it is back."""

    CHOSEN = "chosen"
    REJECTED = "rejected"
    TIE = "tie"
    BOTH_BAD = "both_bad"


class Final(StrEnum):
    """What all answers to one record together mean for its row or pair."""

    CONFIRMED = "confirmed"
    """People say what the judge's verdict would keep: the row, or the order of the pair."""
    CORRECTED = "corrected"
    """The row goes; a person's answer takes its place."""
    REJECTED = "rejected"
    """The row or pair goes."""
    OPEN = "open"
    """Too few answers, or a tie that is left to the judge."""


SPAN = pl.Struct({"field": pl.String, "label": pl.String, "start": pl.Int64, "end": pl.Int64})

RECORDS = Table(
    "audit_records",
    "1.0.0",
    "What people were asked: one row a record and round.",
    (
        Column("record_id", pl.String, "Id of the record in Argilla: kind and target."),
        Column("round", pl.Int32, "1, or more where people disagreed and another was asked."),
        Column("kind", pl.String, "Row or pair.", values=tuple(Kind)),
        Column("target_id", pl.String, "candidate_id of a row, id of a preference pair."),
        Column("prompt_id", pl.String, "Its prompt."),
        Column("category", pl.String, "Its category."),
        Column("outcome", pl.String, "Expected outcome: the prompt's hint, else `unspecified`.", values=OUTCOMES),
        Column("slice", pl.String, "Borderline or random control.", values=tuple(Slice)),
        Column("why", pl.List(pl.String), "Why it was chosen, in words."),
        Column("priority", pl.Float64, "How unsure judge and heuristics are, 0 up; what borderline is ranked by."),
        Column("judge_accepts", pl.Boolean, "What the judge said: accepted, or that `chosen` is better."),
        Column("score", pl.Float64, "The judge's score of the row; null for a pair.", nullable=True),
        Column("margin", pl.Float64, "The judge's margin of the pair; null for a row.", nullable=True),
        Column("first_is_chosen", pl.Boolean, "Whether answer A is the judge's choice; null for a row.", nullable=True),
        Column("hidden", pl.Boolean, "Whether the judge's view was kept from people."),
    ),
    key=("record_id", "round"),
)

RESPONSES = Table(
    "audit_responses",
    "1.0.0",
    "One answer of one person to one record, as it was when last pulled; drafts and discards are kept apart by status.",
    (
        Column("response_id", pl.String, "Id in Argilla."),
        Column("record_id", pl.String, "The record."),
        Column("round", pl.Int32, "The record's round."),
        Column("kind", pl.String, "Row or pair.", values=tuple(Kind)),
        Column("target_id", pl.String, "candidate_id or pair id."),
        Column("dataset_id", pl.String, "Argilla dataset it was given in."),
        Column("annotator", pl.String, "Username; never published."),
        Column("status", pl.String, "As given.", values=("submitted", "draft", "discarded")),
        Column("created", pl.Datetime("us", "UTC"), "When first saved."),
        Column("updated", pl.Datetime("us", "UTC"), "When last changed."),
        Column("verdict", pl.String, "On a row.", True, tuple(Say)),
        Column("better", pl.String, "On a pair.", True, tuple(Better)),
        Column("strength", pl.Int32, "How much better, 1 (hardly) to 3 (clearly).", nullable=True),
        Column("outcome", pl.String, "What the policy asks for here, in the person's view.", True, OUTCOMES),
        *(Column(name, pl.Int32, f"Rating of {name}, 1 to 5.", nullable=True) for name in CRITERIA),
        Column("clauses", pl.List(pl.String), "Clauses that apply, by anchor."),
        Column("spans", pl.List(SPAN), "Marked problems: field, label, character offsets into it."),
        Column("correction", pl.String, "The answer as it should be.", nullable=True),
        Column("comment", pl.String, "Free text.", nullable=True),
    ),
    key=("response_id",),
)

VERDICTS = Table(
    "audit_verdicts",
    "1.0.0",
    "What all answers about one row or pair together mean. Derived by select.",
    (
        Column("target_id", pl.String, "candidate_id or pair id."),
        Column("kind", pl.String, "Row or pair.", values=tuple(Kind)),
        Column("final", pl.String, "What follows for the sets.", values=tuple(Final)),
        Column("votes_for", pl.Int32, "People who agree with keeping it."),
        Column("votes_against", pl.Int32, "People who do not."),
        Column("annotators", pl.Int32, "People who answered."),
        Column("disputed", pl.Boolean, "Whether the smaller side is larger than the recipe allows."),
        Column("correction", pl.String, "The corrected answer, where final is `corrected`.", nullable=True),
        Column("response_id", pl.String, "The answer that the correction is from.", nullable=True),
        Column("written_id", pl.String, "candidate_id of the row written by a person.", nullable=True),
    ),
    key=("target_id",),
)
