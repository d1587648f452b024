"""What manifest and card say of an audit: sentences from the numbers of its last report, as far as they still hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from specdistill.schemas.digest import digest
from specdistill.schemas.files import write_whole
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.manifest import AuditEntry
from specdistill.schemas.recipe import Recipe

Numbers = dict[str, Any]
"""From `report.measure`."""


def numbers_file(layout: RunLayout) -> Path:
    """`audit/report/numbers.json`: every number of the last report, and the key of the judge it measured."""
    return layout.audit / "report" / "numbers.json"


def judge_key(recipe: Recipe) -> str:
    """Of all in a recipe that the judge's verdicts depend on: precision and recall hold for it alone."""
    unlike = {"base_url", "api_key_env", "concurrency", "timeout", "retries"}
    return digest("audited judge", recipe.judge.model_dump(mode="json", exclude=unlike))


def summary(numbers: Numbers, current: bool = True) -> AuditEntry:
    """What report and card of the run say. Nobody is named.

    Args:
        current: whether the judge's verdicts are those that were measured.
    """
    lines = []
    for row in numbers["alpha"]:
        if row["question"] in ("verdict", "better") and row["alpha"] is not None:
            what = "the verdict on a row" if row["question"] == "verdict" else "which answer of a pair is better"
            lines.append(
                f"On {what} annotators agree with Krippendorff's alpha {number(row['alpha'])} "
                f"({bounds(row['low'], row['high'], number)}; {row['records']} records with two answers or more)."
            )
    control = numbers["control"]
    if not current:
        lines.append("The judge's settings changed after the audit; how good its verdicts are now was not measured.")
    elif control["precision"] is not None:
        lines.append(
            f"By the random control slice ({control['records']} rows), people would keep "
            f"{percent(control['precision'])} of what the judge accepts "
            f"({bounds(control['precision_low'], control['precision_high'], percent)})"
            + (
                f", and the judge accepts {percent(control['recall'])} of what they would keep "
                f"({bounds(control['recall_low'], control['recall_high'], percent)})."
                if control["recall"] is not None
                else "."
            )
        )
    if numbers["pairs"]["answered"]:
        lines.append(
            f"People confirm the order of {numbers['pairs']['agree']} of {numbers['pairs']['answered']} preference "
            "pairs shown; most were shown because their margin is small."
        )
    return AuditEntry(
        records=sum(numbers["answered"].values()),
        responses=numbers["responses"],
        annotators=numbers["annotators"],
        finals=numbers["finals"],
        lines=lines,
    )


def number(value: float | None) -> str:
    """Two decimals, or a dash."""
    return "–" if value is None else f"{value:.2f}"


def percent(value: float | None) -> str:
    """A share as a percentage, or a dash."""
    return "–" if value is None else f"{100 * value:.1f} %"


def bounds(low: float | None, high: float | None, shown: Any) -> str:
    """A 95 % interval in words."""
    return "no interval" if low is None or high is None else f"95 % interval {shown(low)} to {shown(high)}"


def write_summary(layout: RunLayout, recipe: Recipe) -> None:
    """Write `audit/summary.json`, which goes into the manifest, from the numbers of the last report, if there is one.

    It says how good the judge is only where the recipe judges as it did when that was measured.
    """
    path = numbers_file(layout)
    if not path.exists():
        return
    numbers = json.loads(path.read_bytes())
    found = summary(numbers, numbers.get("judge") == judge_key(recipe))
    write_whole(layout.audit_summary, (found.model_dump_json(indent=1) + "\n").encode())
