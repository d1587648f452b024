"""Inspect's eval logs: ours for `inspect view`, and theirs measured with our metrics.

`inspect_ai` itself is not needed: its JSON log format is documented, and installing it beside training pulls older
versions of packages that `datasets` uses. Written logs were read back with `inspect_ai` 0.3.285; a log of that version
is a fixture of the tests. A binary `.eval` log becomes JSON with `inspect log convert --to json`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.builders.engines.exchange import Completion
from specdistill.builders.parts import write_part
from specdistill.builders.prompts import prompt_id
from specdistill.errors import SchemaError, UsageError
from specdistill.schemas.digest import digest
from specdistill.schemas.evaluation import ANSWERS, EvalResult
from specdistill.schemas.files import write_whole
from specdistill.schemas.vocabulary import FinishReason
from specdistill.train.evaluation.evaluate import Asked, cpu_seconds, finish
from specdistill.train.evaluation.generate import answer_row
from specdistill.train.evaluation.results import RESULT, Result
from specdistill.train.evaluation.suites import items_of

FILE = "inspect.json"
_STOPPED = {"stop": FinishReason.STOP, "max_tokens": FinishReason.LENGTH, "model_length": FinishReason.LENGTH}
_WRITTEN = {FinishReason.STOP: "stop", FinishReason.LENGTH: "max_tokens", FinishReason.ERROR: "unknown"}


def export_log(result: Result) -> Path:
    """Write a result as a log that `inspect view` shows: every answer with its measures as scores.

    Returns:
        `inspect.json` in the result's folder.
    """
    items = {row["item_id"]: row for row in result.rows("items").iter_rows(named=True)}
    scores: dict[str, dict[str, Any]] = {}
    for row in result.measures.filter(pl.col("answer_id").is_not_null()).iter_rows(named=True):
        value = {"value": row["value"], "explanation": row["detail"], "metadata": {"by": row["by"]}}
        scores.setdefault(row["answer_id"], {})[row["metric"]] = value
    known = result.rows("answers").filter(pl.col("answer_id").is_in(list(scores)))
    samples = [
        _sample(row, items[row["item_id"]], scores[row["answer_id"]], result) for row in known.iter_rows(named=True)
    ]
    record = result.record
    log = {
        "version": 2,
        "status": "success",
        "eval": {
            "created": record.created,
            "task": f"specdistill/{record.name}",
            "task_id": digest("inspect", record.name, record.created)[:22],
            "model": str(record.model["name"]),
            "dataset": {"name": ", ".join(record.suites), "samples": len(items)},
            "config": {},
            "packages": record.packages,
            "metadata": {"dataset": record.dataset, "spec": record.spec, "model": record.model},
        },
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": _scores(result),
        },
        "samples": samples,
    }
    write_whole(result.folder / FILE, (json.dumps(log, ensure_ascii=False, indent=1) + "\n").encode())
    return result.folder / FILE


def _sample(
    answer: Mapping[str, Any], item: Mapping[str, Any], scores: dict[str, Any], result: Result
) -> dict[str, Any]:
    said: list[dict[str, Any]] = []
    if answer["reasoning"]:
        said.append({"type": "reasoning", "reasoning": answer["reasoning"]})
    said.append({"type": "text", "text": answer["answer"] if answer["answer"] is not None else answer["raw"] or ""})
    message = {"role": "assistant", "content": said, "source": "generate", "model": str(result.record.model["name"])}
    prompt = [{"role": turn["role"], "content": turn["content"]} for turn in item["prompt"]]
    kept = ("item_id", "prompt_id", "suite", "variant", "category", "outcome_hint", "clauses")
    stopped = _WRITTEN[FinishReason(answer["finish_reason"])]
    return {
        "id": f"{item['item_id']}{'+spec' if answer['with_spec'] else ''}",
        "epoch": answer["sample_index"] + 1,
        "input": prompt,
        "target": item["outcome_hint"] or "",
        "messages": [*prompt, message],
        "output": {"model": message["model"], "choices": [{"message": message, "stop_reason": stopped}]},
        "scores": scores,
        "metadata": {name: item[name] for name in kept} | {"with_spec": answer["with_spec"]},
    }


def _scores(result: Result) -> list[dict[str, Any]]:
    """The numbers of the plain form, as Inspect's results."""
    plain = result.numbers.filter((pl.col("grouped_by") == "all") & (pl.col("variant") == "plain"))
    found = []
    for row in plain.iter_rows(named=True):
        values = {"mean": row["value"], "low": row["low"], "high": row["high"]}
        metrics = {name: {"name": name, "value": value} for name, value in values.items() if value is not None}
        found.append(
            {
                "name": row["metric"],
                "scorer": f"specdistill/{row['by']}",
                "metrics": {
                    name: {"name": name, "value": value} for name, value in metrics.items() if value is not None
                },
                "metadata": {"suite": row["suite"], "with_spec": row["with_spec"], "prompts": row["prompts"]},
            }
        )
    return found


