"""A run folder: opening it for a build, and reading what of it belongs to the current recipe and spec."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from specdistill.builders.parts import damaged_parts, parquet_bytes, read_parts, set_aside, write_part
from specdistill.builders.pool import Prompts
from specdistill.errors import RunError, RunLocked
from specdistill.schemas.files import disk_error, write_whole
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.recipe_file import dump_recipe, load_recipe
from specdistill.schemas.rows import CANDIDATES, CLAUSES, JUDGMENTS, PROMPTS
from specdistill.schemas.vocabulary import Arm

LEFT_BY_WRITERS = (".*.tmp", "*/.*.tmp", "spec/*/.*.tmp", "datasets/*/.*.tmp")
"""Temporary files of writers that were killed, seen from the run folder; folders of publishers are left alone."""

LOCK_TRIES, LOCK_WAIT = 5, 0.1
"""Tries for the lock of a run, and seconds between them."""


@contextmanager
def locked(layout: RunLayout) -> Iterator[None]:
    """Hold the run folder: one build at a time. The lock goes with the process, however it ends.

    Raises:
        RunLocked: another process builds there.
        DiskError: the folder cannot be made.
    """
    try:
        layout.root.mkdir(parents=True, exist_ok=True)
        handle = os.open(layout.lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as exc:
        raise disk_error(layout.root, exc) from exc
    try:
        try:
            take_lock(handle)
        except OSError as exc:
            holder = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
            raise RunLocked(
                f"Another build (process {holder}) is at work in this run.",
                "Wait for it, stop it, or give another folder with --out.",
                file=layout.root,
            ) from exc
        os.truncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def take_lock(handle: int) -> None:
    """Lock a file for this process alone.

    A `status` that looks whether somebody builds holds the lock for a moment, so one refusal means nothing yet.

    Raises:
        OSError: another process keeps it.
    """
    for _ in range(LOCK_TRIES - 1):
        with suppress(OSError):
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(LOCK_WAIT)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(layout: RunLayout) -> bool:
    """Whether a build is at work."""
    if not layout.lock.exists():
        return False
    handle = os.open(layout.lock, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def open_run(root: Path) -> tuple[RunLayout, Recipe]:
    """A run that exists, and its recipe.

    Raises:
        RunError: there is no run.
    """
    layout = RunLayout(root)
    if not layout.recipe.is_file():
        raise RunError("This is no run folder: it has no recipe.yaml.", "Give a folder made by build.", file=root)
    return layout, load_recipe(layout.recipe)


def save_recipe(layout: RunLayout, recipe: Recipe) -> None:
    """Write `recipe.yaml`, only if it changed."""
    text = dump_recipe(recipe).encode()
    if not layout.recipe.exists() or layout.recipe.read_bytes() != text:
        write_whole(layout.recipe, text)


def save_prompts(layout: RunLayout, prompts: pl.DataFrame) -> None:
    """Make the prompts of the run exactly these: the new part first, then older ones go."""
    kept = write_part(layout.prompts, prompts)
    for part in layout.prompts.glob("part-*.parquet"):
        if part != kept:
            part.unlink()


def save_cleaning(layout: RunLayout, made: Prompts) -> None:
    """Write what became of the sources' rows: removals, evaluation picks, rows for people to label, the numbers."""
    write_whole(layout.removed, parquet_bytes(made.removed))
    if made.evaluation.height:
        write_whole(layout.evaluation, parquet_bytes(made.evaluation))
    else:
        layout.evaluation.unlink(missing_ok=True)
    if made.unsure:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made.unsure)
        write_whole(layout.unsure, lines.encode())
    else:
        layout.unsure.unlink(missing_ok=True)
    write_whole(layout.cleaning, (json.dumps(made.summary, indent=1, ensure_ascii=False) + "\n").encode())


def heal(layout: RunLayout) -> list[Path]:
    """Set damaged parts aside; their rows come back from the ledger. Also drops temporary files of killed writers.

    Returns:
        Where the damaged parts are now.
    """
    for pattern in LEFT_BY_WRITERS:
        for temporary in layout.root.glob(pattern):
            temporary.unlink(missing_ok=True)
    return [
        set_aside(part)
        for folder in (layout.prompts, layout.candidates, layout.judgments)
        for part in damaged_parts(folder)
    ]


