"""Generation in rounds: the next samples go where accepted rows are missing, until each quota is met or cannot be."""

from __future__ import annotations

from specdistill.builders.audit.verdicts import People
from specdistill.builders.plan import Plan, plan
from specdistill.builders.quotas import LOOKED_AT, Cell, cells, full_prompts, open_slots, own_samples, spend, tries
from specdistill.builders.selection import NOBODY, decide_run
from specdistill.builders.stored import Stored
from specdistill.schemas.recipe import Recipe


class Rounds:
    """What each round asks for.

    State: how many rounds there were, and the samples they asked for: a call that failed in this session is not asked
    again in a later round, and counts as spent (a later session asks again).
    """

    def __init__(self, recipe: Recipe, people: People = NOBODY) -> None:
        self.recipe, self.people = recipe, people
        self.number = 0
        self.asked: set[tuple[str, int]] = set()
        self.states: list[Cell] = []

    def next(self, stored: Stored) -> Plan:
        """The plan of the next round; nothing to do when no quota is open.

        Stored candidates that lack judgments come first: what they are worth decides what else is needed.
        """
        self.number += 1
        if self.number == 1 and not (waiting := plan(stored, spend={})).empty:
            return waiting
        with decide_run(stored, self.people) as run:
            decided = run.rows(*LOOKED_AT)
        spent = self.asked | own_samples(decided)
        slots = open_slots(stored.prompts, self.recipe, spent, full_prompts(decided, self.recipe))
        self.states = cells(tries(decided, self.asked), stored.prompts, self.recipe, slots)
        wanted = spend(self.states, slots, stored.prompts)
        self.asked |= {(prompt, index) for prompt, indexes in wanted.items() for index in indexes}
        if not wanted:
            self.number -= 1
            return Plan()
        return plan(stored, spend=wanted, judging=False)

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
