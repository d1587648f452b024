"""The plots of a report, one function each, from `numbers`. One style; colours of Okabe and Ito (2008), which stay
apart for colour-blind readers; every colour is also a position, label or hatch."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from specdistill.cards.numbers import Numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#8C8C8C", "#D55E00"
OUTCOME_COLOURS = {"comply": GREEN, "safe_complete": ORANGE, "refuse": BLUE, "unspecified": GREY}
STYLE = {
    "figure.dpi": 130,
    "savefig.dpi": 130,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "specdistill",
}
WIDTH = 7.2
"""Inches; at 130 dpi a plot is 936 pixels wide, which a dataset page shows unscaled."""


def render_plots(numbers: Numbers) -> dict[str, bytes]:
    """Every plot that the numbers have data for: file name to PNG bytes (the same numbers give the same bytes)."""
    import matplotlib
    from matplotlib.figure import Figure

    made: dict[str, bytes] = {}
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        for name, draw in PLOTS.items():
            figure = Figure(figsize=(WIDTH, 3.0))
            if draw(figure, numbers):
                buffer = io.BytesIO()
                figure.savefig(buffer, format="png", metadata={"Software": None})
                made[f"{name}.png"] = buffer.getvalue()
    return made


def acceptance(figure: Figure, numbers: Numbers) -> bool:
    """Share of candidates accepted per category, with 95 % intervals."""
    rows = [row for row in numbers["categories"] if row["candidates"]]
    if not rows:
        return False
    axes = _bars(figure, len(rows))
    at = range(len(rows))
    shares = [100 * row["share"] for row in rows]
    errors = [
        [100 * (row["share"] - row["low"]) for row in rows],
        [100 * (row["high"] - row["share"]) for row in rows],
    ]
    axes.barh(at, shares, color=BLUE, height=0.62)
    axes.errorbar(shares, list(at), xerr=errors, fmt="none", ecolor="black", elinewidth=1, capsize=3)
    for number, row in enumerate(rows):
        axes.text(
            min(100 * row["high"] + 1.5, 84),
            number,
            f"{row['accepted']:,} of {row['candidates']:,}",
            va="center",
            size=9,
        )
    _categories(axes, [row["category"] for row in rows])
    axes.set(xlim=(0, 100), xlabel="candidates accepted (%), with 95 % interval")
    axes.set_title("Acceptance per category")
    return True


def outcomes(figure: Figure, numbers: Numbers) -> bool:
    """Accepted rows per category and expected outcome, stacked."""
    rows = numbers["outcomes"]
    if not any(row.get("accepted") for row in rows):
        return False
    categories = sorted({row["category"] for row in rows})
    axes = _bars(figure, len(categories), extra=0.3)
    left = [0] * len(categories)
    for outcome, colour in OUTCOME_COLOURS.items():
        counted = {row["category"]: row["accepted"] for row in rows if row["outcome"] == outcome}
        if not any(counted.values()):
            continue
        widths = [counted.get(category, 0) for category in categories]
        axes.barh(
            range(len(categories)), widths, left=left, color=colour, height=0.62, label=outcome, edgecolor="white"
        )
        left = [before + width for before, width in zip(left, widths, strict=True)]
    _categories(axes, categories)
    axes.set_xlabel("accepted rows")
    axes.set_title("Accepted rows by expected outcome of the prompt")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return True


def reasons(figure: Figure, numbers: Numbers) -> bool:
    """Why candidates were rejected."""
    rows = numbers["reasons"]
    if not rows:
        return False
    axes = _bars(figure, len(rows), extra=0.3)
    at = range(len(rows))
    spec, contrast = ([row[arm] for row in rows] for arm in ("spec", "contrast"))
    axes.barh(at, spec, color=BLUE, height=0.62, label="sampled with the spec")
    if any(contrast):
        axes.barh(
            at, contrast, left=spec, color=ORANGE, height=0.62, hatch="///", edgecolor="white", label="without it"
        )
    top = max(row["rows"] for row in rows)
    for number, row in enumerate(rows):
        axes.text(row["rows"] + top * 0.012, number, f"{row['rows']:,}", va="center", size=9)
    _categories(axes, [row["reason"] for row in rows])
    axes.set(xlabel="candidates", xlim=(0, top * 1.1))
    axes.set_title("Why candidates were rejected")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return True


def scores(figure: Figure, numbers: Numbers) -> bool:
    """Distribution of the aggregated score, with the threshold."""
    found = numbers["scores"]
    arms = {arm: data for arm, data in found["arms"].items() if data["candidates"]}
    if not arms:
        return False
    axes = figure.add_subplot()
    width = 1 / (len(found["edges"]) - 1)
    middles = [edge + width / 2 for edge in found["edges"][:-1]]
    for arm, label, colour, hatch in (("spec", "with the spec", BLUE, ""), ("contrast", "without it", ORANGE, "///")):
        if arm in arms:
            total = arms[arm]["candidates"]
            heights = [100 * count / total for count in arms[arm]["counts"]]
            axes.bar(
                middles, heights, width=width * 0.92, color=colour, alpha=0.65, hatch=hatch, edgecolor=colour,
                label=f"{label} ({total:,} candidates)",
            )  # fmt: skip
    axes.axvline(found["threshold"], color="black", linestyle="--", linewidth=1.2)
    axes.annotate(
        f"threshold {found['threshold']:g}", (found["threshold"], 1), xycoords=("data", "axes fraction"),
        xytext=(-4, -2), textcoords="offset points", ha="right", va="top", size=9, rotation=90,
    )  # fmt: skip
    axes.set(xlim=(0, 1), xlabel="aggregated judge score (0 to 1)", ylabel="judged candidates (%)")
    axes.set_title("Scores of judged candidates")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return True


def judge_noise(figure: Figure, numbers: Numbers) -> bool:
    """Spread of a candidate's judge samples, and how often they disagree about acceptance, per category."""
    found = numbers["judge"]
    if not found.get("repeated"):
        return False
    rows = [row for row in found["by_category"] if row["repeated"]]
    figure.set_size_inches(WIDTH, max(3.0, 1.2 + 0.32 * len(rows)))
    spread, flips = figure.subplots(1, 2, width_ratios=[1, 1.15])
    width = 0.5 / len(found["spread_counts"])
    middles = [(number + 0.5) * width for number in range(len(found["spread_counts"]))]
    shares = [100 * count / found["repeated"] for count in found["spread_counts"]]
    spread.bar(middles, shares, width=width * 0.92, color=BLUE)
    spread.axvline(found["spread"]["sample_score"], color="black", linestyle="--", linewidth=1.2)
    spread.annotate(
        f"mean {found['spread']['sample_score']:.2f}", (found["spread"]["sample_score"], 1),
        xycoords=("data", "axes fraction"), xytext=(4, -2), textcoords="offset points", va="top", size=9,
    )  # fmt: skip
    spread.set(xlim=(0, 0.5), xlabel="standard deviation of the score", ylabel="candidates (%)")
    spread.set_title("Spread over the judge's samples")
    at = range(len(rows))
    values = [100 * row["flips"]["share"] for row in rows]
    errors = [
        [100 * (row["flips"]["share"] - row["flips"]["low"]) for row in rows],
        [100 * (row["flips"]["high"] - row["flips"]["share"]) for row in rows],
    ]
    flips.barh(at, values, color=VERMILION, height=0.62)
    flips.errorbar(values, list(at), xerr=errors, fmt="none", ecolor="black", elinewidth=1, capsize=3)
    _categories(flips, [row["category"] for row in rows])
    flips.set(xlabel="candidates (%), with 95 % interval", xlim=(0, None))
    flips.set_title("Verdicts that flip between samples")
    return True


