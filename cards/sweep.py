"""Judge samples and threshold against true precision, as a table and a plot."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from specdistill.cards.comparison_plots import COLOURS, MARKERS
from specdistill.cards.plots import STYLE, WIDTH
from specdistill.schemas.files import write_whole


def write_sweep(rows: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Write `sweep.md` and `sweep.png`.

    Args:
        rows: records of k, threshold, accepted, precision, low, high, recall.
    """
    write_whole(folder / "sweep.png", sweep_plot(rows))
    lines = [
        "# k and threshold against true precision",
        "",
        "Precision: share of what would be accepted that people call good, with its 95 % interval over prompts.",
        "Recall: share of what they call good that would be accepted.",
        "",
        "![Precision against recall, one line a k](sweep.png)",
        "",
        "| k | threshold | accepted | precision | recall |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        if round(20 * row["threshold"]) % 2 == 0 and row["precision"] is not None:
            reach = "" if row["low"] is None else f" ({100 * row['low']:.0f}–{100 * row['high']:.0f})"
            recall = "–" if row["recall"] is None else f"{100 * row['recall']:.0f} %"
            lines.append(
                f"| {row['k']} | {row['threshold']:.2f} | {row['accepted']:,} | "
                f"{100 * row['precision']:.0f} %{reach} | {recall} |"
            )
    write_whole(folder / "sweep.md", "\n".join([*lines, ""]).encode())
    return folder / "sweep.md"


def sweep_plot(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Precision over threshold and over recall, one line a k, as PNG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(WIDTH, 3.2))
        over, against = figure.subplots(1, 2, sharey=True)
        for at, k in enumerate(sorted({row["k"] for row in rows})):
            known = [row for row in rows if row["k"] == k and row["precision"] is not None]
            colour, marker = COLOURS[at % len(COLOURS)], MARKERS[at % len(MARKERS)]
            precision = [100 * row["precision"] for row in known]
            over.plot([row["threshold"] for row in known], precision, color=colour, label=f"k = {k}")
            bounded = [row for row in known if row["low"] is not None]
            over.fill_between(
                [row["threshold"] for row in bounded], [100 * row["low"] for row in bounded],
                [100 * row["high"] for row in bounded], color=colour, alpha=0.15,
            )  # fmt: skip
            pairs = [(100 * row["recall"], 100 * row["precision"]) for row in known if row["recall"] is not None]
            against.plot(
                [pair[0] for pair in pairs], [pair[1] for pair in pairs], color=colour, marker=marker, markersize=3
            )
        over.set(xlabel="threshold", ylabel="precision (%)", ylim=(-3, 103))
        against.set(xlabel="recall (%)")
        over.legend(fontsize=8)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