@dataclass(frozen=True)
class Rows:
    """The rows of a run that belong to its current recipe and spec, and how many do not."""

    prompts: pl.DataFrame
    candidates: pl.DataFrame
    judgments: pl.DataFrame
    clauses: pl.DataFrame
    stale_candidates: int
    stale_judgments: int


def read_rows(layout: RunLayout, recipe: Recipe) -> Rows:
    """Read a run.

    A candidate is current when its prompt is in the run, its generator is the recipe's, its rendered spec is today's
    and its sample index is asked for; a judgment when its candidate is and its judge and spec are.

    Raises:
        RunError: a part cannot be read.
    """
    from specdistill.builders.contexts import SpecContexts
    from specdistill.builders.tasks import generator_digest, judge_digest, rewrite_digest

    prompts = read_parts(layout.prompts, PROMPTS)
    clauses = pl.read_parquet(layout.clauses) if layout.clauses.exists() else CLAUSES.empty()
    candidates, judgments = read_parts(layout.candidates, CANDIDATES), read_parts(layout.judgments, JUDGMENTS)
    contexts = SpecContexts.load(layout.spec, examples=recipe.context.examples)
    categories = prompts["category"].unique().sort().to_list()
    shown = pl.DataFrame(
        {"category": categories, "shown": [contexts.digest(category) for category in categories]},
        schema={"category": pl.String, "shown": pl.String},
    )
    by_generator, by_rewriting = generator_digest(recipe.generator), rewrite_digest(recipe.generator)
    asked = {Arm.SPEC.value: recipe.generator.samples}
    if recipe.contrast:
        asked[Arm.CONTRAST.value] = recipe.contrast.samples
    if recipe.repair:
        asked[Arm.REPAIR.value] = recipe.repair.samples
    if recipe.contrast and recipe.constitution:
        asked[Arm.CONSTITUTION.value] = recipe.constitution.samples
    wanted = pl.col("arm").replace_strict(asked, default=0, return_dtype=pl.Int32)
    known = pl.when(pl.col("parent_id").is_null()).then(pl.lit(by_generator)).otherwise(pl.lit(by_rewriting))
    current = (
        candidates.join(prompts.select("prompt_id", "category"), on=["prompt_id", "category"], how="semi")
        .join(shown, on="category", how="left")
        .filter(
            (pl.col("generator_digest") == known)
            & (pl.col("spec_digest").is_null() | (pl.col("spec_digest") == pl.col("shown")))
            & (pl.col("sample_index") < wanted)
        )
        .drop("shown")
    )
    first = current.filter(pl.col("parent_id").is_null())
    made = current.join(first.select(pl.col("candidate_id").alias("parent_id")), on="parent_id", how="semi")
    current = pl.concat([first, made])
    judges = {judge_digest(one): one.k for one in recipe.judge.judges}
    samples = pl.col("judge_digest").replace_strict(judges, default=0, return_dtype=pl.Int32)
    judged = (
        judgments.join(current.select("candidate_id"), on="candidate_id", how="semi")
        .join(shown, on="category", how="left")
        .filter((pl.col("spec_digest") == pl.col("shown")) & (pl.col("sample_index") < samples))
        .drop("shown")
    )
    return Rows(
        prompts,
        current.sort("candidate_id"),
        judged.sort("judgment_id"),
        clauses,
        candidates.height - current.height,
        judgments.height - judged.height,
    )


def write_sets(layout: RunLayout, sets: dict[str, dict[str, pl.DataFrame]]) -> dict[str, dict[str, int]]:
    """Write every derived set; files of splits that no longer exist go.

    Returns:
        Config to split to rows.
    """
    counts: dict[str, dict[str, int]] = {}
    for config, splits in sets.items():
        for split, frame in splits.items():
            write_whole(layout.dataset(config, split), parquet_bytes(frame))
        for path in (layout.datasets / config).glob("*.parquet"):
            if path.stem not in splits:
                path.unlink()
        counts[config] = {split: frame.height for split, frame in splits.items()}
    return counts
