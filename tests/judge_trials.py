"""One trial of the judge's numbers against a simulated judge of known error: what was said, and what is true."""

from __future__ import annotations

import random
from math import sqrt
from typing import Any

import polars as pl
from simulated_judge import CLAUSE_ROWS, SimulatedJudge, candidates_for

from specdistill.builders.calibration import calibrate, population_of, threshold_for
from specdistill.builders.comparing import order_numbers
from specdistill.builders.selection import decide_all
from specdistill.cards.judge_numbers import judge
from specdistill.errors import SelectionError
from specdistill.schemas.labels import LABELS
from specdistill.schemas.recipe import Recipe

Trial = dict[str, tuple[float | None, float | None, float]]
"""Name to (low, high, truth)."""


def recipe(**judge_settings: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "t",
            "spec": "safety",
            "prompts": [{"path": "p.jsonl"}],
            "generator": {"model": "m", "samples": 4},
            "judge": {"model": "j", "k": 5, "threshold": 0.4, "aggregate": "mean", **judge_settings},
        }
    )


def label_rows(
    levels: dict[str, int], scores: dict[str, float], count: int, seed: int, borderline: bool
) -> pl.DataFrame:
    """Labels by the truth for some judged candidates: at random, or mostly of those near the threshold."""
    rng = random.Random(seed)
    near = {key: 1 / (0.02 + abs(score - 0.4)) if borderline else 1.0 for key, score in scores.items()}
    drawn = sorted(near, key=lambda key: rng.random() ** (1 / near[key]), reverse=True)[:count]
    return LABELS.frame([{"id": key, "label": levels[key] == 3, "score": (levels[key] - 1) / 4} for key in drawn])


def trial(seed: int, *, prompts: int = 120, labels: int = 150, target: float | None = None) -> Trial:
    """A run judged by a fresh simulated judge, with its interval and the truth for every parameter.

    Every third trial labels borderline rows first, as an audit does; `target` chooses the threshold from the labels.
    """
    rng = random.Random(seed)
    fake = SimulatedJudge(
        bias=rng.uniform(0.0, 0.3),
        noise=rng.uniform(0.1, 0.6),
        abstain=rng.uniform(0.02, 0.3),
        order=rng.uniform(0.0, 0.5),
        seed=seed,
    )
    asked, sampled, levels = candidates_for(prompts, 4, seed)
    judged = fake.judgments(levels, 5)
    wanted = recipe(min_votes=1)
    weights = wanted.judge.weights
    population = population_of([decide_all(asked, sampled, judged, CLAUSE_ROWS, wanted)])
    known = label_rows(levels, dict(population.select("id", "score").iter_rows()), labels, seed, seed % 3 == 0)
    if target is not None:
        try:
            threshold = threshold_for(population, known, target, wanted.judge.threshold)
        except SelectionError:
            threshold = wanted.judge.threshold
        wanted = recipe(min_votes=1, threshold=threshold)
        population = population_of([decide_all(asked, sampled, judged, CLAUSE_ROWS, wanted)])
    found = calibrate(population, known, wanted.judge.threshold)
    accepted = population.filter("accepted")["id"].to_list()
    truth = sum(levels[key] == 3 for key in accepted) / max(1, len(accepted))
    numbers = judge({"judgments": judged.lazy()}, wanted.judge.threshold, weights, wanted.judge.aggregate)
    pairs = [(low, high) for low in levels for high in [low[:-1] + "3"] if low != high and levels[low] != levels[high]]
    order = order_numbers(fake.comparisons(pairs, levels))
    compliance = numbers["by_criterion"][0]["sd"]
    bias, precise = found["bias"]["score"], found["accepted"]
    return {
        "bias": (bias["low"], bias["high"], fake.score_bias),
        "standard deviation": (numbers["sd"]["low"], numbers["sd"]["high"], sqrt(fake.score_variance(weights))),
        "standard deviation of a criterion": (compliance["low"], compliance["high"], sqrt(fake.criterion_variance)),
        "abstention": (numbers["abstention"]["low"], numbers["abstention"]["high"], fake.abstain),
        "order effect": (order["first"]["low"], order["first"]["high"], (1 + fake.order) / 2),
        "precision of the accepted": (precise["low"], precise["high"], truth),
    }


def held(found: tuple[float | None, float | None, float]) -> bool:
    """Whether the truth lies in the interval; no interval holds nothing."""
    low, high, truth = found
    return low is not None and high is not None and low - 1e-12 <= truth <= high + 1e-12
