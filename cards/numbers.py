"""Every number of the report and the card, as pure functions of the published sets and the manifest.

Both read the same `numbers`, and a release can be measured again from its own files, so prose and data cannot drift
apart. Shares come with 95 % Wilson intervals, over groups where cases of one group resemble each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from specdistill.cards.judge_numbers import Whole, heuristic, judge, scores
from specdistill.cards.statistics import height, read, wilson
from specdistill.cards.text_numbers import clause_use, leaks, lengths, pairs
from specdistill.schemas.intervals import clustered_share
from specdistill.schemas.manifest import Manifest
from specdistill.schemas.vocabulary import CRITERIA, Arm, Outcome

Sets = Mapping[str, Mapping[str, pl.DataFrame | pl.LazyFrame]]
Numbers = dict[str, Any]
"""JSON-able: what `report/numbers.json` holds."""


def numbers(sets: Sets, manifest: Manifest, clauses: pl.DataFrame) -> Numbers:
    """Measure the sets.

    Args:
        sets: config to split to rows; configs may be missing.
        manifest: for recipe, stages and counts.
        clauses: the clause table.

    Returns:
        rows, categories, outcomes, reasons, scores, judge, heuristic, order, calibration, leaks, pairs, lengths,
        clauses, deficits, quota (each with candidates spent and state), prompts (what became of the sources' rows),
        stages, totals.
    """
    whole = {
        config: pl.concat([frame.lazy() for frame in splits.values()]) for config, splits in sets.items() if splits
    }
    threshold = float(manifest.recipe.get("judge", {}).get("threshold", 0.0))
    asked = manifest.recipe.get("judge", {})
    weights, aggregate = asked.get("weights", dict.fromkeys(CRITERIA, 1.0)), asked.get("aggregate", "min")
    measured = {
        "rows": {config: {split: height(frame) for split, frame in splits.items()} for config, splits in sets.items()},
        "categories": categories(whole),
        "outcomes": outcomes(whole),
        "reasons": reasons(whole),
        "scores": scores(whole, threshold),
        "judge": judge(whole, threshold, weights, aggregate, (asked.get("adaptive") or {}).get("whole")),
        "heuristic": heuristic(whole),
        "order": manifest.order,
        "calibration": manifest.calibration,
        "leaks": leaks(whole, clauses),
        "pairs": pairs(whole),
        "lengths": lengths(whole),
        "clauses": clause_use(whole, clauses),
        "deficits": deficits(whole, manifest),
        "quota": manifest.quota,
        "prompts": prompts(manifest),
        **tokens(manifest),
        **({"audit": manifest.audit.model_dump()} if manifest.audit else {}),
    }
    result: Numbers = rounded(measured)
    return result


def rounded(value: Any) -> Any:
    """Floats to six places: sums come in any order, and the same data must give the same card."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def fates(whole: Whole) -> pl.LazyFrame:
    """Every candidate: category, arm, prompt_id, reason (null when accepted)."""
    columns = ["category", "arm", "prompt_id", "reason"]
    parts = [pl.LazyFrame(schema=dict.fromkeys(columns, pl.String))]
    if "sft" in whole:
        made = pl.col("arm") if "arm" in whole["sft"].collect_schema() else pl.lit(None, pl.String)  # since 1.3.0
        accepted = whole["sft"].with_columns(
            made.fill_null(Arm.SPEC.value).alias("arm"), pl.lit(None, pl.String).alias("reason")
        )
        parts.append(accepted.select(columns))
    if "rejected" in whole:
        parts.append(whole["rejected"].select(columns))
    return pl.concat(parts)


def categories(whole: Whole) -> list[dict[str, Any]]:
    """Per category: prompts, candidates made with the spec in view (or repaired), accepted, share with interval,
    prompts with a row."""
    ended = fates(whole).filter(~pl.col("arm").is_in([Arm.CONTRAST, Arm.CONSTITUTION]))
    by_prompt = read(
        ended.group_by("category", "prompt_id").agg(
            pl.len().alias("candidates"), pl.col("reason").is_null().sum().alias("accepted")
        )
    )
    shares = [
        {"category": category}
        | {name: int(rows[name].sum()) for name in ("candidates", "accepted")}
        | {"prompts_accepted": int((rows["accepted"] > 0).sum())}
        # The samples of one prompt are not independent of each other.
        | clustered_share(rows["accepted"].cast(pl.Float64), rows["candidates"].cast(pl.Float64))
        for (category,), rows in by_prompt.sort("category", "prompt_id").group_by("category", maintain_order=True)
    ]
    none = {"candidates": 0, "accepted": 0, "prompts_accepted": 0, **wilson(0, 0)}
    counted = {row["category"]: row for row in shares}
    source = whole["prompts"] if "prompts" in whole else by_prompt.lazy()
    asked: dict[str, int] = dict(read(source.group_by("category").len()).iter_rows())
    return [
        {"category": name, "prompts": asked.get(name, 0)} | counted.get(name, none)
        for name in sorted({*asked, *counted})
    ]


def outcomes(whole: Whole) -> list[dict[str, Any]]:
    """Accepted rows and prompts per category and expected outcome; `unspecified` where the source states none."""
    frames = []
    for config, name in (("prompts", "prompts"), ("sft", "accepted")):
        if config in whole:
            labelled = whole[config].with_columns(pl.col("outcome_hint").fill_null(Outcome.UNSPECIFIED.value))
            frames.append(
                labelled.group_by("category", pl.col("outcome_hint").alias("outcome"))
                .len("rows")
                .with_columns(pl.lit(name).alias("kind"))
            )
    if not frames:
        return []
    table = read(pl.concat(frames)).pivot("kind", index=["category", "outcome"], values="rows").fill_null(0)
    return table.sort("category", "outcome").to_dicts()


def reasons(whole: Whole) -> list[dict[str, Any]]:
    """Rejected candidates per reason and arm, most frequent first."""
    rejected = fates(whole).drop_nulls("reason")
    table = rejected.group_by("reason").agg(
        pl.len().alias("rows"),
        (pl.col("arm") != Arm.CONTRAST).sum().alias("spec"),
        (pl.col("arm") == Arm.CONTRAST).sum().alias("contrast"),
    )
    return read(table).sort(["rows", "reason"], descending=[True, False]).to_dicts()


def deficits(whole: Whole, manifest: Manifest) -> list[dict[str, Any]]:
    """Quotas that are not met: category, outcome (where it is for one), wanted, accepted, main_reason and, where the
    run says so, state."""
    if manifest.quota:
        return [dict(row) for row in manifest.quota if row["state"] != "met"]
    wanted = (manifest.recipe.get("quota") or {}).get("per_category")
    if not wanted:
        return []
    spec_arm = fates(whole).filter(pl.col("arm") == Arm.SPEC).drop_nulls("reason")
    why = read(spec_arm.group_by("category", "reason").len()).sort(["len", "reason"], descending=[True, False])
    short = []
    for row in categories(whole):
        if row["accepted"] < wanted:
            reasons = why.filter(pl.col("category") == row["category"])["reason"]
            short.append(
                {
                    "category": row["category"],
                    "wanted": wanted,
                    "accepted": row["accepted"],
                    "main_reason": reasons[0] if len(reasons) else None,
                }
            )
    return short


def prompts(manifest: Manifest) -> dict[str, Any]:
    """What became of the sources' rows, the classifier's agreement as a share with its interval."""
    labels = manifest.prompts.get("labels")
    if not labels or not labels["checked"]:
        return manifest.prompts
    return manifest.prompts | {"labels": labels | {"agreement": wilson(labels["agreed"], labels["checked"])}}


def tokens(manifest: Manifest) -> dict[str, Any]:
    """Calls, tokens and rates per stage from the manifest, and their totals.

    The rate of the whole run is per wall second of the run; a stage's own seconds are those of its requests, which
    overlap, so no rate is made of them.
    """
    stages = {name: entry.model_dump() for name, entry in manifest.stages.items()}
    called = [entry for name, entry in manifest.stages.items() if name.startswith("calls/")]
    totals: dict[str, Any] = {
        name: sum(getattr(entry, name) for entry in called)
        for name in ("calls", "failed_calls", "prompt_tokens", "completion_tokens")
    }
    run = manifest.stages.get("run")
    seconds = run.seconds if run else 0.0
    totals["seconds"] = seconds
    totals["completion_tokens_per_second"] = totals["completion_tokens"] / seconds if seconds else None
    return {"stages": stages, "totals": totals}
