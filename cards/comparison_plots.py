"""The plots of a comparison: values with intervals, differences, sample efficiency, tokens against score."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from specdistill.cards.plots import BLUE, GREEN, GREY, ORANGE, STYLE, VERMILION, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Page = Mapping[str, Any]
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, "#CC79A7", "#56B4E9", "#F0E442", GREY)
MARKERS = "osD^vP*X<>"
SHOWN = 6
"""Most metrics of one plot."""


def comparison_plots(page: Page) -> dict[str, bytes]:
    """Every plot there is data for: file name to PNG bytes."""
    import matplotlib
    from matplotlib.figure import Figure

    made: dict[str, bytes] = {}
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        for name, draw in PLOTS.items():
            figure = Figure(figsize=(WIDTH, 3.0))
            if draw(figure, page):
                buffer = io.BytesIO()
                figure.savefig(buffer, format="png", metadata={"Software": None})
                made[f"{name}.png"] = buffer.getvalue()
    return made


def headline(figure: Figure, page: Page) -> bool:
    """Shares of the headline metrics, one panel a metric, one line a result."""
    rows = [row for row in page["headline"] if row["share"] and row["cells"]][:SHOWN]
    if not rows:
        return False
    names = [result["name"] for result in page["results"]]
    across = min(3, len(rows))
    down = -(-len(rows) // across)
    figure.set_size_inches(WIDTH * 1.25, down * (0.9 + 0.22 * len(names)))
    panels = figure.subplots(down, across, squeeze=False, sharey=True)
    for axes, row in zip(panels.flat, rows, strict=False):
        for at, name in enumerate(names):
            if cell := row["cells"].get(name):
                _bar(axes, at, cell, 100.0, GREY if name == page["baseline"] else BLUE)
        axes.set_xlim(-3, 103)
        axes.set_title(_title(row), fontsize=9)
        axes.tick_params(labelsize=8)
    for axes in panels[:, 0]:
        axes.set_yticks(range(len(names)), [_plain(name) for name in names])
    panels[0, 0].invert_yaxis()
    for axes in list(panels.flat)[len(rows) :]:
        axes.set_visible(False)
    return True


def forest(figure: Figure, page: Page) -> bool:
    """Differences from the baseline with their intervals."""
    rows = [row for row in page["headline"] if row["share"] and row["better"] != "neither"][:SHOWN]
    lines = [
        (f"{row['title']}: {name}", cell["difference"])
        for row in rows
        for name, cell in row["cells"].items()
        if cell.get("difference") and cell["difference"]["low"] is not None
    ]
    if not lines:
        return False
    figure.set_size_inches(WIDTH, 1.0 + 0.2 * len(lines))
    axes = figure.add_subplot()
    colours = {"better": GREEN, "worse": VERMILION, "differs": BLUE, "not shown": GREY}
    for at, (_, gap) in enumerate(lines):
        _bar(axes, at, gap, 100.0, colours[gap["verdict"]])
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(lines)), [_plain(label) for label, _ in lines], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel(f"points more than {_plain(page['baseline'])}, with 95 % interval")
    axes.set_title("Differences: green better, red worse, grey not shown")
    return True


def efficiency(figure: Figure, page: Page) -> bool:
    """Training rows against score."""
    if not page["curves"]:
        return False
    across = min(3, len(page["curves"]))
    curves = page["curves"][:across]
    figure.set_size_inches(WIDTH, 3.0)
    panels = figure.subplots(1, across, squeeze=False)[0]
    for axes, curve in zip(panels, curves, strict=True):
        for at, arm in enumerate(dict.fromkeys(point["arm"] for point in curve["points"])):
            points = [point for point in curve["points"] if point["arm"] == arm and point["rows"]]
            colour = COLOURS[at % len(COLOURS)]
            rows, values = [point["rows"] for point in points], [100 * point["value"] for point in points]
            axes.plot(rows, values, color=colour, marker=MARKERS[at % len(MARKERS)], label=_plain(arm))
            known = [point for point in points if point["low"] is not None]
            axes.fill_between(
                [point["rows"] for point in known], [100 * point["low"] for point in known],
                [100 * point["high"] for point in known], color=colour, alpha=0.18,
            )  # fmt: skip
            axes.vlines(rows, [100 * p["lowest"] for p in points], [100 * p["highest"] for p in points], color=colour)
        axes.set(ylim=(-3, 103), xlabel="training rows")
        axes.set_title(curve["title"], fontsize=9)
    panels[0].set_ylabel("%")
    panels[0].legend(fontsize=8)
    return True


def tokens(figure: Figure, page: Page) -> bool:
    """Tokens of an answer against the first headline score."""
    metric = next((name for row in page["tokens"] for name, cell in row["scores"].items() if cell), None)
    points = [
        (row["name"], row["tokens"], row["scores"][metric]) for row in page["tokens"] if row["scores"].get(metric)
    ]
    if len(points) < 2:
        return False
    axes = figure.add_subplot()
    for at, (name, spent, cell) in enumerate(points):
        low, high = _reach(cell)
        axes.errorbar(
            spent, 100 * cell["value"], yerr=[[100 * low], [100 * high]], color=COLOURS[at % len(COLOURS)],
            marker=MARKERS[at % len(MARKERS)], capsize=3, linestyle="none", label=_plain(name),
        )  # fmt: skip
    title = next(row["title"] for row in page["metrics"] if row["name"] == metric)
    axes.set(xlabel="tokens generated an answer", ylabel=f"{title} (%)", ylim=(-3, 103))
    figure.set_size_inches(WIDTH, 3.6)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return True


def _bar(axes: Axes, at: int, cell: Mapping[str, Any], scale: float, colour: str) -> None:
    low, high = _reach(cell)
    axes.errorbar(
        scale * cell["value"], at, xerr=[[scale * low], [scale * high]], fmt="o", color=colour, ecolor=colour,
        capsize=3, markersize=5,
    )  # fmt: skip


def _reach(cell: Mapping[str, Any]) -> tuple[float, float]:
    """Lengths of both arms of an interval; a bootstrap's end may lie on the wrong side of the value by rounding."""
    if cell["low"] is None:
        return 0.0, 0.0
    return max(0.0, cell["value"] - cell["low"]), max(0.0, cell["high"] - cell["value"])


def _title(row: Mapping[str, Any]) -> str:
    sign = {"higher": " ↑", "lower": " ↓"}.get(row["better"], "")
    return f"{row['title']}{sign} (%)"


def _plain(name: str) -> str:
    """A name for a plot: short, and no mathematics."""
    shown = name if len(name) <= 42 else name[:41] + "…"
    return shown.replace("$", r"\$")


PLOTS: dict[str, Callable[[Any, Page], bool]] = {
    "headline": headline,
    "forest": forest,
    "efficiency": efficiency,
    "tokens": tokens,
}
CAPTIONS = {
    "headline": "Headline metrics with 95 % intervals; the baseline in grey.",
    "forest": "Differences from the baseline with 95 % intervals.",
    "efficiency": "Score against training rows; bands: 95 % intervals over prompts, bars: lowest to highest seed.",
    "tokens": "Tokens generated an answer against the score.",
}
"""Name to what the plot shows."""
