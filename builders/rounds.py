"""Generation in rounds: the next samples go where accepted rows are missing, until each quota is met or cannot be."""

from __future__ import annotations

import polars as pl

from specdistill.builders.audit.verdicts import People
from specdistill.builders.contexts import SpecContexts
from specdistill.builders.plan import Plan, passing_ids, plan
from specdistill.builders.quotas import Cell, cells, full_prompts, open_slots, spend
from specdistill.builders.run import Rows
from specdistill.builders.selection import NOBODY, decide_all
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.vocabulary import Arm, ParseOutcome


class Rounds:
    """What each round asks for.

    State: how many rounds there were, and the samples they asked for: a call that failed in this session is not asked
    again in a later round (a later session asks again).
    """

    def __init__(self, recipe: Recipe, people: People = NOBODY) -> None:
        self.recipe, self.people = recipe, people
        self.number = 0
        self.asked: set[tuple[str, int]] = set()
        self.states: list[Cell] = []

    def next(self, rows: Rows, contexts: SpecContexts) -> Plan:
        """The plan of the next round; nothing to do when no quota is open.

        Stored candidates that lack judgments come first: what they are worth decides what else is needed.
        """
        recipe, passing = self.recipe, passing_ids(rows, self.recipe)
        waiting = plan(recipe, rows, contexts, passing, spend={})
        self.number += 1
        if (any(waiting.judge.values()) or any(waiting.rewrite.values())) and self.number == 1:
            return waiting
        decided = decide_all(rows.prompts, rows.candidates, rows.judgments, rows.clauses, recipe, self.people)
        own = rows.candidates.filter((pl.col("arm") == Arm.SPEC) & (pl.col("parse") != ParseOutcome.FAILED))
        spent = self.asked | set(own.select("prompt_id", "sample_index").iter_rows())
        slots = open_slots(rows.prompts, recipe, spent, full_prompts(decided, recipe))
        self.states = cells(decided, rows.prompts, recipe, slots)
        wanted = spend(self.states, slots, rows.prompts)
        self.asked |= {(prompt, index) for prompt, indexes in wanted.items() for index in indexes}
        if not wanted:
            self.number -= 1
            return Plan([], {}, 0, 0)
        return plan(recipe, rows, contexts, set(), spend=wanted)

    def said(self, todo: Plan) -> str:
        """The round in a sentence."""
        still = [one for one in self.states if one.state == "open"]
        where = ", ".join(
            f"{one.category}{f'/{one.outcome}' if one.outcome else ''} {one.accepted}/{one.wanted}" for one in still[:8]
        )
        more = f" and {len(still) - 8} more" if len(still) > 8 else ""
        return (
            f"Round {self.number}: {todo.candidates_wanted} candidates, for {where or 'judging what is there'}{more}."
        )
