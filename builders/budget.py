"""A run's token budget: when it is spent, no new request goes out, and what is in flight is finished and journalled."""

from __future__ import annotations

from pathlib import Path

from specdistill.builders.engines.exchange import Completion
from specdistill.builders.ledger import stage_totals
from specdistill.errors import BudgetSpent, EngineError
from specdistill.schemas.recipe import Budget


class Held(Exception):
    """A request that the budget does not let out. Its row stays unfinished, as if the build had not come to it."""


class TokenBudget:
    """What a run may still cost, over all its steps and sessions.

    It is asked before each request and told of each completion, so the run goes over it by at most what was in flight
    when it was reached: the engines' `concurrency`, times the samples of a request, times `max_tokens`.

    State: tokens spent so far, and whether a request was held back. A failed call that is asked again counts with each
    of its tries in this session; of earlier sessions the ledger keeps the last try.

    Args:
        limits: the recipe's.
        prompt, completion: tokens that earlier sessions spent.
    """

    def __init__(self, limits: Budget, prompt: int = 0, completion: int = 0) -> None:
        self.limits, self.prompt, self.completion = limits, prompt, completion
        self.held = False

    @property
    def spent(self) -> bool:
        """Whether a limit is reached."""
        limits = self.limits
        return (limits.completion_tokens is not None and self.completion >= limits.completion_tokens) or (
            limits.prompt_tokens is not None and self.prompt >= limits.prompt_tokens
        )

    def ask(self) -> None:
        """Before a request goes out.

        Raises:
            Held: the budget is spent.
        """
        if self.spent:
            self.held = True
            raise Held

    def add(self, completion: Completion, first: bool) -> None:
        """A completion came; `first` of its request, whose prompt counts once.

        Raises:
            EngineError: the server does not say how many tokens it was.
        """
        unknown = completion.completion_tokens is None or completion.prompt_tokens is None
        if unknown and completion.error is None:
            raise EngineError(
                "The server does not say how many tokens a request takes, so a token budget cannot be kept.",
                "Remove `budget` from the recipe, or use a server that reports `usage`.",
                key="budget",
            )
        self.completion += completion.completion_tokens or 0
        self.prompt += (completion.prompt_tokens or 0) if first else 0

    def check(self) -> None:
        """When a pipeline has come to its end.

        Raises:
            BudgetSpent: something was held back.
        """
        if not self.held:
            return
        told = [
            f"{spent:,} of {limit:,} {name} tokens"
            for name, spent, limit in (
                ("completion", self.completion, self.limits.completion_tokens),
                ("prompt", self.prompt, self.limits.prompt_tokens),
            )
            if limit is not None
        ]
        raise BudgetSpent(
            f"The token budget is spent ({', '.join(told)}); nothing more was asked, and what was in flight is kept.",
            "Raise `budget` (in the recipe or with --set budget.completion_tokens=…) and run the same command: it goes "
            "on from here. Or `specdistill select RUN` makes the data sets from what is there.",
            key="budget",
        )


def open_budget(ledger: Path, limits: Budget) -> TokenBudget | None:
    """The budget of a run with what its ledger says was spent; None where the recipe sets no limit.

    Raises:
        RunError: the ledger is damaged.
    """
    if limits.completion_tokens is None and limits.prompt_tokens is None:
        return None
    totals = stage_totals(ledger).values()
    return TokenBudget(
        limits,
        sum(stage["prompt_tokens"] for stage in totals),
        sum(stage["completion_tokens"] for stage in totals),
    )
