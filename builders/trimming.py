"""Which accepted candidates stay when there are more than a quota asks for: deterministic, whatever the row order.

In a category the next row taken is the one that cites most clauses that no taken row cites yet, then one of the group
and the prompt that gave fewest rows so far, then the best score, then the smallest id. Greedy maximum coverage is
within 1 - 1/e of the best choice (Nemhauser, Wolsey and Fisher, 1978). A key only ever gets worse as rows are taken,
so a heap whose top is looked at again before it is taken gives exactly that order.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from typing import Any

import polars as pl

from specdistill.schemas.recipe import Quota
from specdistill.schemas.vocabulary import RejectReason

Row = dict[str, Any]
OFFERED = ["candidate_id", "prompt_id", "category", "score", "clauses", "audit"]
"""What quotas look at of an accepted candidate."""


class Taken:
    """What was taken of one category so far.

    State: clauses, rows of each group and prompt, and the ids themselves.
    """

    def __init__(self, per_prompt: int) -> None:
        self.per_prompt = per_prompt
        self.clauses: set[str] = set()
        self.groups: Counter[str] = Counter()
        self.prompts: Counter[str] = Counter()
        self.ids: set[str] = set()

    def key(self, row: Row) -> tuple[Any, ...]:
        """Smallest is taken next. What people confirmed or wrote comes first."""
        new = sum(clause not in self.clauses for clause in row["clauses"] or ())
        score = row["score"] if row["score"] is not None else 0.0
        group, prompt = self.groups[row["group_id"]], self.prompts[row["prompt_id"]]
        return row["audit"] is None, -new, group, prompt, -score, row["candidate_id"]

    def take(self, rows: Iterable[Row], number: int | None) -> int:
        """Take up to `number` rows (None: all that the limit per prompt allows). Returns how many."""
        heap = [(self.key(row), row["candidate_id"], row) for row in rows if row["candidate_id"] not in self.ids]
        heapq.heapify(heap)
        taken = 0
        while heap and (number is None or taken < number):
            key, name, row = heapq.heappop(heap)
            if self.prompts[row["prompt_id"]] >= self.per_prompt:
                continue
            if (now := self.key(row)) != key:
                heapq.heappush(heap, (now, name, row))
                continue
            self.ids.add(row["candidate_id"])
            self.clauses.update(row["clauses"] or ())
            self.groups[row["group_id"]] += 1
            self.prompts[row["prompt_id"]] += 1
            taken += 1
        return taken


def chosen(accepted: pl.DataFrame, prompts: pl.DataFrame, quota: Quota) -> set[str]:
    """Ids of the accepted candidates that stay.

    With a quota per outcome, those are filled first; a quota per category is then filled with any outcome; without one,
    outcomes that are not named stay as they are.

    Args:
        accepted: the columns of `OFFERED`.
        prompts: for expected outcomes and groups.
    """
    facts = prompts.select("prompt_id", "outcome_hint", "group_id")
    rows = accepted.select(OFFERED).join(facts, on="prompt_id", how="left").sort("category", "candidate_id")
    kept: set[str] = set()
    for frame in rows.partition_by("category", maintain_order=True):
        offered, taken = frame.to_dicts(), Taken(quota.max_samples_per_prompt)
        for outcome, wanted in sorted(quota.per_outcome.items()):
            taken.take((row for row in offered if row["outcome_hint"] == outcome), wanted)
        if quota.per_category is not None:
            taken.take(offered, quota.per_category - len(taken.ids))
        else:
            taken.take((row for row in offered if row["outcome_hint"] not in quota.per_outcome), None)
        kept |= taken.ids
    return kept


def over_quota(accepted: pl.DataFrame, prompts: pl.DataFrame, quota: Quota) -> pl.DataFrame:
    """The accepted candidates that are beyond the quotas.

    Args:
        accepted: the columns of `OFFERED`: of all prompts, or where no more than the number of rows a prompt is limited
            (`quota.asked` is false), of some.
        prompts: rows of the prompts table.

    Returns:
        candidate_id.
    """
    if quota.asked:
        kept = chosen(accepted, prompts, quota)
        return accepted.select("candidate_id").filter(~pl.col("candidate_id").is_in(sorted(kept)))
    best = accepted.sort(
        [pl.col("audit").is_null(), "score", "candidate_id"], descending=[False, True, False], nulls_last=True
    )
    rank = pl.col("candidate_id").cum_count().over("prompt_id")
    return best.filter(rank > quota.max_samples_per_prompt).select("candidate_id")


def turned_away(decided: pl.DataFrame, over: pl.DataFrame) -> pl.DataFrame:
    """The same rows in their order; those of `over` have the reason `over_quota`."""
    if over.is_empty():
        return decided
    reason = pl.when("over").then(pl.lit(RejectReason.OVER_QUOTA.value)).otherwise("reason").alias("reason")
    marked = decided.join(
        over.with_columns(pl.lit(True).alias("over")), on="candidate_id", how="left", maintain_order="left"
    )
    return marked.with_columns(reason).drop("over")


def trim(decided: pl.DataFrame, prompts: pl.DataFrame, quota: Quota) -> pl.DataFrame:
    """Accepted candidates beyond the quotas become `over_quota`.

    Args:
        decided: candidates with the columns of `OFFERED` and `reason` (null when accepted).
        prompts: rows of the prompts table.

    Returns:
        The same rows, ordered by candidate_id.
    """
    accepted = decided.filter(pl.col("reason").is_null())
    return turned_away(decided, over_quota(accepted, prompts, quota)).sort("candidate_id")
