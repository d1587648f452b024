"""Token budgets: nothing new goes out once one is spent, what is in flight is kept, and a larger one goes on."""

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
from build_helpers import build, finished, keys, run, write_recipe
from fake_openai_server import FakeOpenAI
from hypothesis import given
from hypothesis import strategies as st

from specdistill.builders.budget import Held, TokenBudget, open_budget
from specdistill.builders.build import Observer, prepare
from specdistill.builders.engines.base import Completion
from specdistill.builders.engines.factory import EnginePool
from specdistill.builders.ledger import Ledger, stage_totals
from specdistill.builders.pipelines import build_pipeline
from specdistill.builders.runner import Hooks, walk
from specdistill.errors import BudgetSpent, EngineError, RecipeError
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Budget
from specdistill.schemas.recipe_file import load_recipe
from specdistill.schemas.vocabulary import FinishReason

SAMPLES, CONCURRENCY, STEPS = 3, 8, 2


def answer(prompt=10, completion=5, error=None):
    finish = FinishReason.STOP if error is None else FinishReason.ERROR
    return Completion("text", None, finish, prompt, completion, error=error)


@given(
    limit=st.integers(1, 500),
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=60),
    window=st.integers(1, 8),
)
def test_a_budget_is_overshot_by_at_most_what_was_in_flight(limit, sizes, window):
    budget = TokenBudget(Budget(completion_tokens=limit))
    waiting, in_flight, went = list(sizes), [], 0
    while waiting or in_flight:
        while waiting and len(in_flight) < window:
            try:
                budget.ask()
            except Held:
                waiting.clear()
                break
            in_flight.append(waiting.pop(0))
            went += 1
        if in_flight:
            budget.add(answer(completion=in_flight.pop(0)), first=True)
    assert budget.completion == sum(sizes[:went]), "what went out is counted, held or not"
    assert budget.completion < limit + window * max(sizes) + 1
    assert budget.held == (went < len(sizes))
    if went < len(sizes):
        assert sum(sizes[:went]) >= limit, "nothing is held before the limit"
        with pytest.raises(BudgetSpent):
            budget.check()
    else:
        budget.check()


def test_prompts_count_once_a_request_and_failed_calls_count_what_they_say():
    budget = TokenBudget(Budget(prompt_tokens=20))
    budget.add(answer(), first=True)
    budget.add(answer(), first=False)
    budget.add(answer(None, None, error="refused"), first=True)
    assert (budget.prompt, budget.completion, budget.spent) == (10, 10, False)
    budget.add(answer(), first=True)
    assert budget.spent


def test_a_server_that_counts_nothing_cannot_be_held_to_a_budget():
    with pytest.raises(EngineError, match="does not say how many tokens"):
        TokenBudget(Budget(completion_tokens=9)).add(answer(completion=None), first=True)


def test_no_limit_is_no_budget_and_a_limit_is_a_positive_number(tmp_path):
    assert open_budget(tmp_path / "ledger.sqlite", Budget()) is None
    recipe = write_recipe(tmp_path, "http://127.0.0.1:9/v1")
    with pytest.raises(RecipeError, match="greater than or equal to 1"):
        load_recipe(recipe, ["budget.completion_tokens=0"])


def walked(recipe, layout, tmp_path):
    """One walk over generation and judging, with a budget; whether it was held, and the requests in flight at most."""
    ledger = Ledger(layout.ledger, open_budget(layout.ledger, recipe.budget))
    try:
        with EnginePool() as pool:
            engines = pool.engine(recipe.generator), pool.engine(recipe.judge)
            asyncio.run(walk(build_pipeline(recipe, layout, *engines), ledger, Hooks()))
    except BudgetSpent as spent:
        assert "Raise `budget`" in spent.remedy
        return True
    finally:
        ledger.close()
    return False


def spent(path):
    totals = stage_totals(path).values()
    return sum(one["completion_tokens"] for one in totals), sum(one["prompt_tokens"] for one in totals)


@pytest.mark.parametrize("kind", ["completion_tokens", "prompt_tokens"])
def test_a_walk_stops_at_its_budget_and_goes_on_with_more(tmp_path, kind):
    with FakeOpenAI(latency=0.01) as server:
        path = write_recipe(tmp_path, server.url, per_category=1)
        recipe, layout = load_recipe(path), RunLayout(tmp_path / "run")
        prepare(recipe, layout, Path("."), Observer())
        whole = RunLayout(tmp_path / "whole")
        prepare(recipe, whole, Path("."), Observer())
        assert not walked(recipe, whole, tmp_path)
        in_all = dict(zip(("completion_tokens", "prompt_tokens"), spent(whole.ledger), strict=True))[kind]
        largest = largest_request(whole.ledger, kind)

        limits = [in_all // 4, in_all // 2, 2 * in_all]
        for limit, held in zip(limits, (True, True, False), strict=True):
            asked = load_recipe(path, [f"budget.{kind}={limit}"])
            calls = server.calls
            assert walked(asked, layout, tmp_path) is held
            now = dict(zip(("completion_tokens", "prompt_tokens"), spent(layout.ledger), strict=True))[kind]
            assert not held or limit <= now < limit + STEPS * CONCURRENCY * largest
            calls = server.calls
            if held:  # what is spent starts nothing at all
                assert walked(asked, layout, tmp_path)
                assert server.calls == calls
        assert finished(layout.root).keys() == finished(whole.root).keys()


def largest_request(ledger, kind):
    """Most tokens that one request brought."""
    with sqlite3.connect(ledger) as connection:
        most = connection.execute(f"SELECT MAX({kind}) FROM calls").fetchone()[0]
    connection.close()
    return most * (SAMPLES if kind == "completion_tokens" else 1)


@pytest.mark.integration
def test_a_build_at_its_budget_is_stopped_in_good_order_and_resumes(tmp_path):
    with FakeOpenAI() as server:
        recipe = write_recipe(tmp_path, server.url, per_category=1)
        out = tmp_path / "run"
        done = build(recipe, out, "--set", "budget.completion_tokens=600")
        assert done.returncode == 1
        assert "The token budget is spent" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (out / "manifest.json").exists()
        chosen = run("select", out, "--json")
        assert json.loads(chosen.stdout)["counts"]["prompts"], "the sets of what is there"
        assert build(recipe, out).returncode == 0
        assert build(recipe, tmp_path / "whole").returncode == 0
    assert keys(out) == keys(tmp_path / "whole")
