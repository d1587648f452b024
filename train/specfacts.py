"""What a published set says of its spec, for the checks before training and for the judge's reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from specdistill.errors import TrainError
from specdistill.schemas.citations import cited_series
from specdistill.schemas.copying import copied_series, shingles_of
from specdistill.schemas.recipe import Screens
from specdistill.train.data import PublishedSet


@dataclass(frozen=True)
class SpecText:
    """The spec of a published set.

    Attributes:
        anchors: every clause anchor.
        runs: word runs of the spec, as long as the build counts as copied.
        rendered: category to the text the models were shown.
    """

    anchors: frozenset[str]
    runs: frozenset[str]
    rendered: dict[str, str]

    def found_in(self, prompts: Sequence[str]) -> list[str | None]:
        """The spec's words or anchors in each prompt, or None: the same measure a release was checked with.

        Made-up anchors are no leak: users write codes too.
        """
        texts = pl.Series("prompt", prompts, dtype=pl.String)
        cited = cited_series(texts, self.anchors)["known"].list.first()
        copied = copied_series(texts, self.runs)
        return [anchor or words for anchor, words in zip(cited, copied, strict=True)]


def spec_text(published: PublishedSet) -> SpecText:
    """Read the spec that was published with the rows.

    Raises:
        TrainError: the set carries no spec.
    """
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
    words = Screens.model_validate(published.manifest.recipe.get("screens") or {}).copied_words
    runs = shingles_of([*clauses["text"].to_list(), *rendered.values()], words)
    return SpecText(frozenset(clauses["anchor"].to_list()), runs, rendered)
