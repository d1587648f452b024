"""Quotas: exactly the rows asked for where that can be, an honest deficit where not, samples spent where they lack."""

import json
import random
from collections import Counter

import polars as pl
import pytest
from aiohttp import web
from build_helpers import build
from fake_openai_server import FakeOpenAI
from hypothesis import given, settings
from hypothesis import strategies as st

from specdistill.builders.quotas import Cell, cell, cells, open_slots, own_samples, spend, tries, upper
from specdistill.builders.trimming import trim
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.rows import PROMPTS

BASE = {"name": "t", "spec": "safety", "prompts": [{"path": "p"}], "generator": {"model": "m", "samples": 4}}


def recipe(**quota):
    return Recipe.model_validate(BASE | {"judge": {"model": "j"}, "quota": quota})


def prompts(*rows):
    return PROMPTS.frame(
        [
            dict.fromkeys(PROMPTS.names)
            | {"prompt": [{"role": "user", "content": key}], "source": "s", "group_id": key, "prompt_id": key}
            | {"category": category, "outcome_hint": outcome}
            for key, category, outcome in rows
        ]
    )


def decided(*rows):
    names = ("candidate_id", "prompt_id", "category", "score", "clauses", "reason", "arm")
    table = [dict(zip(names, (*row, "spec"), strict=True)) for row in rows]
    types = dict.fromkeys([*names, "audit"], pl.String) | {"score": pl.Float64, "clauses": pl.List(pl.String)}
    return pl.DataFrame(table, schema=types)


def kept(frame):
    return frame.filter(pl.col("reason").is_null())["candidate_id"].to_list()


def test_trimming_prefers_clauses_then_other_prompts_then_score():
    asked = prompts(("p", "a", None), ("q", "a", None), ("r", "a", None))
    rows = decided(
        ("1", "p", "a", 0.9, ["A"], None),
        ("2", "p", "a", 1.0, ["A"], None),
        ("3", "q", "a", 0.8, ["A"], None),
        ("4", "p", "a", 0.7, ["B", "C"], None),
        ("5", "r", "a", 0.6, [], None),
        ("6", "r", "a", 1.0, ["D"], "below_threshold"),
    )

    def taken(number):
        return kept(trim(rows, asked, recipe(per_category=number).quota))

    assert taken(1) == ["4"], "two new clauses beat any score"
    assert taken(2) == ["3", "4"], "a clause, from a prompt that gave no row yet"
    assert taken(3) == ["3", "4", "5"], "another prompt, whatever its score"
    assert taken(4) == ["2", "3", "4", "5"], "then the best score"
    assert trim(rows, asked, recipe(per_category=9).quota)["reason"].to_list()[-1] == "below_threshold"


def test_outcomes_are_filled_first_and_the_category_with_any():
    asked = prompts(*((f"{o}{n}", "a", o) for o in ("refuse", "comply") for n in range(5)))
    rows = decided(*((key, key, "a", 0.5, [], None) for key in asked["prompt_id"].to_list()))
    trimmed = trim(rows, asked, recipe(per_category=6, per_outcome={"refuse": 2, "comply": 1}).quota)
    assert len(kept(trimmed)) == 6
    only = trim(rows, asked, recipe(per_outcome={"refuse": 2}).quota)
    assert sum(key.startswith("refuse") for key in kept(only)) == 2
    assert sum(key.startswith("comply") for key in kept(only)) == 5, "an outcome without a quota has no limit"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 9),
            st.sampled_from(["a", "b"]),
            st.floats(0, 1),
            st.sets(st.sampled_from("ABCD")),
            st.booleans(),
        ),
        max_size=40,
    ),
    st.integers(1, 8),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_trimming_keeps_its_limits_and_does_not_look_at_the_order(found, wanted, per_prompt, chance):
    asked = prompts(*((f"{category}{n}", category, None) for category in "ab" for n in range(10)))
    rows = decided(
        *(
            (f"c{number:02}", f"{category}{prompt}", category, score, sorted(clauses), None if good else "leak")
            for number, (prompt, category, score, clauses, good) in enumerate(found)
        )
    )
    quota = recipe(per_category=wanted, max_samples_per_prompt=per_prompt).quota
    trimmed = trim(rows, asked, quota)
    stays = trimmed.filter(pl.col("reason").is_null())
    for category in "ab":
        offered = rows.filter((pl.col("category") == category) & pl.col("reason").is_null())
        possible = offered.group_by("prompt_id").len()["len"].clip(upper_bound=per_prompt).sum()
        assert stays.filter(pl.col("category") == category).height == min(wanted, possible)
    assert (stays.group_by("prompt_id").len()["len"] <= per_prompt).all()
    order = chance.sample(range(rows.height), rows.height)
    assert trim(rows[order], asked, quota).equals(trimmed)


