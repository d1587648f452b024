"""The report of a run: `report/README.md`, plots, and `numbers.json`, all from the run's own files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.cards.numbers import Numbers, numbers
from specdistill.cards.plots import CAPTIONS, render_plots
from specdistill.cards.text import Safe, render
from specdistill.errors import RunError
from specdistill.schemas.files import write_whole
from specdistill.schemas.invariants import scan_frame, scan_sets
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.manifest import Manifest
from specdistill.schemas.verify import read_manifest

SHOWN_PAIRS, SHOWN_CHARS = 20, 160
"""Matched pairs on the page, and characters of each text; `cleaning/removed.parquet` has all of them whole."""


def write_report(layout: RunLayout) -> Path:
    """Measure a finished run and write its report.

    Returns:
        `report/README.md`.

    Raises:
        RunError: the run is not finished, or is a release.
        SchemaError: a file of it cannot be read.
        DiskError: the report cannot be written.
    """
    manifest = read_manifest(layout.manifest)
    refuse_release(layout, manifest)
    measured = measure(layout, manifest)
    plots = render_plots(measured)
    text = report_text(measured, manifest, plots, contaminated(layout))  # before anything is written
    for name, data in plots.items():
        write_whole(layout.report / name, data)
    for path in layout.report.glob("*.png"):  # plots of an earlier report that has no data any more
        if path.name not in plots:
            path.unlink()
    write_whole(layout.report / "numbers.json", numbers_json(measured))
    page = layout.report / "README.md"
    write_whole(page, text.encode())
    return page


def refuse_release(layout: RunLayout, manifest: Manifest) -> None:
    """A release has a manifest and a report too, but its sets are not where a run's are.

    Raises:
        RunError: it is one.
    """
    if manifest.release is not None:
        raise RunError(
            "This is a release, not a run.",
            "Name the run that it was made from; `publish DIR --check` is for releases.",
            file=layout.root,
        )


def measure(layout: RunLayout, manifest: Manifest) -> Numbers:
    """The numbers of a run.

    Raises:
        SchemaError: a file cannot be read.
    """
    clauses: pl.DataFrame = scan_frame(layout.clauses).collect()
    return numbers(scan_sets(layout.datasets), manifest, clauses)


def numbers_json(measured: Numbers) -> bytes:
    """`numbers.json`."""
    return (json.dumps(measured, indent=1, ensure_ascii=False) + "\n").encode()


def report_text(
    measured: Numbers, manifest: Manifest, plots: Mapping[str, bytes], matched: list[dict[str, Any]] | None = None
) -> str:
    """`report/README.md`.

    Args:
        matched: from `contaminated`.
    """
    shared = page_values(measured, plots, "")
    return render("report.md.j2", manifest=manifest, recipe=manifest.recipe, matched=matched or [], **shared)


def contaminated(layout: RunLayout) -> list[dict[str, Any]]:
    """The first removed prompts that overlap with evaluation sets, most similar first: text, matched_text, detail."""
    if not layout.removed.exists():
        return []
    frame = pl.read_parquet(layout.removed).drop_nulls("matched_set")
    best = frame.sort(["similarity", "prompt_id"], descending=[True, False]).head(SHOWN_PAIRS)
    text = pl.col("prompt").list.last().struct.field("content").str.slice(0, SHOWN_CHARS)
    return best.select(text.alias("text"), pl.col("matched_text").str.slice(0, SHOWN_CHARS), "detail").to_dicts()


def page_values(measured: Numbers, plots: Mapping[str, bytes], folder: str) -> dict[str, Any]:
    """What every page is rendered with.

    Args:
        folder: where the plots lie, seen from the page: empty or ending in `/`.
    """

    def plot(name: str) -> Safe:
        """An image with its caption as alternative text; nothing where there is no such plot."""
        return Safe(f"![{CAPTIONS[name]}]({folder}{name}.png)" if f"{name}.png" in plots else "")

    named = {split for rows in measured["rows"].values() for split in rows}
    return {
        "numbers": measured,
        "plot": plot,
        "splits": sorted(named, key=lambda split: (split != "train", split)),
        "unused": [row["anchor"] for row in measured["clauses"] if not row["rows"]],
    }
