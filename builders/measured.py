"""What an earlier run says about the next one: tokens a call, what passed the filters, bytes a row. Read-only."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from specdistill.builders.assumptions import Measured, Sizes
from specdistill.builders.capacity import COMPARE
from specdistill.builders.compare_stage import ORDERS
from specdistill.builders.ledger import read, session_seconds
from specdistill.builders.parts import parquet_bytes
from specdistill.builders.run import open_run
from specdistill.builders.stored import Stored, height_of
from specdistill.errors import RunError
from specdistill.schemas.vocabulary import Arm

EMPTY_LEDGER = 20_480
"""Bytes of a ledger without a call: five pages."""


def measure_run(root: Path) -> Measured:
    """What a run measured.

    Raises:
        RunError: there is no run, it made no call, or it is damaged.
    """
    layout, recipe = open_run(root)
    if not layout.ledger.exists():
        raise RunError("This run made no call, so nothing can be learnt from it.", "Name another.", file=root)
    # Prompt tokens and seconds stand with the first sample of a request only.
    steps = read(
        layout.ledger,
        "SELECT stage, SUM(ok), SUM(completion_tokens), SUM(prompt_tokens), SUM(seconds > 0)"
        " FROM calls WHERE ok = 1 GROUP BY stage",
    )
    stored = Stored(layout, recipe)
    completion = {str(step): (tokens or 0) / calls for step, calls, tokens, _, _ in steps}
    prompt = {str(step): (tokens or 0) / requests for step, _, _, tokens, requests in steps if requests and tokens}
    if ORDERS[0] in completion:  # both orders are one step of the model
        completion[COMPARE], prompt[COMPARE] = completion[ORDERS[0]], prompt.get(ORDERS[0], 0.0)
    seconds = session_seconds(layout.ledger)
    generated = sum(tokens or 0 for _, _, tokens, _, _ in steps)
    arms = stored.candidates().select("candidate_id", "arm").collect()
    judged = arms.lazy().join(stored.judgments().select("candidate_id"), on="candidate_id", how="semi").collect()
    by_arm, passed = (dict(rows.group_by("arm").len().iter_rows()) for rows in (arms, judged))
    repairs = by_arm.get(Arm.REPAIR.value, 0) / (recipe.repair.samples if recipe.repair else 1)
    compared = sum(requests or 0 for step, _, _, _, requests in steps if step == ORDERS[0])
    return Measured(
        root.name,
        prompt,
        completion,
        {arm: passed.get(arm, 0) / made for arm, made in by_arm.items()},
        repairs / by_arm[Arm.SPEC.value] if recipe.repair and by_arm.get(Arm.SPEC.value) else None,
        compared / stored.prompts.height if compared else None,
        generated / seconds if seconds and generated else None,
        sizes_of(stored, arms.height, sum(calls for _, calls, *_ in steps)),
    )


def sizes_of(stored: Stored, made: int, calls: int) -> Sizes:
    """Bytes a row, of which the text is not told apart: the next run's answers are as long as this one's.

    Args:
        made: candidates of the run.
        calls: finished calls in its ledger.
    """
    layout = stored.layout
    candidates, judgments = folder_bytes(layout.candidates), folder_bytes(layout.judgments)
    derived = sum(payload(path) for path in layout.datasets.rglob("*.parquet"))
    ledger = layout.ledger.stat().st_size - EMPTY_LEDGER
    return Sizes(
        prompt=folder_bytes(layout.prompts) / max(stored.prompts.height, 1),
        call=max(ledger, 0) / max(calls, 1),
        candidate=candidates / max(made, 1),
        judgment=judgments / max(height_of(stored.judgments()), 1),
        text=0.0,
        derived=derived / (candidates + judgments) if candidates + judgments else 0.0,
    )


def folder_bytes(folder: Path) -> float:
    """Bytes of a folder's parts beyond what a part without rows takes."""
    return sum(payload(path) for path in folder.glob("part-*.parquet"))


def payload(path: Path) -> float:
    """Bytes of a Parquet file beyond those of one without rows."""
    empty = len(parquet_bytes(pl.scan_parquet(path).limit(0).collect()))
    return max(path.stat().st_size - empty, 0)
