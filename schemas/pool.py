"""Tables of what happened to the prompts of the sources before the build: `runs/NAME/cleaning/*.parquet`."""

from __future__ import annotations

import polars as pl

from specdistill.schemas.rows import MESSAGES, PROMPTS
from specdistill.schemas.table import Column, Table
from specdistill.schemas.vocabulary import RemovalReason

POOL_SCHEMA = pl.Schema([*PROMPTS.schema.items(), ("twin_source", pl.String()), ("group_source", pl.String())])
"""Rows of the sources while they are cleaned: prompts whose twin and group are still the source's own words."""

REMOVED = Table(
    "removed",
    "1.0.0",
    "Prompts of the sources that are not in the set, each with the first reason that holds.",
    (
        Column("prompt_id", pl.String, "Digest of the conversation."),
        Column("prompt", MESSAGES, "The conversation."),
        Column("category", pl.String, "Category, where one was given.", nullable=True),
        Column("source", pl.String, "File or hub dataset with revision, and row."),
        Column("reason", pl.String, "Why it was removed.", values=tuple(RemovalReason)),
        Column("detail", pl.String, "What exactly was found.", nullable=True),
        Column("similarity", pl.Float64, "How similar it is to what it doubles or overlaps with.", nullable=True),
        Column("matched_id", pl.String, "prompt_id of the prompt that stayed.", nullable=True),
        Column("matched_set", pl.String, "The evaluation set it overlaps with.", nullable=True),
        Column("matched_row", pl.Int64, "1-based row of that set.", nullable=True),
        Column("matched_text", pl.String, "The text it doubles or overlaps with.", nullable=True),
    ),
    key=(),
)