@pytest.mark.parametrize(
    ("good", "spent", "left", "room", "state"),
    [
        (20, 30, 5, None, "met"),
        (3, 30, 500, None, "open"),
        (0, 10, 5, None, "open"),
        (0, 40, 100, None, "hopeless"),
        (0, 40, 0, None, "used_up"),
        (5, 40, 100, 0, "budget"),
        (0, 0, 0, None, "used_up"),
    ],
)
def test_the_state_of_a_quota(good, spent, left, room, state):
    rows = pl.DataFrame(
        {
            "reason": [None] * good
            + ["leak"] * ((spent - good) // 3)
            + ["no_verdict"] * (spent - good - (spent - good) // 3)
        },
        schema={"reason": pl.String},
    )
    found = cell("a", None, 20, rows, left, room)
    assert found.state == state
    assert found.main_reason == ("no_verdict" if spent > good else None)


def test_the_interval():
    assert upper(0, 0) == 1.0
    assert upper(0, 40) == pytest.approx(0.0876, abs=1e-3)
    assert upper(10, 10) == pytest.approx(1.0)


def simulated(rates, sizes, quota, samples=4, seed=0):
    """Rounds against a coin: category to acceptance rate and prompts. Returns the last states."""
    asked = prompts(*((f"{c}{n:04}", c, None) for c, size in sizes.items() for n in range(size)))
    wanted = Recipe.model_validate(
        BASE | {"judge": {"model": "j"}, "quota": quota, "generator": {"model": "m", "samples": samples}}
    )
    chance, rows, spent = random.Random(seed), [], set()
    for _ in range(60):
        frame = trim(decided(*rows), asked, wanted.quota)
        good = frame.filter(pl.col("reason").is_null() | (pl.col("reason") == "over_quota")).group_by("prompt_id").len()
        full = {key for key, number in good.iter_rows() if number >= wanted.quota.max_samples_per_prompt}
        slots = open_slots(asked, wanted, spent, full)
        states = cells(frame, asked, wanted, slots)
        step = spend(states, slots, asked)
        if not step:
            return {one.category: one for one in states}
        for prompt, indexes in sorted(step.items()):
            for index in indexes:
                spent.add((prompt, index))
                fate = None if chance.random() < rates[prompt[0]] else "below_threshold"
                rows.append((f"{prompt}-{index}", prompt, prompt[0], 0.5, [], fate))
    raise AssertionError("the rounds do not end")


def test_rounds_meet_what_can_be_met_and_stop_where_nothing_comes():
    sizes = {"a": 400, "b": 20, "c": 60, "d": 100}
    found = simulated(
        {"a": 0.5, "b": 0.6, "c": 0.01, "d": 0.2}, sizes, {"per_category": 20, "max_samples_per_prompt": 2}
    )
    assert {key: one.state for key, one in found.items()} == {"a": "met", "b": "met", "c": "hopeless", "d": "met"}
    assert {key: one.accepted for key, one in found.items() if key != "c"} == {"a": 20, "b": 20, "d": 20}
    assert found["c"].accepted < 20
    assert found["c"].candidates < 240, "it does not spend all samples on what cannot be"
    assert found["a"].candidates < 100, "the large category is not asked for more than it needs"


def test_a_budget_ends_the_rounds():
    found = simulated({"a": 0.5}, {"a": 400}, {"per_category": 50, "budget": 12})
    assert (found["a"].state, found["a"].candidates) == ("budget", 12)


def test_calls_that_failed_are_spent_for_the_session_that_made_them_alone():
    asked = prompts(*((f"p{n}", "a", None) for n in range(40)))
    wanted = recipe(per_category=30, budget=30)
    sick = [(f"p{n}-0", f"p{n}", "a", None, [], "call_failed") for n in range(30)]
    rows = decided(*sick).with_columns(pl.lit(0, pl.Int32).alias("sample_index"))
    mine = {(f"p{n}", 0) for n in range(30)}

    def state(session):
        slots = open_slots(asked, wanted, own_samples(rows) | session, set())
        [found] = cells(tries(rows, session), asked, wanted, slots)
        return found.state, found.candidates, sum(map(len, spend([found], slots, asked).values()))

    assert state(mine) == ("budget", 30, 0), "a session asks for no more than the budget, whatever became of it"
    assert state(set()) == ("open", 0, 30), "the next one asks again for all of it"
    assert state({(f"p{n}", 0) for n in range(15)}) == ("open", 15, 15)
    assert state({(f"p{n}", 0) for n in range(25)})[0] == "hopeless", "nor does it go on against a sick engine"
    repair = rows.head(1).with_columns(pl.lit("repair").alias("arm"))
    assert tries(repair, {("p0", 0)}).is_empty(), "a repair is no sample of a round"


def test_outcomes_have_cells_of_their_own():
    asked = prompts(*((f"{o}{n}", "a", o) for o in ("refuse", "comply") for n in range(30)))
    wanted = recipe(per_category=12, per_outcome={"refuse": 8})
    slots = open_slots(asked, wanted, set(), set())
    states = cells(decided(), asked, wanted, slots)
    assert [(one.outcome, one.wanted) for one in states] == [("refuse", 8), (None, 12)]
    first = spend(states, slots, asked)
    assert sum(map(len, first.values())) == 12
    assert sum(len(indexes) for key, indexes in first.items() if key.startswith("refuse")) >= 8
    assert isinstance(states[0], Cell)


@pytest.mark.parametrize("more", [{}, {"per_category": 40}])
@pytest.mark.parametrize("budget", [4, 10, 25, 100])
def test_the_cells_of_a_category_share_its_budget(budget, more):
    outcomes = ("refuse", "comply", "safe_complete")
    asked = prompts(*((f"{category}{o}{n}", category, o) for category in "ab" for o in outcomes for n in range(20)))
    wanted = recipe(per_outcome=dict.fromkeys(outcomes, 10), budget=budget, **more)
    slots = open_slots(asked, wanted, set(), set())
    first = spend(cells(decided(), asked, wanted, slots), slots, asked)
    for category in "ab":
        spent = Counter()
        for key, indexes in first.items():
            if key[0] == category:
                spent[key[1:].rstrip("0123456789")] += len(indexes)
        assert spent.total() == min(budget, more.get("per_category", 30))
        if budget < 30:
            assert max(spent.values()) - min(spent[outcome] for outcome in outcomes) <= 1, "none is left without"


class ScoringFakeOpenAI(FakeOpenAI):
    """Judges by a coin whose bias is written into the prompt as `odds 0.3`; everything else as the fake server does."""

    def _answer(self, body, *, fault=""):
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
        if "abstain" not in schema.get("properties", {}):
            return super()._answer(body, fault=fault)
        text = body["messages"][-1]["content"]
        odds = float(text.partition("odds ")[2].split()[0].rstrip(".,"))
        score = 5 if random.Random(text).random() < odds else 1
        verdict = {name: score for name, part in schema["properties"].items() if part.get("type") == "integer"}
        verdict |= {"justification": "as the coin fell", "abstain": False}
        choice = {"index": 0, "message": {"role": "assistant", "content": json.dumps(verdict)}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


SKEWED = """
name: skewed
spec: safety
prompts: [{{path: p.jsonl}}]
clean: {{near: null, meaning: null, private: ignore}}
generator: {{engine: openai, base_url: "{url}", model: fake, samples: 4, reasoning: guided, max_tokens: 300}}
judge: {{engine: openai, base_url: "{url}", model: fake, k: 1, threshold: 0.5, max_tokens: 300}}
screens: {{min_reasoning_chars: 0, max_repeat_share: 1.0}}
quota: {{per_category: 12, max_samples_per_prompt: 2}}
"""


class SickFakeOpenAI(ScoringFakeOpenAI):
    """Refuses every request while it is `sick`."""

    sick = True

    async def _chat(self, request):
        if not self.sick:
            return await super()._chat(request)
        self.calls += 1
        return web.json_response({"error": {"message": "out of order"}}, status=400)


@pytest.mark.integration
def test_calls_that_failed_are_tried_again_by_the_next_build(tmp_path):
    lines = [{"prompt": f"question number {n}, odds 1.0 here", "category": "violence"} for n in range(30)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with SickFakeOpenAI() as server:
        text = SKEWED.format(url=server.url).replace("per_category: 12", "per_category: 12, budget: 12")
        (tmp_path / "recipe.yaml").write_text(text.replace("reasoning: guided,", "reasoning: guided, retries: 0,", 1))
        build(tmp_path / "recipe.yaml", tmp_path / "run", "--json")
        assert server.calls == 12, "no more than the budget in one session"
        server.sick = False
        done = build(tmp_path / "recipe.yaml", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["shortfalls"] == []
    sft = pl.concat([pl.read_parquet(path) for path in (tmp_path / "run" / "datasets" / "sft").glob("*.parquet")])
    assert sft.height == 12


@pytest.mark.integration
def test_a_skewed_pool_gives_the_quota_where_it_can_and_says_where_not(tmp_path):
    pool = {"violence": (240, 0.5), "harassment": (12, 0.6), "self-harm": (40, 0.01)}
    lines = [
        {"prompt": f"{category} question number {n}, odds {odds} here", "category": category}
        for category, (size, odds) in pool.items()
        for n in range(size)
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "run"
    with ScoringFakeOpenAI() as server:
        (tmp_path / "recipe.yaml").write_text(SKEWED.format(url=server.url))
        done = build(tmp_path / "recipe.yaml", out, "--json")
        assert done.returncode == 0, done.stderr
        calls = server.calls
        again = build(tmp_path / "recipe.yaml", out, "--strict")
        assert server.calls == calls, "a finished run asks for nothing more"
    sft = pl.concat([pl.read_parquet(path) for path in (out / "datasets" / "sft").glob("*.parquet")])
    counts = dict(sft.group_by("category").len().iter_rows())
    assert counts["violence"] == counts["harassment"] == 12
    assert counts.get("self-harm", 0) < 12
    said = json.loads(done.stdout)["shortfalls"]
    assert len(said) == 1
    assert "self-harm" in said[0]
    assert "below_threshold" in said[0]
    quota = {row["category"]: row for row in json.loads((out / "manifest.json").read_text())["quota"]}
    assert quota["self-harm"]["state"] == "hopeless"
    spent = {category: row["candidates"] for category, row in quota.items()}
    assert spent["violence"] < 60
    assert spent["self-harm"] < 160
    assert again.returncode == 1
    assert "These quotas are not met: self-harm" in again.stderr
    page = (out / "report" / "README.md").read_text()
    assert "self-harm" in page
