"""Common public sets by hub id: which column is the prompt and what is expected. Columns as documented by each set.

Only ids, columns and licences are here; nothing is copied. Revisions can be pinned: `xstest@REVISION`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from specdistill.schemas.vocabulary import Outcome

Row = Mapping[str, Any]


@dataclass(frozen=True)
class PublicSet:
    """How to read one public set.

    Attributes:
        prompt: its column of prompts.
        id: its column of ids, if any.
        outcome: expected outcome of a row; None where the set states none.
        where: rows to take; None for all.
        licence: as its page states it.
        paper: where it comes from.
    """

    name: str
    hub: str
    prompt: str
    licence: str
    paper: str
    outcome: Callable[[Row], str | None]
    split: str = "train"
    config: str | None = None
    id: str | None = None
    where: Callable[[Row], bool] | None = None


def _always(outcome: Outcome) -> Callable[[Row], str]:
    return lambda row: outcome.value


def _xstest(row: Row) -> str:
    label = str(row.get("label") or row.get("type") or "")
    unsafe = label == "unsafe" or label.startswith("contrast_")
    return (Outcome.REFUSE if unsafe else Outcome.COMPLY).value


_SETS = (
    PublicSet("xstest", "walledai/XSTest", "prompt", "CC-BY-4.0", "arXiv 2308.01263", _xstest, split="test"),
    PublicSet("strongreject", "walledai/StrongREJECT", "prompt", "MIT", "arXiv 2402.10260", _always(Outcome.REFUSE)),
    PublicSet("harmbench", "walledai/HarmBench", "prompt", "MIT", "arXiv 2402.04249", _always(Outcome.REFUSE),
              config="standard"),
    PublicSet("jailbreakbench", "JailbreakBench/JBB-Behaviors", "Goal", "MIT", "arXiv 2404.01318",
              _always(Outcome.REFUSE), split="harmful", config="behaviors"),
    PublicSet("jailbreakbench-benign", "JailbreakBench/JBB-Behaviors", "Goal", "MIT", "arXiv 2404.01318",
              _always(Outcome.COMPLY), split="benign", config="behaviors"),
    PublicSet("or-bench-hard", "bench-llm/or-bench", "prompt", "CC-BY-4.0", "arXiv 2405.20947",
              _always(Outcome.COMPLY), config="or-bench-hard-1k"),
)  # fmt: skip

PUBLIC = {one.name: one for one in _SETS}
"""Name here to the set."""
