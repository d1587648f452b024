"""A result as the README of its folder: a table for people, and the `model-index` that the Hub reads off a model card.

The folder can be uploaded beside the model as it is; the block between the dashes goes into the model's own card.
"""

from __future__ import annotations

from typing import Any

import polars as pl
import yaml

from specdistill.train.evaluation.metrics import METRICS
from specdistill.train.evaluation.results import Result
from specdistill.train.evaluation.words import shown, span


def readme(result: Result) -> str:
    """Markdown with `model-index` front matter, from the result alone."""
    record = result.record
    head = yaml.safe_dump({"model-index": model_index(result)}, sort_keys=False, allow_unicode=True)
    boot = record.bootstrap
    lines = [
        f"---\n{head}---",
        "",
        "# Evaluation",
        "",
        f"Model `{_plain(record.model['name'])}` (digest `{record.model['key']}`), policy "
        f"`{_plain(_of(record.spec, 'id'))}` {_plain(_of(record.spec, 'version'))}, dataset "
        f"`{_plain(_of(record.dataset, 'id'))}` (manifest `{_of(record.dataset, 'manifest_sha256')[:16]}`), "
        f"specdistill {record.specdistill}.",
        "",
        f"Means with {100 * boot['level']:.0f} % intervals: {boot['resamples']:,} bootstrap resamples of prompts, "
        "exact bounds where all answers agree. `numbers.parquet` has every number, `result.json` pins every file.",
        "",
        "| suite | with the spec | metric | value | interval | prompts | by |",
        "| --- | --- | --- | ---: | ---: | ---: | --- |",
    ]
    for row in _plain_rows(result):
        metric = METRICS[row["metric"]]
        lines.append(
            f"| {_plain(row['suite'])} | {'yes' if row['with_spec'] else 'no'} | {metric.title} | "
            f"{shown(metric.name, row['value'])} | {span(metric.name, row['low'], row['high'])} | {row['prompts']} | "
            f"{_plain(row['by'])} |"
        )
    return "\n".join([*lines, ""])


def model_index(result: Result) -> list[dict[str, Any]]:
    """The Hub's `model-index`: one result a suite, values as they are (shares from 0 to 1)."""
    record = result.record
    suites: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    for row in _plain_rows(result):
        found = {"type": row["metric"], "name": METRICS[row["metric"]].title, "value": round(row["value"], 4)}
        suites.setdefault((row["suite"], row["with_spec"]), []).append(found)
    return [
        {
            "name": str(record.model["name"]),
            "results": [
                {
                    "task": {"type": "text-generation"},
                    "dataset": {
                        "type": _of(record.dataset, "id") or suite,
                        "name": f"{suite}{', spec in context' if with_spec else ''}",
                        "revision": _of(record.dataset, "sha") or None,
                    },
                    "metrics": metrics,
                }
                for (suite, with_spec), metrics in suites.items()
            ],
        }
    ]


def _plain_rows(result: Result) -> list[dict[str, Any]]:
    return result.numbers.filter((pl.col("grouped_by") == "all") & (pl.col("variant") == "plain")).to_dicts()


def _of(record: dict[str, Any] | None, key: str) -> str:
    return str((record or {}).get(key) or "")


def _plain(text: Any) -> str:
    """Somebody else's name in a table: one line, nothing that Markdown or HTML reads."""
    return "".join(char for char in str(text) if char.isprintable() and char not in "|`<>[]\\*").strip()
