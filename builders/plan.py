"""What a build still has to do: by keys, never by counting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from specdistill.builders.contexts import SpecContexts
from specdistill.builders.pipelines import GENERATE_OF, JUDGE_OF
from specdistill.builders.run import Rows
from specdistill.builders.runner import SAMPLES
from specdistill.builders.screens import SpecFacts, screen_frame
from specdistill.builders.tasks import candidate_id, generator_digest, judge_digest, judgment_id
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.vocabulary import Arm, JudgmentStatus, ParseOutcome


@dataclass(frozen=True)
class Plan:
    """Rows still wanted.

    Attributes:
        generate: prompt rows with the samples wanted of each generation step under `sample_indexes`.
        judge: arm to stored candidates (with their prompt) with the judge samples wanted.
        candidates_wanted: candidates still to be generated.
        judgments_wanted: judgments still to be made of stored candidates.
    """

    generate: list[dict[str, Any]]
    judge: dict[Arm, list[dict[str, Any]]]
    candidates_wanted: int
    judgments_wanted: int


def arms_of(recipe: Recipe) -> dict[Arm, int]:
    """Arm to samples a prompt."""
    arms = {Arm.SPEC: recipe.generator.samples}
    if recipe.contrast:
        arms[Arm.CONTRAST] = recipe.contrast.samples
    return arms


def plan(
    recipe: Recipe,
    rows: Rows,
    contexts: SpecContexts,
    passing: set[str],
    spend: Mapping[str, Sequence[int]] | None = None,
) -> Plan:
    """What has no finished row yet. A failed call is not finished.

    Args:
        passing: ids of stored candidates that pass the screens: the others are not judged.
        spend: prompt_id to the samples that a round of a quota may ask for; None for all samples of all prompts.
    """
    finished = set(rows.candidates.filter(pl.col("parse") != ParseOutcome.FAILED)["candidate_id"].to_list())
    by_generator = generator_digest(recipe.generator)
    generate: list[dict[str, Any]] = []
    candidates_wanted = 0
    for row in rows.prompts.select("prompt_id", "prompt", "category").iter_rows(named=True):
        wanted: dict[str, list[int]] = {}
        if spend is not None and row["prompt_id"] not in spend:
            continue
        for arm, samples in arms_of(recipe).items():
            shown = contexts.digest(row["category"]) if arm == Arm.SPEC else None
            ids = (candidate_id(row["prompt_id"], arm, by_generator, shown, index) for index in range(samples))
            now = spend[row["prompt_id"]] if spend is not None and arm == Arm.SPEC else range(samples)
            wanted[GENERATE_OF[arm]] = [index for index, key in enumerate(ids) if key not in finished and index in now]
        missing = sum(map(len, wanted.values()))
        if missing:
            generate.append({**row, SAMPLES: wanted})
            candidates_wanted += missing
    judge, judgments_wanted = plan_judging(recipe, rows, contexts, passing)
    return Plan(generate, judge, candidates_wanted, judgments_wanted)


def passing_ids(rows: Rows, recipe: Recipe) -> set[str]:
    """Stored candidates that pass the screens."""
    facts = SpecFacts.of(rows.clauses, recipe.screens.copied_words)
    screened = screen_frame(rows.candidates, rows.prompts, facts, recipe.screens)
    return set(screened.filter(pl.col("reason").is_null())["candidate_id"].to_list())


def plan_judging(
    recipe: Recipe, rows: Rows, contexts: SpecContexts, passing: set[str]
) -> tuple[dict[Arm, list[dict[str, Any]]], int]:
    """Stored candidates that lack judge samples, by arm, and how many samples they lack."""
    finished = set(rows.judgments.filter(pl.col("status") != JudgmentStatus.FAILED)["judgment_id"].to_list())
    by_judge, k = judge_digest(recipe.judge), recipe.judge.k
    judge: dict[Arm, list[dict[str, Any]]] = {arm: [] for arm in arms_of(recipe)}
    judgments_wanted = 0
    stored = rows.candidates.filter(pl.col("candidate_id").is_in(sorted(passing))).join(
        rows.prompts.select("prompt_id", "prompt"), on="prompt_id", how="inner", maintain_order="left"
    )
    for row in stored.sort("category", "candidate_id").iter_rows(named=True):
        shown = contexts.digest(row["category"])
        ids = (judgment_id(row["candidate_id"], by_judge, shown, index) for index in range(k))
        missing = [index for index, key in enumerate(ids) if key not in finished]
        if missing:
            arm = Arm(row["arm"])
            judge[arm].append({**row, SAMPLES: {JUDGE_OF[arm]: missing}})
            judgments_wanted += len(missing)
    return judge, judgments_wanted
