"""How far each quota is, and which samples to spend next: pure functions of stored rows.

A cell is a category, or a category and an expected outcome, with a number of accepted rows wanted. It is

- `met`;
- `open`: samples are left and may still meet it;
- `budget`: the candidate budget of its category is spent;
- `used_up`: every prompt gave all the samples the recipe allows;
- `hopeless`: even at the upper end of the 95 % Wilson interval of its acceptance rate, the samples that are left would
  not meet it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from itertools import groupby, islice
from math import ceil, sqrt
from typing import Any

import polars as pl

from specdistill.builders.decisions import Decisions
from specdistill.builders.proportion import shares
from specdistill.schemas.digest import digest
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.vocabulary import Arm, RejectReason

LOOKED_AT = ("prompt_id", "category", "arm", "sample_index", "reason")
"""What is looked at of a decided candidate."""
JUDGE_AFTER = 20
"""Candidates of a cell before its acceptance rate can make it hopeless."""
LEAST = 8
"""Fewest samples a cell asks for in a round: fewer would leave an engine idle."""
GROWTH = 2
"""Most samples a round asks for, as a multiple of those already spent in the cell."""
Z = 1.959964
Slots = list[tuple[str, int]]
"""(prompt_id, sample index), in the order they are spent."""

FAILED = (pl.col("reason") == RejectReason.CALL_FAILED).fill_null(False)
"""Whether a decided candidate's call failed."""


@dataclass(frozen=True)
class Cell:
    """One quota and how far it is.

    Attributes:
        outcome: expected outcome of its prompts; None for all of the category.
        wanted: accepted rows asked for.
        accepted: accepted rows after trimming.
        good: candidates that were accepted before trimming.
        candidates: candidates sampled with the spec.
        left: samples that may still be spent.
        room: candidates that its category's budget still allows, shared by all its cells; None without a budget.
        state: see above.
        main_reason: the reject reason that most of its candidates have; None where none was rejected.
    """

    category: str
    outcome: str | None
    wanted: int
    accepted: int
    good: int
    candidates: int
    left: int
    room: int | None
    state: str
    main_reason: str | None

    @property
    def missing(self) -> int:
        """Rows that lack."""
        return max(self.wanted - self.accepted, 0)


def upper(good: int, spent: int) -> float:
    """Upper end of the 95 % Wilson interval of a share."""
    if not spent:
        return 1.0
    share, z2 = good / spent, Z * Z
    middle = share + z2 / (2 * spent)
    return min((middle + Z * sqrt(share * (1 - share) / spent + z2 / (4 * spent * spent))) / (1 + z2 / spent), 1.0)


def tries(decided: pl.DataFrame, asked: Collection[tuple[str, int]] = ()) -> pl.DataFrame:
    """Decided candidates without failed calls: what did not fail is all that budgets and acceptance rates are about.

    Args:
        asked: (prompt_id, sample index) that this session asked for. Calls of its own that failed do count, so that it
            neither asks for more than the budget nor goes on against an engine that fails always.
    """
    own = pl.DataFrame(list(asked), schema={"prompt_id": pl.String, "sample_index": pl.Int32}, orient="row")
    lately = decided.filter(FAILED & (pl.col("arm") == Arm.SPEC)).join(own, on=own.columns, how="semi")
    return pl.concat([decided.filter(~FAILED), lately])


def cells(decided: pl.DataFrame, prompts: pl.DataFrame, recipe: Recipe, slots: Slots) -> list[Cell]:
    """Every quota of a recipe, categories in order, outcomes before the whole.

    Args:
        decided: candidates with prompt_id, category, arm and reason (null when accepted), from `tries`.
        prompts: rows of the prompts table.
        slots: samples that may still be spent, from `open_slots`.
    """
    quota = recipe.quota
    rows = (
        decided.filter(~pl.col("arm").is_in([Arm.CONTRAST, Arm.CONSTITUTION]))
        .select("prompt_id", "reason")
        .join(prompts.select("prompt_id", "category", "outcome_hint"), on="prompt_id", how="inner")
    )
    offered = prompts.select("prompt_id", "category", "outcome_hint").join(
        pl.DataFrame([slot[0] for slot in slots], schema={"prompt_id": pl.String}), on="prompt_id", how="inner"
    )
    found = []
    for category in sorted(set(prompts["category"].to_list())):
        here, there = (frame.filter(pl.col("category") == category) for frame in (rows, offered))
        room = None if quota.budget is None else max(quota.budget - here.height, 0)
        asked: list[tuple[str | None, int]] = [*sorted(quota.per_outcome.items())]
        if quota.per_category is not None:
            asked.append((None, quota.per_category))
        for outcome, wanted in asked:
            mine = pl.lit(True) if outcome is None else pl.col("outcome_hint") == outcome
            found.append(cell(category, outcome, wanted, here.filter(mine), there.filter(mine).height, room))
    return found


