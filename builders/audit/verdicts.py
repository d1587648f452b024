"""What the answers mean: majority with a tie rule, who must be asked again, and what follows for the sets.

Pure functions over the pulled answers. A person's latest submitted answer counts, once, whatever the round; drafts and
discards do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from specdistill.schemas.audit import RECORDS, VERDICTS, Better, Final, Kind, Say
from specdistill.schemas.digest import digest
from specdistill.schemas.recipe import Audit
from specdistill.schemas.rows import CANDIDATES
from specdistill.schemas.vocabulary import Arm


def votes(responses: pl.DataFrame) -> pl.DataFrame:
    """The answers that count: submitted, with a verdict, each person's latest per row or pair.

    Returns:
        Rows of `schemas.audit.RESPONSES` with `keep` (bool): whether it speaks for keeping the row, or for the judge's
        order of the pair; null for a tie of a pair.
    """
    keep = (
        pl.when(pl.col("kind") == Kind.ROW)
        .then(pl.col("verdict") == Say.ACCEPT)
        .when(pl.col("better") != Better.TIE)
        .then(pl.col("better") == Better.CHOSEN)
    )
    said = pl.col("verdict").is_not_null() | pl.col("better").is_not_null()
    return (
        responses.filter((pl.col("status") == "submitted") & said)
        .sort("updated", "response_id")
        .unique(["target_id", "annotator"], keep="last", maintain_order=True)
        .with_columns(keep.alias("keep"))
        .sort("target_id", "annotator")
    )


def verdicts(responses: pl.DataFrame, audit: Audit) -> pl.DataFrame:
    """One row of `schemas.audit.VERDICTS` for each row or pair that somebody answered.

    A row is confirmed when more people accept it than not. Otherwise it goes, and where at least as many want it
    fixed (with a corrected answer) as rejected, the latest correction takes its place. A pair is confirmed when more
    people choose the judge's side than the other or neither; `equally good` is a vote for neither side. Equal votes
    follow the recipe's tie rule.
    """
    rows = []
    for (target,), group in votes(responses).group_by(["target_id"], maintain_order=True):
        given = group.to_dicts()
        for_it = sum(vote["keep"] is True for vote in given)
        against = sum(vote["keep"] is False for vote in given)
        final, source = decide(given, for_it, against, audit)
        rows.append(
            {
                "target_id": target,
                "kind": given[0]["kind"],
                "final": final.value,
                "votes_for": for_it,
                "votes_against": against,
                "annotators": len(given),
                "disputed": min(for_it, against) / len(given) > audit.max_disagreement,
                "correction": source["correction"] if source else None,
                "response_id": source["response_id"] if source else None,
                "written_id": digest("human", target, source["correction"]) if source else None,
            }
        )
    return VERDICTS.frame(rows)


def decide(given: list[dict[str, Any]], for_it: int, against: int, audit: Audit) -> tuple[Final, dict[str, Any] | None]:
    """What one record's answers mean, and the answer whose correction is taken."""
    if len(given) < audit.min_annotators:
        return Final.OPEN, None
    if for_it > against:
        return Final.CONFIRMED, None
    if for_it == against and audit.tie == "judge":
        return Final.OPEN, None
    if given[0]["kind"] == Kind.PAIR:
        # All said `equally good`: nobody is against the order, and nobody for it.
        return (Final.REJECTED if against or audit.tie == "reject" else Final.OPEN), None
    fixes = [vote for vote in given if vote["verdict"] == Say.FIX and vote["correction"]]
    if fixes and 2 * len(fixes) >= against:
        return Final.CORRECTED, max(fixes, key=lambda vote: (vote["updated"], vote["response_id"]))
    return Final.REJECTED, None


def again(records: pl.DataFrame, found: pl.DataFrame, responses: pl.DataFrame, audit: Audit) -> pl.DataFrame:
    """Records that go back for another annotator: disputed, and fully answered in their latest round (by as many as
    `min_annotators` in the first, by one in each later).

    Returns:
        Rows of `RECORDS` of the next round, the judge's view hidden.
    """
    latest = records.sort("round").unique("record_id", keep="last")
    submitted = responses.filter(pl.col("status") == "submitted").group_by("record_id", "round").len()
    needed = pl.when(pl.col("round") == 1).then(audit.min_annotators).otherwise(1)
    answered = submitted.filter(pl.col("len") >= needed)
    disputed = found.filter("disputed").select("target_id")
    return (
        latest.join(disputed, on="target_id", how="semi")
        .join(answered, on=["record_id", "round"], how="semi")
        .with_columns(
            (pl.col("round") + 1).cast(pl.Int32).alias("round"),
            pl.lit(True).alias("hidden"),
            pl.concat_list(pl.lit("people disagreed")).alias("why"),
        )
        .select(RECORDS.names)
        .sort("record_id")
    )


@dataclass(frozen=True)
class People:
    """What people's verdicts do to the sets.

    Attributes:
        confirmed, rejected: candidate ids.
        confirmed_pairs, rejected_pairs: ids of preference pairs.
        corrections: candidate_id, answer, written_id of rows that a person's answer replaces (they are in `rejected`).
    """

    confirmed: frozenset[str] = frozenset()
    rejected: frozenset[str] = frozenset()
    confirmed_pairs: frozenset[str] = frozenset()
    rejected_pairs: frozenset[str] = frozenset()
    corrections: tuple[tuple[str, str, str], ...] = ()

    @classmethod
    def of(cls, found: pl.DataFrame) -> People:
        """From rows of `VERDICTS`."""

        def ids(kind: Kind, *finals: Final) -> frozenset[str]:
            rows = found.filter((pl.col("kind") == kind) & pl.col("final").is_in([*finals]))
            return frozenset(rows["target_id"].to_list())

        corrected = found.filter(pl.col("final") == Final.CORRECTED)
        return cls(
            confirmed=ids(Kind.ROW, Final.CONFIRMED),
            rejected=ids(Kind.ROW, Final.REJECTED, Final.CORRECTED),
            confirmed_pairs=ids(Kind.PAIR, Final.CONFIRMED),
            rejected_pairs=ids(Kind.PAIR, Final.REJECTED),
            corrections=tuple(corrected.select("target_id", "correction", "written_id").sort("target_id").iter_rows()),
        )

    def written(self, candidates: pl.DataFrame) -> pl.DataFrame:
        """Candidates that people wrote: the model's candidate with the person's answer, arm `human`.

        Args:
            candidates: rows of the candidates table.

        Returns:
            Rows of the candidates table with `corrected_from`.
        """
        corrections = pl.DataFrame(
            self.corrections,
            schema={"corrected_from": pl.String, "written": pl.String, "written_id": pl.String},
            orient="row",
        )
        rows = candidates.join(corrections, left_on="candidate_id", right_on="corrected_from", how="inner")
        return (
            rows.select(
                *(pl.col(name) for name in CANDIDATES.names),
                pl.col("candidate_id").alias("corrected_from"),
                "written",
                "written_id",
            )
            .with_columns(
                pl.col("written_id").alias("candidate_id"),
                pl.col("written").alias("answer"),
                pl.lit(Arm.HUMAN.value).alias("arm"),
                pl.lit("human").alias("model"),
                pl.lit(None, pl.String).alias("raw"),
                pl.lit(None, pl.Int32).alias("prompt_tokens"),
                pl.lit(None, pl.Int32).alias("completion_tokens"),
            )
            .select(*CANDIDATES.names, "corrected_from")
        )
