"""The coverage table as a heat map: one panel a category, one line a clause, one column an expected outcome."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from specdistill.specs.coverage import OUTCOMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 3
"""Panels side by side."""


def coverage_figure(covered: pl.DataFrame) -> Figure:
    """A figure of how many accepted rows cite each clause (see `coverage`).

    The colour is the number of rows on a logarithmic scale that all panels share; a clause that no row cites has its
    anchor in red.
    """
    from matplotlib.colors import SymLogNorm
    from matplotlib.figure import Figure

    names = [outcome.value for outcome in OUTCOMES]
    groups = covered.with_columns(pl.col("category").fill_null("style")).partition_by("category", maintain_order=True)
    rows = max(1, -(-len(groups) // _COLUMNS))
    tallest = max((group.height for group in groups), default=1)
    figure = Figure(figsize=(4.2 * _COLUMNS, rows * (1.0 + 0.24 * tallest)), layout="constrained")
    most = max(1, int(covered.select(pl.max_horizontal(names).max()).item() or 0))
    norm = SymLogNorm(linthresh=1, vmin=0, vmax=most)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False)
    for place, axis in enumerate(axes.flat):
        if place >= len(groups):
            axis.axis("off")
            continue
        group = groups[place]
        counts = [list(row) for row in group.select(names).iter_rows()]
        axis.imshow(counts, cmap="Blues", norm=norm, aspect="auto")
        axis.set_title(group["category"][0], fontsize=10)
        axis.set_xticks(range(len(names)), [name.replace("_", "-") for name in names], fontsize=7)
        axis.set_yticks(range(group.height), group["anchor"].to_list(), fontsize=7)
        for label, total in zip(axis.get_yticklabels(), group["rows"].to_list(), strict=True):
            label.set_color("firebrick" if total == 0 else "black")
        for line, column in product(range(group.height), range(len(names))):
            if count := counts[line][column]:
                dark = norm(count) > 0.6
                axis.text(column, line, str(count), ha="center", va="center", fontsize=7, color="w" if dark else "k")
    figure.suptitle("Accepted rows that cite each clause, by expected outcome (red: none)")
    return figure


def save_heatmap(covered: pl.DataFrame, path: str | Path) -> Path:
    """Write `coverage_figure` as a PNG."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    coverage_figure(covered).savefig(target, dpi=110)
    return target
