"""The audit's report: numbers from records, answers and the run; a page, plots, and the summary for the card."""

from __future__ import annotations

import io
import json
from typing import Any

import polars as pl

from specdistill.builders.audit.agreement import alpha, kappas
from specdistill.builders.audit.measure import answered, confusion, pace, rates, today, weighted
from specdistill.builders.audit.size import half_width
from specdistill.builders.audit.summary import Numbers, bounds, judge_key, number, numbers_file, percent, write_summary
from specdistill.builders.audit.verdicts import verdicts, votes
from specdistill.schemas.audit import Kind, Slice
from specdistill.schemas.files import write_whole
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Audit, Recipe
from specdistill.schemas.vocabulary import CRITERIA


def measure(
    records: pl.DataFrame, responses: pl.DataFrame, population: pl.DataFrame, audit: Audit, wanted: float = 0.95
) -> Numbers:
    """Every number of the report.

    Args:
        records: rows of `RECORDS`.
        responses: rows of `RESPONSES`.
        population: from `choose.row_population`: every row that could be shown, with the judge's verdict of today.
        wanted: precision that the suggested threshold is to reach.
    """
    found = verdicts(responses, audit)
    given = votes(responses)
    by_kind = {kind: given.filter(pl.col("kind") == kind) for kind in Kind}
    rows, pairs = today(answered(records, found, Kind.ROW), population), answered(records, found, Kind.PAIR)
    control = weighted(rows.filter(pl.col("slice") == Slice.CONTROL), population)
    first = records.filter(pl.col("round") == 1)
    return {
        "records": {kind.value: first.filter(pl.col("kind") == kind).height for kind in Kind},
        "answered": {kind.value: found.filter(pl.col("kind") == kind).height for kind in Kind},
        "finals": {
            f"{kind}/{final}": count
            for kind, final, count in found.group_by("kind", "final").len().sort("kind", "final").iter_rows()
        },
        "disputed": int(found["disputed"].sum()),
        "again": records.filter(pl.col("round") > 1).height,
        "responses": given.height,
        "annotators": given["annotator"].n_unique(),
        "alpha": [
            alpha(by_kind[Kind.ROW], "verdict"),
            alpha(by_kind[Kind.ROW], "keep"),
            *(alpha(by_kind[Kind.ROW], name) for name in CRITERIA),
            alpha(by_kind[Kind.PAIR], "better"),
        ],
        "kappa": [*kappas(by_kind[Kind.ROW], "verdict"), *kappas(by_kind[Kind.PAIR], "better")],
        "confusion": confusion(rows),
        "control_confusion": confusion(rows.filter(pl.col("slice") == Slice.CONTROL)),
        "pairs": {"agree": int(pairs["good"].sum()), "answered": pairs.height},
        "control": rates(control, wanted),
        "population": population.height,
        "pace": pace(responses),
    }


