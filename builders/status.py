"""What a run has, lacks and why: read-only, safe beside a running build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from specdistill.builders.audit.stage import people_of
from specdistill.builders.contexts import SpecContexts, categories_of
from specdistill.builders.ledger import session_seconds, stage_totals
from specdistill.builders.plan import passing_ids, plan
from specdistill.builders.rounds import Rounds
from specdistill.builders.run import Rows, is_locked, read_rows
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.vocabulary import JudgmentStatus
from specdistill.specs.diff import stale_categories
from specdistill.specs.loader import libraries, load_spec


def run_status(layout: RunLayout, recipe: Recipe) -> dict[str, Any]:
    """The state of a run.

    Returns:
        building, complete, stages (per stage: done, pending, failed, stale), spec_changes (what of the policy changed
        since), reasons (reject reason to rows, from the derived sets), abstentions (reason to rows), calls (per step,
        from the ledger), tokens, seconds, tokens_per_second.

    Raises:
        RunError: a part cannot be read.
    """
    rows = read_rows(layout, recipe)
    contexts = SpecContexts.load(layout.spec, examples=recipe.context.examples)
    if recipe.quota.asked:
        todo = Rounds(recipe, people_of(layout, recipe)).next(rows, contexts)
    else:
        todo = plan(recipe, rows, contexts, passing_ids(rows, recipe))
    calls = stage_totals(layout.ledger)
    seconds = session_seconds(layout.ledger)
    tokens = sum(stage["completion_tokens"] for stage in calls.values())
    return {
        "run": str(layout.root),
        "name": recipe.name,
        "building": is_locked(layout),
        "complete": layout.manifest.exists(),
        "stages": stages(rows, todo.candidates_wanted, todo.judgments_wanted),
        "spec_changes": spec_changes(recipe, contexts, rows),
        "accepted": derived_rows(layout, "sft"),
        "reasons": reject_reasons(layout),
        "abstentions": counts(rows.judgments.filter(pl.col("status") == JudgmentStatus.ABSTAINED), "abstain_reason"),
        "errors": counts(pl.concat([rows.candidates.select("error"), rows.judgments.select("error")]), "error"),
        "calls": calls,
        "completion_tokens": tokens,
        "prompt_tokens": sum(stage["prompt_tokens"] for stage in calls.values()),
        "seconds": round(seconds, 1),
        "tokens_per_second": round(tokens / seconds, 1) if seconds else 0.0,
    }


def spec_changes(recipe: Recipe, contexts: SpecContexts, rows: Rows) -> list[dict[str, Any]]:
    """What the policy says today that it did not say when the run was built: the rows that a build would make anew.

    Returns:
        For each stale category: category, reasons, candidates (rows that would be stale). Empty when nothing changed,
        or when the policy is no longer where the recipe says (a copied run).
    """
    if recipe.spec not in libraries() and not Path(recipe.spec).exists():
        return []
    stale = stale_categories(contexts.spec, load_spec(recipe.spec), examples=recipe.context.examples)
    shown = rows.candidates.filter(pl.col("spec_digest").is_not_null())["category"].to_list()
    return [
        {
            "category": category,
            "reasons": reasons,
            "candidates": sum(category in categories_of(label) for label in shown),
        }
        for category, reasons in stale.items()
    ]


def stages(rows: Rows, candidates_wanted: int, judgments_wanted: int) -> dict[str, dict[str, int]]:
    """Done, pending, failed and stale rows of each stage. Judgments of candidates not yet made are not counted.

    With a quota, pending are the samples of the next round only.
    """
    failed = {
        "candidates": int(rows.candidates["error"].is_not_null().sum()),
        "judgments": int(rows.judgments["error"].is_not_null().sum()),
    }
    return {
        "prompts": {"done": rows.prompts.height, "pending": 0, "failed": 0, "stale": 0},
        "candidates": {
            "done": rows.candidates.height - failed["candidates"],
            "pending": candidates_wanted,
            "failed": failed["candidates"],
            "stale": rows.stale_candidates,
        },
        "judgments": {
            "done": rows.judgments.height - failed["judgments"],
            "pending": judgments_wanted,
            "failed": failed["judgments"],
            "stale": rows.stale_judgments,
        },
    }


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
