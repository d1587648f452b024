"""Prompts that a run already has: a resumed build does not clean the same pool again.

They are used only where everything that they were made from is equal: the bytes of every file, the commit of every hub
dataset, what the recipe says of prompts, the policy's categories, and the code and packages that do the work. What was
kept is believed only where its own bytes are those that were written.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.builders.code import code_digest
from specdistill.builders.commits import Commits, split_id
from specdistill.builders.labelling import LabelStatus, label_messages, label_schema
from specdistill.builders.parts import read_parts
from specdistill.builders.pool import Labeller, Prompts, make_prompts
from specdistill.builders.steps import Step, nobody
from specdistill.errors import PromptError, RunError
from specdistill.schemas.digest import digest
from specdistill.schemas.files import write_whole
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.pool import REMOVED
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.recipe_prompts import EvalSet, PromptSource
from specdistill.schemas.rows import PROMPTS
from specdistill.specs.model import Spec

HERE = Path(__file__).parent
CODE = (
    "cleaning/*.py",
    "code.py",
    "pool.py",
    "prompts.py",
    "sources.py",
    "file_source.py",
    "parquet_source.py",
    "commits.py",
    "labelling.py",
    "label_task.py",
    "contexts.py",
    "kept_prompts.py",
    "steps.py",
    "../schemas/*.py",
)
"""Whose text is part of the key."""
PACKAGES = (
    "polars",
    "numpy",
    "pyarrow",
    "datasets",
    "rensa",
    "wordllama",
    "py3langid",
    "datafog",
    "kingfisher-secret-scanner",
)
"""Whose versions are."""


def prompts_of(
    layout: RunLayout,
    recipe: Recipe,
    spec: Spec,
    base: Path,
    seeds: list[Path],
    *,
    step: Step = nobody,
    label: Labeller | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Prompts:
    """The run's own prompts where they are what the recipe's sources give, else `make_prompts`.

    Raises:
        PromptError: as `make_prompts`.
    """
    commits = Commits()
    key = key_of(recipe, spec, base, seeds, commits)
    if (kept := kept_prompts(layout, key)) is not None:
        note(f"{kept.table.height:,} cleaned prompts are there: nothing that they were made from changed.")
        return kept
    categories = [category.id for category in spec.categories]
    made = make_prompts(recipe, categories, base, seeds, step=step, label=label, commits=commits)
    # A failed call is asked again in the next build, and a file may have changed while it was read.
    failed = made.summary["labels"].get("samples", {}).get(LabelStatus.FAILED.value, 0)
    return replace(made, key="" if failed or key_of(recipe, spec, base, seeds, commits) != key else key)


def key_of(recipe: Recipe, spec: Spec, base: Path, seeds: list[Path], commits: Commits) -> str:
    """Digest of all that prompts are made from.

    Raises:
        PromptError: a file or hub dataset is not there.
    """
    asked: Any = None
    if recipe.classifier is not None:
        shown = label_messages(spec, [{"role": "user", "content": ""}])
        asked = [recipe.classifier.model_dump(mode="json"), shown, label_schema(spec)]
    return digest(
        code_digest(HERE, CODE, PACKAGES),
        [category.id for category in spec.categories],
        [content(source, base, commits) for source in recipe.prompts],
        [content(asked_set, base, commits) for asked_set in recipe.decontaminate],
        [[path.name, file_digest(path)] for path in seeds if any(source.library for source in recipe.prompts)],
        recipe.clean.model_dump(mode="json"),
        recipe.overlap.model_dump(mode="json"),
        recipe.evaluation.model_dump(mode="json") if recipe.evaluation else None,
        asked,
    )


def content(source: PromptSource | EvalSet, base: Path, commits: Commits) -> dict[str, Any]:
    """What the recipe says of a source, with the digest of its file or the commit of its dataset."""
    said = source.model_dump(mode="json", exclude={"path"})
    if source.path:
        return said | {"file": source.path.name, "digest": file_digest(base / source.path)}
    if source.hub:
        return said | {"commit": commits.of(*split_id(source.hub, source.revision))}
    return said


def file_digest(path: Path) -> str:
    """Digest of a file's bytes.

    Raises:
        PromptError: it is not there or cannot be read.
    """
    found = blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    except OSError as exc:
        raise PromptError(
            f"The file cannot be read: {exc.strerror}.",
            "Paths in a recipe are relative to the recipe's own folder.",
            file=path,
        ) from exc
    return found.hexdigest()


def keep(layout: RunLayout, made: Prompts) -> None:
    """Note what the run's prompts were made from, after they were written."""
    if not made.key:
        layout.cleaned_from.unlink(missing_ok=True)
        return
    told = {"key": made.key, "files": {name: file_digest(path) for name, path in files_of(layout).items()}}
    write_whole(layout.cleaned_from, (json.dumps(told, indent=1) + "\n").encode())


def files_of(layout: RunLayout) -> dict[str, Path]:
    """Every file that the prompts of a run are in, by its name in the run."""
    named = (layout.removed, layout.cleaning, layout.evaluation, layout.unsure)
    found = [*layout.prompts.glob("part-*.parquet"), *(path for path in named if path.exists())]
    return {str(path.relative_to(layout.root)): path for path in sorted(found)}


def kept_prompts(layout: RunLayout, key: str) -> Prompts | None:
    """The run's prompts, or None where they were made from something else or are not whole."""
    try:
        told = json.loads(layout.cleaned_from.read_text("utf-8"))
        if told["key"] != key:
            return None
        if told["files"] != {name: file_digest(path) for name, path in files_of(layout).items()}:
            return None
        evaluation = pl.read_parquet(layout.evaluation) if layout.evaluation.exists() else PROMPTS.empty()
        lines = layout.unsure.read_text("utf-8").splitlines() if layout.unsure.exists() else []
        return Prompts(
            read_parts(layout.prompts, PROMPTS),
            REMOVED.validate(pl.read_parquet(layout.removed)),
            evaluation,
            json.loads(layout.cleaning.read_text("utf-8")),
            [json.loads(line) for line in lines],
            key,
            stored=True,
        )
    except (OSError, ValueError, KeyError, TypeError, PromptError, RunError, pl.exceptions.PolarsError):
        return None  # whatever is wrong with what was kept, the sources are there to make it anew
