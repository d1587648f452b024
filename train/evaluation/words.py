"""What a comparison may be quoted for, and what must be said beside it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from specdistill.train.evaluation.compare import apart
from specdistill.train.evaluation.metrics import METRICS
from specdistill.train.evaluation.results import Result

HEADLINE = ("clause_citation", "policy_retrieval", "anchor_retrieval", "exact_clause_match", "outcome_accuracy",
            "compliance", "over_refusal", "leak", "invented_clause", "helpfulness", "answer_words",
            "completion_tokens")  # fmt: skip
"""Metrics of the first table, where they were measured."""


def shown(metric: str, value: float | None) -> str:
    """A value as people read it: shares as per cent."""
    if value is None:
        return "?"
    return f"{100 * value:.0f} %" if METRICS[metric].share else f"{value:.0f}"


def span(metric: str, low: float | None, high: float | None) -> str:
    """An interval: `88 to 97`."""
    if low is None or high is None:
        return "no interval"
    scale = 100 if METRICS[metric].share else 1
    return f"{scale * low:.0f} to {scale * high:.0f}"


def way(with_spec: bool) -> str:
    """How a prompt was asked, in words."""
    return f"{'with' if with_spec else 'without'} the spec in context"


def sentence(row: Mapping[str, Any], say_way: bool = False) -> str:
    """The sentence a reader may quote for one difference, with everything that makes it true.

    Args:
        say_way: say whether the spec was in context; it was then so for both, or for neither.
    """
    metric = METRICS[row["metric"]]
    unit = " points" if metric.share else ""
    scale = 100 if metric.share else 1
    how = "paired by prompt" if row["paired"] else "different prompts"
    clear = "; the two intervals do not overlap" if apart(dict(row)) else ""
    form = {"plain": "", "ood": ", all transforms together", "*": ", over all variants"}.get(
        row["variant"], f", asked as {row['variant']}"
    ) + (f", {way(row['with_spec'])}" if say_way else "")
    return (
        f"On {row['prompts']} prompts of {row['suite']}{form}, {metric.title} is {shown(metric.name, row['value'])} "
        f"({span(metric.name, row['low'], row['high'])}) for {row['name']} and "
        f"{shown(metric.name, row['base_value'])} ({span(metric.name, row['base_low'], row['base_high'])}) for "
        f"{row['baseline']}: a difference of {scale * row['difference']:+.0f}{unit} "
        f"({span(metric.name, row['difference_low'], row['difference_high'])}; {how}{clear})."
    )


def not_shown(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], baseline: str, both_ways: Collection[str] = ()
) -> list[str]:
    """Headline differences that the data do not show, result by result: silence is not equality.

    Args:
        rows: differences of all prompts.
        names: of all results, the baseline's included.
        both_ways: results whose ways of asking (with the spec in context, without) are told apart.
    """
    compared: dict[tuple[str, bool], list[str]] = {}
    for row in rows:
        metric = METRICS[row["metric"]]
        if row["variant"] == "plain" and row["metric"] in HEADLINE and metric.better != "neither":
            missing = compared.setdefault((row["name"], row["with_spec"]), [])
            if row["verdict"] == "not shown":
                missing.append(f"{metric.title} ({span(metric.name, row['difference_low'], row['difference_high'])})")
    found = [
        f"{name}{f', {way(spec)},' if name in both_ways else ''} is not shown to differ from {baseline} in: "
        f"{', '.join(of)}."
        for (name, spec), of in compared.items()
        if of
    ]
    others = [name for name in names if name != baseline]
    if not others:
        return [f"{baseline} is the only result: nothing could be compared."]
    return found + [
        f"{name} could not be compared with {baseline}: they share no headline number, of the same suite and asked in "
        "the same way."
        for name in others
        if all(name != one for one, _ in compared)
    ]


def caveats(results: Sequence[Result], rows: Sequence[Mapping[str, Any]], both_ways: Collection[str] = ()) -> list[str]:
    """What a reader must know before quoting anything.

    Args:
        both_ways: as in `not_shown`.
    """
    record = results[0].record
    level = round(100 * float(record.bootstrap["level"]))
    found = [
        f"Intervals hold {level} % over prompts like these ({record.bootstrap['resamples']:,} bootstrap resamples of "
        "whole prompts; exact bounds where all answers, or two models on all prompts, agree). They do not hold what "
        "another training seed would change, unless several seeds are shown.",
    ]
    tested = sum(1 for row in rows if row["grouped_by"] == "all" and METRICS[row["metric"]].better != "neither")
    if tested > 1:
        found.append(
            f"{tested} differences were looked at: about {tested * (100 - level) / 100:.0f} of them would be called "
            "better or worse by chance alone."
        )
    smallest = min((row["prompts"] for row in rows if row["grouped_by"] == "all"), default=0)
    if rows and smallest < 50:
        found.append(f"The smallest number here stands on {smallest} prompts; small effects cannot be seen in it.")
    if any(row["by"] == "rules" and row["metric"] in ("outcome_accuracy", "over_refusal") for row in rows):
        found.append(
            "Outcomes were read off by rules that know the usual English phrases; a grader (--grader) reads better."
        )
    graders = sorted({row["by"] for row in rows if row["by"] != "rules"})
    if graders:
        found.append(f"Graded by {', '.join(graders)}: its errors are in the numbers and not in the intervals.")
    if any(result.record.failed_calls for result in results):
        failed = {result.name: result.record.failed_calls for result in results if result.record.failed_calls}
        found.append(f"Failed calls are left out: {', '.join(f'{name} {count}' for name, count in failed.items())}.")
    if len({str(result.record.suites) for result in results}) > 1:
        found.append("The results were not asked the same suites; only what they share is compared.")
    if both_ways:
        found.append(
            "What was asked with the spec in context is compared with the baseline's answers with it, what was asked "
            "without it with those without; where the baseline was not asked so, there is no difference."
        )
    specs = {(result.record.spec or {}).get("digest") for result in results}
    if len(specs) > 1:
        found.append("The results were measured against different versions of the policy: do not compare them.")
    models = {str((result.record.model.get("lineage") or {}).get("base_model")) for result in results}
    if any("135m" in str(model).lower() for model in models) or any(
        "embedded" in str(result.record.model["name"]) for result in results
    ):
        found.append(
            "The model has 135 million weights: it shows that the machinery works, not what a policy can teach."
        )
    return found


def title_of(result: Result) -> str:
    """A result in a few words."""
    made = result.record.experiment or {}
    training = made.get("training") or {}
    parts = [str(made.get("note") or result.record.model["name"])]
    if training.get("rows"):
        parts.append(f"{training['rows']} rows, {training['steps']} steps")
    return "; ".join(parts)
