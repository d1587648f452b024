"""What a run has, lacks and why: read-only, safe beside a running build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from specdistill.builders.audit.stage import people_of
from specdistill.builders.contexts import categories_of
from specdistill.builders.ledger import session_seconds, stage_totals
from specdistill.builders.plan import plan
from specdistill.builders.rounds import Rounds
from specdistill.builders.run import is_locked
from specdistill.builders.stored import Stored, height_of
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.vocabulary import JudgmentStatus
from specdistill.specs.diff import stale_categories
from specdistill.specs.loader import libraries, load_spec


def run_status(layout: RunLayout, recipe: Recipe) -> dict[str, Any]:
    """The state of a run.

    Returns:
        building, complete (sets were derived and a build would ask for nothing more), stages (per stage: done, pending,
        failed, stale), spec_changes (what of the policy changed since), reasons (reject reason to rows, from the
        derived sets), abstentions (reason to rows), calls (per step, from the ledger), tokens, seconds,
        tokens_per_second.

    Raises:
        RunError: a part cannot be read.
    """
    stored = Stored(layout, recipe)
    todo = Rounds(recipe, people_of(layout, recipe)).next(stored) if recipe.quota.asked else plan(stored)
    silent = stored.judgments().filter(pl.col("status") == JudgmentStatus.ABSTAINED).select("abstain_reason")
    errors = pl.concat([rows.select("error") for rows in (stored.candidates(), stored.judgments())])
    calls = stage_totals(layout.ledger)
    seconds = session_seconds(layout.ledger)
    tokens = sum(stage["completion_tokens"] for stage in calls.values())
    return {
        "run": str(layout.root),
        "name": recipe.name,
        "building": is_locked(layout),
        "complete": layout.manifest.exists() and todo.empty,  # `select` derives sets of half a run too
        "stages": stages(stored, todo.candidates_wanted, todo.judgments_wanted),
        "spec_changes": spec_changes(stored),
        "accepted": derived_rows(layout, "sft"),
        "reasons": reject_reasons(layout),
        "abstentions": counts(silent.collect(), "abstain_reason"),
        "errors": counts(errors.drop_nulls().collect(), "error"),
        "calls": calls,
        "completion_tokens": tokens,
        "prompt_tokens": sum(stage["prompt_tokens"] for stage in calls.values()),
        "seconds": round(seconds, 1),
        "tokens_per_second": round(tokens / seconds, 1) if seconds else 0.0,
    }


def spec_changes(stored: Stored) -> list[dict[str, Any]]:
    """What the policy says today that it did not say when the run was built: the rows that a build would make anew.

    Returns:
        For each stale category: category, reasons, candidates (rows that would be stale). Empty when nothing changed,
        or when the policy is no longer where the recipe says (a copied run).
    """
    recipe = stored.recipe
    if recipe.spec not in libraries() and not Path(recipe.spec).exists():
        return []
    stale = stale_categories(stored.contexts.spec, load_spec(recipe.spec), examples=recipe.context.examples)
    shown = stored.candidates().filter(pl.col("spec_digest").is_not_null()).group_by("category").len().collect()
    return [
        {
            "category": category,
            "reasons": reasons,
            "candidates": sum(rows for label, rows in shown.iter_rows() if category in categories_of(label)),
        }
        for category, reasons in stale.items()
    ]


def stages(stored: Stored, candidates_wanted: int, judgments_wanted: int) -> dict[str, dict[str, int]]:
    """Done, pending, failed and stale rows of each stage. Judgments of candidates not yet made are not counted.

    With a quota, pending are the samples of the next round only.
    """
    found = {"prompts": {"done": stored.prompts.height, "pending": 0, "failed": 0, "stale": 0}}
    tables = (
        ("candidates", stored.candidates(), candidates_wanted),
        ("judgments", stored.judgments(), judgments_wanted),
    )
    for (name, rows, wanted), stale in zip(tables, stored.stale(), strict=True):
        failed = height_of(rows.filter(pl.col("error").is_not_null()))
        found[name] = {"done": height_of(rows) - failed, "pending": wanted, "failed": failed, "stale": stale}
    return found


def counts(frame: pl.DataFrame, column: str) -> dict[str, int]:
    """Value to rows, most frequent first; nulls left out."""
    found = frame.drop_nulls(column).group_by(column).len().sort(["len", column], descending=[True, False])
    return dict(found.iter_rows())


def reject_reasons(layout: RunLayout) -> dict[str, int]:
    """Reject reason to candidates, from the derived sets."""
    frames = [pl.read_parquet(path, columns=["reason"]) for path in sorted(layout.datasets.glob("rejected/*.parquet"))]
    return counts(pl.concat(frames), "reason") if frames else {}


def derived_rows(layout: RunLayout, config: str) -> int:
    """Rows of one derived set over all splits."""
    paths = sorted((layout.datasets / config).glob("*.parquet"))
    return sum(pl.scan_parquet(path).select(pl.len()).collect().item() for path in paths)
