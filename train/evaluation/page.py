"""A comparison as plain data: what `cards` turns into Markdown, HTML and plots, and `--json` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from specdistill.train.evaluation.compare import apart, differences, multi_turn_drop, pooled_seeds, way_of
from specdistill.train.evaluation.metrics import METRICS
from specdistill.train.evaluation.results import Result
from specdistill.train.evaluation.words import HEADLINE, caveats, not_shown, sentence, title_of
from specdistill.train.evaluation.words import way as in_words

CURVED = ("clause_citation", "anchor_retrieval", "outcome_accuracy", "policy_retrieval", "compliance")


def comparison(results: Sequence[Result], baseline: Result, title: str) -> tuple[dict[str, Any], pl.DataFrame]:
    """The page's data and the differences behind it.

    Args:
        results: baseline included, in the order of tables.
    """
    frame = differences(results, baseline)
    rows = frame.to_dicts()
    overall = [row for row in rows if row["grouped_by"] == "all"]
    numbered = {name for result in results for name in result.numbers["metric"].to_list()}
    measured = [name for name in METRICS if name in numbered]
    headline = [name for name in HEADLINE if name in measured]
    ways = [way for result in results for way in ways_of(result)]
    both_ways = {one.name for one in results if None in (way_of(one), way_of(baseline))} - {baseline.name}
    page = {
        "title": title,
        "baseline": baseline.name,
        "results": [result_facts(way) for way in ways],
        "metrics": [metric_facts(name) for name in measured],
        "headline": [cells(name, ways, rows, "plain") for name in headline],
        "variants": [
            {
                "variant": variant,
                "rows": [cells(name, ways, rows, variant) for name in variant_metrics(variant, measured)],
            }
            for variant in variants_of(results)
        ],
        "suites": [
            {"suite": suite, "rows": [cells(name, ways, rows, "plain", suite=suite) for name in headline]}
            for suite in suites_of(results)[1:]
        ],
        "groups": groups(ways, rows, headline),
        "compared": not frame.is_empty(),
        "sentences": [sentence(row, row["name"] in both_ways) for row in quotable(overall)],
        "not_shown": not_shown(overall, [result.name for result in results], baseline.name, both_ways),
        "caveats": caveats(results, rows, both_ways),
        "curves": curves(results, headline),
        "drops": drops(ways, headline),
        "tokens": tokens(ways, headline),
    }
    return page, frame


def metric_facts(name: str) -> dict[str, Any]:
    """A metric's definition."""
    one = METRICS[name]
    kept = ("name", "title", "better", "share", "definition", "over", "source")
    return {field: getattr(one, field) for field in kept}


@dataclass(frozen=True)
class Way:
    """A result as it was asked in one way: a column of the tables.

    Attributes:
        name: the result's; "… with the spec" for that half of a result that was asked in both ways.
        result: with the measures and numbers of this way only.
        with_spec: whether the spec was in context.
        half: whether the result was asked in the other way too.
    """

    name: str
    result: Result
    with_spec: bool
    half: bool


def ways_of(result: Result) -> list[Way]:
    """A result once, or, asked in both ways, without the spec and with it."""
    only = way_of(result)
    if only is not None:
        return [Way(result.name, result, only, half=False)]
    halves = []
    for with_spec in (False, True):
        here = pl.col("with_spec") == with_spec
        kept = replace(result, measures=result.measures.filter(here), numbers=result.numbers.filter(here))
        halves.append(Way(f"{result.name} with the spec" if with_spec else result.name, kept, with_spec, half=True))
    return halves


def result_facts(way: Way) -> dict[str, Any]:
    """What is known of one result."""
    result, record = way.result, way.result.record
    made = record.experiment or {}
    asked = f"; {in_words(way.with_spec)}, the seconds are those of both ways" if way.half else ""
    return {
        "name": way.name,
        "note": title_of(result) + asked,
        "arm": made.get("arm"),
        "fraction": made.get("fraction"),
        "seed": made.get("seed"),
        "training": made.get("training"),
        "model": record.model["name"],
        "model_key": record.model["key"],
        "dataset": record.dataset,
        "spec": record.spec,
        "with_spec": [way.with_spec],
        "answers": result.measures["answer_id"].drop_nulls().n_unique(),
        "failed_calls": record.failed_calls,
        "wall_seconds": record.times.wall_seconds,
        "cpu_seconds": record.times.cpu_seconds,
        "created": record.created,
    }


