"""Selecting anew with other settings: which settings that may be, and the selection itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from specdistill.builders.build import Observer, Result, derive
from specdistill.builders.calibration import keep_labels, population_of, stored_labels, threshold_for
from specdistill.builders.keys import generator_digest, judge_digest
from specdistill.builders.run import locked, open_run, save_recipe
from specdistill.builders.selection import decide_run
from specdistill.builders.stored import Stored
from specdistill.errors import SelectionError
from specdistill.schemas.labels import read_labels
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.recipe_file import load_recipe


def reselect(
    root: Path,
    overrides: Sequence[str] = (),
    *,
    labels: Path | None = None,
    precision: float | None = None,
    observer: Observer | None = None,
) -> Result:
    """Derive all sets of a run again, without a model call.

    Args:
        overrides: `key=value` pairs over the run's recipe, which is rewritten with them.
        labels: file of human labels; they are kept in the run.
        precision: set the threshold to the lowest one whose accepted rows are good in at least this share, by the
            run's labels.
        observer: told how far it is where settings of the screens changed.

    Raises:
        SelectionError: a setting asks for rows that are not there, or labels that cannot be read or do not suffice.
        RunError: there is no run, or another process builds in it.
    """
    layout, before = open_run(root)
    given = read_labels(labels) if labels else None
    with locked(layout):
        recipe = load_recipe(layout.recipe, overrides)
        refuse_new_work(before, recipe, layout)
        known = stored_labels(layout) if given is None else keep_labels(layout, given)
        if precision is not None:
            recipe = load_recipe(
                layout.recipe, [*overrides, f"judge.threshold={reaching(precision, recipe, layout, known)!r}"]
            )
        save_recipe(layout, recipe)
        return derive(recipe, layout, observer)


def reaching(target: float, recipe: Recipe, layout: RunLayout, labels: pl.DataFrame) -> float:
    """The threshold that gives a wanted precision, by the run's labels.

    Raises:
        SelectionError: there are no labels, or none suffices.
    """
    if labels.is_empty():
        raise SelectionError(
            "The run has no human labels to find a threshold by.",
            "Give --labels FILE with id,label.",
            file=layout.labels,
        )
    with decide_run(Stored(layout, recipe)) as decided:
        population = population_of(decided)
    return threshold_for(population, labels, target, recipe.judge.threshold)


def refuse_new_work(before: Recipe, after: Recipe, layout: RunLayout) -> None:
    """Settings that need a model call are `build`'s."""
    same = {
        "spec": before.spec == after.spec,
        "context.examples": before.context.examples == after.context.examples,
        "prompts": before.prompts == after.prompts,
        "clean": before.clean == after.clean,
        "decontaminate": (before.decontaminate, before.overlap) == (after.decontaminate, after.overlap),
        "classifier": before.classifier == after.classifier,
        "evaluation": before.evaluation == after.evaluation,
        "generator": generator_digest(before.generator) == generator_digest(after.generator),
        "generator.samples": after.generator.samples <= before.generator.samples,
        "contrast": after.contrast is None or after.contrast == before.contrast,
        "judge": not judged(after).keys() - judged(before).keys(),
        "judge.adaptive": before.judge.adaptive == after.judge.adaptive,
        "judge.k": all(k <= judged(before).get(key, k) for key, k in judged(after).items()),
        "repair": after.repair is None or after.repair == before.repair,
        "constitution": after.constitution is None or after.constitution == before.constitution,
        "preference.pairwise": after.preference.pairwise is None
        or after.preference.pairwise == before.preference.pairwise,
    }
    changed = [key for key, is_same in same.items() if not is_same]
    if changed:
        raise SelectionError(
            f"Changing {', '.join(changed)} needs model calls, which select does not make.",
            "Change the recipe and run `specdistill build` with the same --out: what is there is kept.",
            file=layout.root,
        )


def judged(recipe: Recipe) -> dict[str, int]:
    """Digest of each judge to its samples a candidate."""
    return {judge_digest(one): one.k for one in recipe.judge.judges}
