"""What a published set says of its spec, for the checks before training and for the judge's reward."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from specdistill.errors import TrainError
from specdistill.schemas.leak import cited_clauses, copied_words, shingles
from specdistill.train.data import PublishedSet, verify

SHARED_WORDS = 12
"""This many words in a row that also stand in a clause make a prompt a carrier of the spec."""


@dataclass(frozen=True)
class SpecText:
    """The spec of a published set.

    Attributes:
        anchors: every clause anchor.
        runs: word runs of the clauses.
        rendered: category to the text the models were shown.
    """

    anchors: frozenset[str]
    runs: frozenset[str]
    rendered: dict[str, str]

    def found_in(self, prompt: str) -> str | None:
        """The spec's words or anchors in a prompt, or None. Made-up anchors are no leak: users write codes too."""
        known, _ = cited_clauses(prompt, self.anchors)
        return known[0] if known else copied_words(prompt, self.runs, SHARED_WORDS)


def spec_text(published: PublishedSet) -> SpecText:
    """Read the spec that was published with the rows.

    Raises:
        TrainError: the spec is missing or differs from what was published.
    """
    verify(published.folder, published.manifest, "spec/")
    table = published.folder / "spec" / "clauses.parquet"
    if not table.is_file():
        raise TrainError(
            f"'{published.source.asked}' has no spec/clauses.parquet, so prompts cannot be checked for leaks.",
            "Publish the run again; a published set carries its spec.",
            file=table,
        )
    clauses = pl.read_parquet(table)
    rendered = {
        path.stem: path.read_text("utf-8") for path in sorted((published.folder / "spec" / "rendered").glob("*.md"))
    }
    texts = clauses["text"].to_list()
    runs = frozenset(run for text in texts for run in shingles(text, SHARED_WORDS))
    return SpecText(frozenset(clauses["anchor"].to_list()), runs, rendered)