def import_log(path: Path, asked: Asked, folder: Path) -> EvalResult:
    """Measure the answers of an Inspect log; no model is asked, and no model grades.

    A sample is known by its conversation, which must be that of a prompt of the suites (`epoch` tells several answers
    apart).

    Raises:
        SchemaError: the file is no JSON log.
        UsageError: none of its samples answers a prompt of the suites.
    """
    began = (time.monotonic(), cpu_seconds())
    log = read_log(path)
    items = items_of(asked.suites, asked.variants, asked.variant_limit)
    by_text = {prompt_id(row["prompt"]): row for row in items.iter_rows(named=True)}
    model = str(log["eval"].get("model") or path.stem)
    rows = []
    for sample in log["samples"]:
        item = by_text.get(prompt_id(_turns(sample.get("input"))))
        if item is not None:
            index = int(sample.get("epoch") or 1) - 1
            key = digest("inspect answer", item["item_id"], model, index)
            rows.append(answer_row(key, item, index, completion_of(sample), "native", False))
    if not rows:
        raise UsageError(
            f"None of the {len(log['samples'])} samples of the log answers a prompt of the suites.",
            "Name the suites the log was made with: --dataset, --file, --public, --variant.",
        )
    (folder / RESULT).unlink(missing_ok=True)
    answers = ANSWERS.frame(rows).unique("answer_id", keep="first", maintain_order=True)
    write_part(folder / "answers", answers)
    record: dict[str, Any] = {
        "name": model,
        "engine": "inspect",
        "key": digest("inspect", model),
        "lineage": None,
        "files": {},
    }
    record |= {"log": path.name, "samples": len(log["samples"]), "matched": len(rows)}
    answered = items.filter(pl.col("item_id").is_in(answers["item_id"].to_list()))
    return finish(asked, folder, record, answered, answers, None, began)


def read_log(path: Path) -> dict[str, Any]:
    """A JSON log as Inspect writes it.

    Raises:
        SchemaError: it is none.
    """
    remedy = "Give a JSON log; `inspect log convert --to json` makes one of an .eval file."
    try:
        log = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise SchemaError(f"The log cannot be read: {exc}.", remedy, file=path) from exc
    if not isinstance(log, dict) or not isinstance(log.get("eval"), dict) or not isinstance(log.get("samples"), list):
        raise SchemaError("This is no Inspect log: it has no eval and samples.", remedy, file=path)
    return log


def completion_of(sample: Mapping[str, Any]) -> Completion:
    """What the model said in one sample."""
    choices = (sample.get("output") or {}).get("choices") or []
    if sample.get("error") or not choices:
        reason = (sample.get("error") or {}).get("message") or "the sample has no output"
        return Completion("", None, FinishReason.ERROR, None, None, error=str(reason)[:300])
    content = choices[0].get("message", {}).get("content") or ""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    text = "".join(str(part.get("text") or "") for part in parts if part.get("type") == "text")
    reasoning = "\n".join(str(part.get("reasoning") or "") for part in parts if part.get("type") == "reasoning")
    usage = (sample.get("output") or {}).get("usage") or {}
    finish_reason = _STOPPED.get(str(choices[0].get("stop_reason")), FinishReason.STOP)
    return Completion(text, reasoning or None, finish_reason, usage.get("input_tokens"), usage.get("output_tokens"))


def _turns(asked: Any) -> list[dict[str, str]]:
    """The conversation of a sample: text, or messages whose content is text or parts."""
    if isinstance(asked, str):
        return [{"role": "user", "content": asked}]
    turns = []
    for turn in asked or []:
        content = turn.get("content") or ""
        if not isinstance(content, str):
            content = "".join(str(part.get("text") or "") for part in content)
        turns.append({"role": str(turn.get("role")), "content": content})
    return turns