def cell(category: str, outcome: str | None, wanted: int, rows: pl.DataFrame, slots: int, room: int | None) -> Cell:
    """One quota.

    Args:
        rows: its candidates: reason.
        slots: samples its prompts may still give.
        room: what the category's budget still allows; None without one.
    """
    rejected = rows.drop_nulls("reason").filter(pl.col("reason") != RejectReason.OVER_QUOTA)
    accepted, good = rows["reason"].null_count(), rows.height - rejected.height
    left = slots if room is None else min(slots, room)
    if accepted >= wanted:
        state = "met"
    elif room == 0:
        state = "budget"
    elif not left:
        state = "used_up"
    elif rows.height >= JUDGE_AFTER and upper(good, rows.height) * left < wanted - accepted:
        state = "hopeless"
    else:
        state = "open"
    reasons = rejected.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    main = reasons["reason"][0] if reasons.height else None
    return Cell(category, outcome, wanted, accepted, good, rows.height, left, room, state, main)


def open_slots(prompts: pl.DataFrame, recipe: Recipe, spent: set[tuple[str, int]], full: set[str]) -> Slots:
    """Samples that may still be spent: every prompt's first, then every prompt's second, prompts in a fixed order.

    Args:
        spent: samples that were asked for.
        full: prompts with as many accepted rows as one prompt may have.
    """
    order = sorted(prompts["prompt_id"].to_list(), key=lambda key: digest("round", key))
    return [
        (prompt, index)
        for index in range(recipe.generator.samples)
        for prompt in order
        if prompt not in full and (prompt, index) not in spent
    ]


def full_prompts(decided: pl.DataFrame, recipe: Recipe) -> set[str]:
    """Prompts whose candidates gave as many good ones as one prompt may give rows."""
    good = decided.filter(pl.col("reason").is_null() | (pl.col("reason") == RejectReason.OVER_QUOTA))
    counted = good.group_by("prompt_id").len()
    return set(counted.filter(pl.col("len") >= recipe.quota.max_samples_per_prompt)["prompt_id"].to_list())


def wish(missing: int, one: Cell) -> int:
    """Samples that are worth spending in a cell now: what is missing over the acceptance rate seen, within bounds."""
    rate = (one.good + 1) / (one.candidates + 2)
    asked = ceil(missing / rate) if one.candidates else missing
    most = max(GROWTH * one.candidates, LEAST, missing)
    return min(max(asked, min(LEAST, missing)), most, one.left)


def spend(states: list[Cell], slots: Slots, prompts: pl.DataFrame) -> dict[str, list[int]]:
    """The samples of the next round: prompt_id to sample indexes. Empty when no cell is open.

    Outcomes take their samples first; the whole category asks only for what they leave missing. Where the budget of a
    category does not reach, its cells share it as they need it.
    """
    facts = {
        key: (category, hint)
        for key, category, hint in prompts.select("prompt_id", "category", "outcome_hint").iter_rows()
    }
    queues: dict[tuple[str, str | None], Slots] = {}
    for slot in slots:
        category, hint = facts[slot[0]]
        for key in {(category, hint), (category, None)}:
            queues.setdefault(key, []).append(slot)
    taken: dict[str, list[int]] = {}
    used: set[tuple[str, int]] = set()
    for _, here in groupby(states, lambda one: one.category):
        for one, number in rations(list(here)):
            free = (slot for slot in queues.get((one.category, one.outcome), []) if slot not in used)
            for slot in islice(free, number):
                used.add(slot)
                taken.setdefault(slot[0], []).append(slot[1])
    return taken


def rations(states: list[Cell]) -> list[tuple[Cell, int]]:
    """What the open cells of one category may spend in a round."""
    still = [one for one in states if one.state == "open"]
    by_outcome = sum(one.missing for one in still if one.outcome)
    needs = [(one, one.missing if one.outcome else one.missing - by_outcome) for one in still]
    wishes = [(one, wish(missing, one)) for one, missing in needs if missing > 0]
    if not wishes or (room := wishes[0][0].room) is None:
        return wishes
    outcomes = shares([number for one, number in wishes if one.outcome], room)
    rest = [min(number, room - sum(outcomes)) for one, number in wishes if not one.outcome]
    return [(one, number) for (one, _), number in zip(wishes, outcomes + rest, strict=True)]


def own_samples(decided: pl.DataFrame) -> set[tuple[str, int]]:
    """(prompt_id, sample index) of the candidates sampled with the spec whose call did not fail."""
    own = decided.filter((pl.col("arm") == Arm.SPEC) & ~FAILED)
    return set(own.select("prompt_id", "sample_index").iter_rows())


def quota_states(decided: Decisions, prompts: pl.DataFrame, recipe: Recipe) -> list[Cell]:
    """Every quota as the derived sets have it: the last word, for report and card."""
    if not recipe.quota.asked:
        return []
    rows = decided.rows(*LOOKED_AT)
    slots = open_slots(prompts, recipe, own_samples(rows), full_prompts(rows, recipe))
    return cells(tries(rows), prompts, recipe, slots)


def as_dicts(states: list[Cell]) -> list[dict[str, Any]]:
    """For manifest and JSON."""
    return [asdict(one) for one in states]


def shortfalls(states: list[Cell]) -> list[str]:
    """Every quota that is not met, in words."""
    why = {
        "budget": "the candidate budget is spent",
        "used_up": "every prompt gave all its samples",
        "hopeless": "too few of its candidates are accepted",
        "open": "samples are left, which a build spends",
    }
    return [
        f"{one.category}{f' ({one.outcome})' if one.outcome else ''}: {one.accepted} of {one.wanted} rows from "
        f"{one.candidates} candidates; {why[one.state]}{f', most are {one.main_reason}' if one.main_reason else ''}"
        for one in states
        if one.state != "met"
    ]
