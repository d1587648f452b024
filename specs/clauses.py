"""The clause table: every citable clause once, so that rows need carry only anchors."""

from __future__ import annotations

import polars as pl

from specdistill.schemas.rows import CLAUSES
from specdistill.specs.model import Spec


def clause_frame(spec: Spec) -> pl.DataFrame:
    """All clauses of a policy as a frame of `schemas.rows.CLAUSES`, style clauses (category null) first."""
    return CLAUSES.frame(
        [
            {
                "anchor": clause.anchor,
                "category": clause.category,
                "outcome": clause.outcome.value,
                "title": clause.title,
                "text": clause.text,
                "digest": clause.digest,
            }
            for clause in spec.clauses
        ]
    )