def cells(
    metric: str,
    ways: Sequence[Way],
    rows: Sequence[dict[str, Any]],
    variant: str,
    *,
    suite: str | None = None,
    kind: str = "all",
    group: str = "*",
) -> dict[str, Any]:
    """One metric of every result, and its difference from the baseline.

    Values and intervals are each result's own; the difference is over the prompts both answered.

    Args:
        suite: None for the first.
    """
    found = {}
    place = {"metric": metric, "variant": variant, "grouped_by": kind, "group": group}
    for way in ways:
        place["suite"] = suite or suites_of([way.result])[0]
        own = way.result.numbers.filter(pl.all_horizontal(pl.col(name) == value for name, value in place.items()))
        if own.is_empty():
            continue
        number = own.row(0, named=True)
        place_of = {**place, "name": way.result.name, "with_spec": number["with_spec"], "by": number["by"]}
        gap = next((row for row in rows if all(row[name] == value for name, value in place_of.items())), None)
        found[way.name] = {
            **{name: number[name] for name in ("value", "low", "high", "prompts", "rows", "interval")},
            "difference": gap and gap_of(gap),
        }
    one = METRICS[metric]
    return {"metric": metric, "title": one.title, "better": one.better, "share": one.share, "cells": found}


def gap_of(row: dict[str, Any]) -> dict[str, Any]:
    """The difference of a row of the differences table."""
    kept = {"value": row["difference"], "low": row["difference_low"], "high": row["difference_high"]}
    return kept | {"verdict": row["verdict"], "paired": row["paired"], "apart": apart(row), "prompts": row["prompts"]}


def suites_of(results: Sequence[Result]) -> list[str]:
    """Names of the suites, the first tables' first."""
    return list(dict.fromkeys(suite for result in results for suite in result.record.suites))


def groups(ways: Sequence[Way], rows: Sequence[dict[str, Any]], measured: Sequence[str]) -> list[dict[str, Any]]:
    """Numbers by expected outcome and by category, of the first suite's plain form."""
    found = []
    for metric in (*CURVED, "over_refusal", "leak"):
        for kind in ("outcome", "category"):
            of_kind = pl.concat([way.result.numbers for way in ways]).filter(
                (pl.col("metric") == metric) & (pl.col("grouped_by") == kind) & (pl.col("variant") == "plain")
            )
            names = of_kind["group"].unique().sort().to_list()
            if metric not in measured or len(names) < 2:
                continue
            lines = [{"group": name, **cells(metric, ways, rows, "plain", kind=kind, group=name)} for name in names]
            found.append({"metric": metric, "title": METRICS[metric].title, "kind": kind, "rows": lines})
    return found


def variants_of(results: Sequence[Result]) -> list[str]:
    """Variants beside the plain form, pooled ones first."""
    found: dict[str, None] = {}
    for result in results:
        found |= dict.fromkeys(result.numbers["variant"].unique(maintain_order=True).to_list())
    first = [name for name in ("*", "ood") if name in found]
    return [*first, *(name for name in found if name not in ("plain", "*", "ood"))]


def variant_metrics(variant: str, measured: Sequence[str]) -> list[str]:
    """Metrics shown of a variant."""
    if variant == "*":
        return [name for name in ("goodness_at_10", "all_variants_right") if name in measured]
    wanted = ("clause_citation", "anchor_retrieval", "outcome_accuracy", "compliance", "readable")
    return [name for name in wanted if name in measured]


def quotable(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Differences worth a sentence: headline metrics with a direction, shown, those with intervals apart first."""
    found = [
        row
        for row in rows
        if row["variant"] in ("plain", "*")
        and row["metric"] in (*HEADLINE, "goodness_at_10", "all_variants_right")
        and row["verdict"] in ("better", "worse")
    ]
    return sorted(found, key=lambda row: (not apart(row), -abs(row["difference"])))


def curves(results: Sequence[Result], measured: Sequence[str]) -> list[dict[str, Any]]:
    """Sample efficiency: the points of every curved metric, of arms that were trained on more than one fraction."""
    found = []
    for metric in CURVED:
        if metric in measured:
            points = list(pooled_seeds(results, metric))
            several = {point["arm"] for point in points if sum(p["arm"] == point["arm"] for p in points) > 1}
            points = [point for point in points if point["arm"] in several]
            if points:
                found.append({"metric": metric, "title": METRICS[metric].title, "points": points})
    return found


def drops(ways: Sequence[Way], measured: Sequence[str]) -> list[dict[str, Any]]:
    """Multi-turn drop of every result."""
    found = []
    for way in ways:
        for metric in CURVED:
            if metric in measured and (drop := multi_turn_drop(way.result, metric)) is not None:
                found.append({"name": way.name, "metric": metric, "title": METRICS[metric].title, **drop})
    return found


def tokens(ways: Sequence[Way], measured: Sequence[str]) -> list[dict[str, Any]]:
    """Inference tokens against score: mean tokens of an answer, and every curved metric."""
    found = []
    for way in ways:
        spent = cells("completion_tokens", [way], [], "plain")["cells"].get(way.name)
        if spent is None:
            continue
        scores = {name: cells(name, [way], [], "plain")["cells"].get(way.name) for name in CURVED if name in measured}
        found.append({"name": way.name, "tokens": spent["value"], "scores": scores})
    return found
