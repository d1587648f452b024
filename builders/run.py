"""A run folder: opening it for a build, and what is written to it besides rows."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl

from specdistill.builders.parts import damaged_parts, parquet_bytes, set_aside, write_part
from specdistill.builders.pool import Prompts
from specdistill.errors import RunError, RunLocked
from specdistill.schemas.files import disk_error, write_whole
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.recipe_file import dump_recipe, load_recipe

LEFT_BY_WRITERS = (".*.tmp", "*/.*.tmp", "spec/*/.*.tmp", "datasets/*/.*.tmp", "screens/*/.*.tmp")
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
        for folder in (layout.prompts, layout.candidates, layout.judgments, layout.comparisons)
        for part in damaged_parts(folder)
    ]