def calibration(figure: Figure, numbers: Numbers) -> bool:
    """Against human labels: the ROC of the score, and the precision of what each threshold accepts."""
    found = numbers["calibration"]
    if not found or not found["roc"]["points"]:
        return False
    figure.set_size_inches(WIDTH, 3.2)
    curve, precise = figure.subplots(1, 2, width_ratios=[1, 1.3])
    points = [(0.0, 0.0), *((point["false"], point["true"]) for point in found["roc"]["points"])]
    curve.plot(*zip(*points, strict=True), color=BLUE, marker=".", markersize=4)
    curve.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    curve.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="bad rows accepted", ylabel="good rows accepted")
    curve.set_title(f"ROC, area {found['roc']['auc']:.2f}")
    rows = [row for row in found["thresholds"] if row["precision"] is not None]
    errors = [
        [max(0.0, 100 * (row["precision"] - row["low"])) for row in rows],
        [max(0.0, 100 * (row["high"] - row["precision"])) for row in rows],
    ]
    precise.errorbar(
        [row["threshold"] for row in rows], [100 * row["precision"] for row in rows], yerr=errors, fmt="o",
        color=VERMILION, ecolor="black", elinewidth=1, capsize=3, markersize=5,
    )  # fmt: skip
    precise.axvline(found["accepted"]["threshold"], color="black", linestyle="--", linewidth=1.2)
    precise.set(ylim=(0, 102), xlabel="threshold", ylabel="precision (%), simultaneous 95 %")
    precise.set_title("What people accept of the accepted")
    return True


def _bars(figure: Figure, count: int, extra: float = 0.0) -> Axes:
    """Axes for `count` horizontal bars, tall enough that each label is readable."""
    figure.set_size_inches(WIDTH, 1.1 + extra + 0.32 * max(count, 3))
    return figure.add_subplot()


def _categories(axes: Axes, names: list[str]) -> None:
    """Names along the vertical axis, first on top, long ones cut."""
    shown = [name if len(name) <= 28 else name[:27] + "…" for name in names]
    # A dollar sign would start mathematical text.
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in shown])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)


PLOTS: dict[str, Callable[[Any, Numbers], bool]] = {
    "acceptance": acceptance,
    "outcomes": outcomes,
    "reasons": reasons,
    "scores": scores,
    "judge_noise": judge_noise,
    "calibration": calibration,
}
"""File name without ending to what draws it; it returns False when there is no data to draw."""
CAPTIONS = {
    "acceptance": "Candidates accepted per category, with 95 % Wilson intervals over prompts.",
    "outcomes": "Accepted rows per category and expected outcome of the prompt.",
    "reasons": "Rejected candidates by the first reason that holds.",
    "scores": "Aggregated judge score of judged candidates; the dashed line is the threshold.",
    "judge_noise": "Left: standard deviation of a candidate's judge samples. Right: candidates whose samples fall on "
    "both sides of the threshold.",
    "calibration": "Left: the score as a classifier of the rows people labelled. Right: precision of what each "
    "threshold accepts; the dashed line is the run's threshold.",
}