def page(numbers: Numbers, run: str, plots: dict[str, bytes]) -> str:
    """The report as Markdown."""
    control = numbers["control"]
    finals = ", ".join(f"{name} {count}" for name, count in numbers["finals"].items()) or "none"
    parts = [
        f"# Audit of {run}",
        f"{numbers['responses']} answers by {numbers['annotators']} annotators on {numbers['answered']['row']} of "
        f"{numbers['records']['row']} rows and {numbers['answered']['pair']} of {numbers['records']['pair']} pairs. "
        f"Outcome: {finals}. {numbers['disputed']} records are disputed; {numbers['again']} went to another annotator.",
        "## Do people agree?",
        "Krippendorff's alpha over records with two answers or more; 1 is full agreement, 0 is chance.",
        table(
            ["question", "level", "alpha", "95 % interval", "records", "answers"],
            [
                [r["question"], r["level"], number(r["alpha"]), interval_text(r), r["records"], r["answers"]]
                for r in numbers["alpha"]
            ],
        ),
        table(
            ["annotators", "question", "kappa", "95 % interval", "records", "equal"],
            [
                [
                    f"{r['first']}, {r['second']}",
                    r["question"],
                    number(r["kappa"]),
                    interval_text(r),
                    r["records"],
                    r["equal"],
                ]
                for r in numbers["kappa"]
            ],
        ),
        "## The judge against people",
        "All rows with a verdict. Borderline rows are over-represented, so these are no rates of the run.",
        confusion_table(numbers["confusion"]),
        "The random control slice alone:",
        confusion_table(numbers["control_confusion"]),
        control_text(control, numbers["population"]),
        *(f"![{PLOTS[name.removesuffix('.png')]}]({name})" for name in plots),
        f"Pairs: people confirm the judge's order in {numbers['pairs']['agree']} of {numbers['pairs']['answered']}.",
        "## Pace",
        table(
            ["annotator", "submitted", "discarded", "drafts", "median seconds a record", "records an hour"],
            [
                [
                    r["annotator"],
                    r["submitted"],
                    r["discarded"],
                    r["draft"],
                    number(r["median_seconds"]),
                    r["per_hour"] or "–",
                ]
                for r in numbers["pace"]
            ],
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def interval_text(row: dict[str, Any]) -> str:
    """`0.41 to 0.77`, or a dash."""
    return "–" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}"


def confusion_table(rows: list[dict[str, Any]]) -> str:
    """Counts per category."""
    names = ["both_accept", "judge_only", "people_only", "both_reject"]
    titles = ["category", "both accept", "only the judge accepts", "only people accept", "both reject"]
    return table(titles, [[row["category"], *(row[name] for name in names)] for row in rows]) if rows else "None yet."


def control_text(control: Numbers, population: int) -> str:
    """Precision and recall, and the threshold."""
    if control["precision"] is None and control["recall"] is None:
        return "No control record was answered yet, so nothing can be said about the judge at large."
    points = 100 * half_width(control["precision_records"], population)
    text = (
        f"Extrapolated to the {population} rows that could have been shown: precision {percent(control['precision'])} "
        f"({bounds(control['precision_low'], control['precision_high'], percent)}), "
        f"recall {percent(control['recall'])} "
        f"({bounds(control['recall_low'], control['recall_high'], percent)}). {control['precision_records']} accepted "
        f"control rows are worth about ± {points:.0f} points of precision at 90 %."
    )
    if control["threshold"] is not None:
        return f"{text} The least threshold with {percent(control['wanted'])} precision is {control['threshold']:.3f}."
    return f"{text} No threshold reaches {percent(control['wanted'])} precision."


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table; nothing for no rows."""
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


PLOTS = {
    "precision": "Precision and recall of the accepted set over the threshold, by the control slice",
    "judge_against_people": "Judge and people per category",
}


def draw(numbers: Numbers) -> dict[str, bytes]:
    """The plots that there is data for: file name to PNG."""
    from matplotlib.figure import Figure

    made: dict[str, bytes] = {}

    def save(name: str, figure: Any) -> None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
        made[f"{name}.png"] = buffer.getvalue()

    curve = [point for point in numbers["control"].get("curve", []) if point["precision"] is not None]
    if len(curve) > 1:
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        axes = figure.add_subplot()
        at = [point["threshold"] for point in curve]
        axes.plot(at, [point["precision"] for point in curve], "-o", markersize=3, color="#0072B2", label="precision")
        axes.fill_between(
            at,
            [point["low"] if point["low"] is not None else point["precision"] for point in curve],
            [point["precision"] for point in curve],
            alpha=0.2,
            color="#0072B2",
        )
        axes.plot(at, [point["recall"] or 0 for point in curve], "--s", markersize=3, color="#D55E00", label="recall")
        axes.set(xlabel="threshold", ylim=(0, 1.03), title=PLOTS["precision"])
        axes.legend(frameon=False)
        save("precision", figure)
    rows = [row for row in numbers["confusion"] if row["category"] != "all"]
    if rows:
        figure = Figure(figsize=(7.2, 1.2 + 0.35 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        left = [0] * len(rows)
        shown = (
            ("both_accept", "both accept", "#009E73", ""),
            ("people_only", "only people accept", "#0072B2", "//"),
            ("judge_only", "only the judge accepts", "#D55E00", "\\\\"),
            ("both_reject", "both reject", "#8C8C8C", ".."),
        )
        for name, label, colour, hatch in shown:
            width = [row[name] for row in rows]
            axes.barh(range(len(rows)), width, left=left, color=colour, hatch=hatch, edgecolor="white", label=label)
            left = [start + length for start, length in zip(left, width, strict=True)]
        axes.set_yticks(range(len(rows)), [row["category"] for row in rows])
        axes.set(xlabel="rows with a verdict", title=PLOTS["judge_against_people"])
        axes.legend(frameon=False, ncols=2, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18))
        save("judge_against_people", figure)
    return made


def write_report(layout: RunLayout, numbers: Numbers, recipe: Recipe) -> dict[str, bytes]:
    """Write `audit/report/` and `audit/summary.json`. Returns the plots."""
    plots = draw(numbers)
    folder = layout.audit / "report"
    for name, data in plots.items():
        write_whole(folder / name, data)
    kept = numbers | {"judge": judge_key(recipe)}
    write_whole(numbers_file(layout), (json.dumps(kept, indent=1, default=str) + "\n").encode())
    write_whole(folder / "README.md", page(numbers, recipe.name, plots).encode())
    write_summary(layout, recipe)
    return plots
