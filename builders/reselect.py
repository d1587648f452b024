"""Selecting anew with other settings: which settings that may be, and the selection itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from specdistill.builders.build import Result, derive
from specdistill.builders.run import locked, open_run, save_recipe
from specdistill.builders.tasks import generator_digest, judge_digest
from specdistill.errors import SelectionError
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.recipe_file import load_recipe


def reselect(root: Path, overrides: Sequence[str] = ()) -> Result:
    """Derive all sets of a run again, without a model call.

    Args:
        overrides: `key=value` pairs over the run's recipe, which is rewritten with them.

    Raises:
        SelectionError: a setting asks for rows that are not there.
        RunError: there is no run, or another process builds in it.
    """
    layout, before = open_run(root)
    with locked(layout):
        recipe = load_recipe(layout.recipe, overrides)
        refuse_new_work(before, recipe, layout)
        save_recipe(layout, recipe)
        return derive(recipe, layout)


def refuse_new_work(before: Recipe, after: Recipe, layout: RunLayout) -> None:
    """Settings that need a model call are `build`'s."""
    same = {
        "spec": before.spec == after.spec,
        "prompts": before.prompts == after.prompts,
        "generator": generator_digest(before.generator) == generator_digest(after.generator),
        "generator.samples": after.generator.samples <= before.generator.samples,
        "contrast": after.contrast is None or after.contrast == before.contrast,
        "judge": judge_digest(before.judge) == judge_digest(after.judge),
        "judge.k": after.judge.k <= before.judge.k,
    }
    changed = [key for key, is_same in same.items() if not is_same]
    if changed:
        raise SelectionError(
            f"Changing {', '.join(changed)} needs model calls, which select does not make.",
            "Change the recipe and run `specdistill build` with the same --out: what is there is kept.",
            file=layout.root,
        )
