"""Which judge gives the reward: the one the data was built with, unless another is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from specdistill.errors import RecipeError, UsageError
from specdistill.schemas.recipe import Judge
from specdistill.schemas.recipe_file import decode
from specdistill.schemas.safe_yaml import read_yaml
from specdistill.train.arguments import RewardArguments
from specdistill.train.data import PublishedSet


def judge_for(published: PublishedSet, asked: RewardArguments) -> Judge:
    """The judge's configuration: rubric and prompt version are the build's code, the rest is this.

    Raises:
        UsageError: the set names no judge and none was given.
        RecipeError: the judge section cannot be read.
    """
    if asked.judge:
        section, where = _section(Path(asked.judge)), asked.judge
    else:
        section = dict(published.manifest.recipe.get("judge") or {})
        where = f"{published.source.asked}/manifest.json"
        if not section:
            raise UsageError(
                f"'{published.source.asked}' does not say which judge it was built with.",
                "Name one with --judge FILE.yaml (a recipe, or only its judge section).",
            )
    if asked.judge_base_url:
        section |= {"engine": "openai", "base_url": asked.judge_base_url}
    if asked.judge_model:
        section["model"] = asked.judge_model
    if asked.judge_k:
        section["k"] = asked.judge_k
        if (section.get("min_votes") or 0) > asked.judge_k:
            section["min_votes"] = None
    try:
        return Judge.model_validate(section)
    except ValidationError as exc:
        first = exc.errors()[0]
        raise RecipeError(
            f"The judge section is not valid: {first['msg']}.",
            "See the judge section of a recipe.",
            file=where,
            key=".".join(["judge", *(str(part) for part in first["loc"])]),
        ) from exc


def _section(path: Path) -> dict[str, Any]:
    import yaml

    try:
        found = read_yaml(decode(path.read_bytes(), path))
    except OSError as exc:
        raise RecipeError(
            f"The judge file cannot be read ({exc.strerror}).", "Give the path of a YAML file.", file=path
        ) from exc
    except yaml.YAMLError as exc:
        raise RecipeError(f"This is not valid YAML: {exc}.", "Mend the line.", file=path) from exc
    if not isinstance(found, dict):
        raise RecipeError("The judge file is not a mapping.", "Give a recipe, or its judge section.", file=path)
    section = found.get("judge", found)
    return dict(section) if isinstance(section, dict) else {}
