"""What a build still has to do: by keys, never by counting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from specdistill.builders.contexts import SpecContexts
from specdistill.builders.pipelines import GENERATE_OF, PARENT_OF, PROMPT_COLUMNS, judge_step
from specdistill.builders.rewrite_tasks import rewrite_id
from specdistill.builders.run import Rows
from specdistill.builders.runner import SAMPLES
from specdistill.builders.screens import SpecFacts, repairable, screen_frame
from specdistill.builders.tasks import candidate_id, generator_digest, judge_digest, judgment_id, rewrite_digest
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.vocabulary import Arm, JudgmentStatus, ParseOutcome


@dataclass(frozen=True)
class Plan:
    """Rows still wanted.

    Attributes:
        rewrite: arm of rewrites to stored candidates (with their prompt) with the rewrites wanted.
        generate: prompt rows with the samples wanted of each generation step under `sample_indexes`.
        judge: arm to stored candidates (with their prompt) with the judge samples wanted.
        candidates_wanted: candidates still to be generated.
        judgments_wanted: judgments still to be made of stored candidates.
    """

    generate: list[dict[str, Any]]
    judge: dict[Arm, list[dict[str, Any]]]
    candidates_wanted: int
    judgments_wanted: int
    rewrite: dict[Arm, list[dict[str, Any]]] = field(default_factory=dict)


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
    for row in rows.prompts.select(PROMPT_COLUMNS).iter_rows(named=True):
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
    rewrite = plan_rewriting(recipe, rows, passing, finished)
    candidates_wanted += sum(len(row[SAMPLES][GENERATE_OF[arm]]) for arm, made in rewrite.items() for row in made)
    judge, judgments_wanted = plan_judging(recipe, rows, contexts, passing)
    return Plan(generate, judge, candidates_wanted, judgments_wanted, rewrite)


def rewrites_of(recipe: Recipe) -> dict[Arm, int]:
    """Arm of rewrites to samples a parent."""
    asked = {Arm.REPAIR: recipe.repair, Arm.CONSTITUTION: recipe.constitution if recipe.contrast else None}
    return {arm: settings.samples for arm, settings in asked.items() if settings}


def plan_rewriting(
    recipe: Recipe, rows: Rows, passing: set[str], finished: set[str]
) -> dict[Arm, list[dict[str, Any]]]:
    """Stored candidates that lack rewrites: leaking answers that can be mended, and answers of the contrast arm."""
    by_arm: dict[Arm, list[dict[str, Any]]] = {}
    facts = SpecFacts.of(rows.clauses, recipe.screens.copied_words)
    by_generator = rewrite_digest(recipe.generator)
    for arm, samples in rewrites_of(recipe).items():
        parents = rows.candidates.filter(pl.col("arm") == PARENT_OF[arm]).join(
            rows.prompts.select("prompt_id", "prompt", "outcome_hint"), on="prompt_id", maintain_order="left"
        )
        by_arm[arm] = []
        for row in parents.sort("category", "candidate_id").iter_rows(named=True):
            fits = repairable(row, facts, recipe.screens) if arm == Arm.REPAIR else row["candidate_id"] in passing
            ids = (rewrite_id(row["candidate_id"], arm, by_generator, index) for index in range(samples if fits else 0))
            if missing := [index for index, key in enumerate(ids) if key not in finished]:
                by_arm[arm].append({**row, SAMPLES: {GENERATE_OF[arm]: missing}})
    return by_arm


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
    judges = [(judge_digest(one), one.k) for one in recipe.judge.judges]
    judge: dict[Arm, list[dict[str, Any]]] = {arm: [] for arm in (*arms_of(recipe), *rewrites_of(recipe))}
    judgments_wanted = 0
    stored = rows.candidates.filter(pl.col("candidate_id").is_in(sorted(passing))).join(
        rows.prompts.select("prompt_id", "prompt", "outcome_hint"), on="prompt_id", how="inner", maintain_order="left"
    )
    for row in stored.sort("category", "candidate_id").iter_rows(named=True):
        shown = contexts.digest(row["category"])
        arm = Arm(row["arm"])
        missing: dict[str, list[int]] = {}
        for number, (by_judge, k) in enumerate(judges):
            ids = (judgment_id(row["candidate_id"], by_judge, shown, index) for index in range(k))
            missing[judge_step(arm, number)] = [index for index, key in enumerate(ids) if key not in finished]
        if any(missing.values()):
            judge[arm].append({**row, SAMPLES: missing})
            judgments_wanted += sum(map(len, missing.values()))
    return judge, judgments_wanted
