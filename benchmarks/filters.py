"""How good the filters before the judge are: precision and recall on labelled rows we wrote ourselves.

    python benchmarks/filters.py --write

`benchmarks/data/filters.jsonl` has the rows (CC0-1.0), `tests/data/leak_labelled.jsonl` those for leaks; half of the
good ones of each filter are hard: texts that look like the fault and are none. Who wrote the filters wrote the rows, so
they show what the filters are meant for, not how they fare on what a model writes. The filters were mended by the
mistakes on `dev`; those on `held_out` were counted and not looked at.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from specdistill.builders.filters import cut_off, no_answer, repeated_text, wrong_format, wrong_language
from specdistill.builders.reasoning import contradiction, vacillates
from specdistill.schemas.citations import cited_clauses
from specdistill.schemas.copying import copied_words, shingles_of
from specdistill.schemas.intervals import wilson
from specdistill.schemas.leak import find_leak
from specdistill.schemas.recipe import Screens
from specdistill.specs.clauses import clause_frame
from specdistill.specs.loader import load_spec

ROOT = Path(__file__).parent.parent
DATA = ROOT / "benchmarks" / "data" / "filters.jsonl"
LEAKS = ROOT / "tests" / "data" / "leak_labelled.jsonl"
RESULT = ROOT / "benchmarks" / "results" / "filters.md"
Filter = Callable[[dict[str, str]], Any]


def filters() -> dict[str, Filter]:
    """Reason to a function of a labelled row: something true where the filter finds a fault."""
    clauses = clause_frame(load_spec("safety"))
    anchors, limits = frozenset(clauses["anchor"].to_list()), Screens()
    shingles = shingles_of(clauses["text"].to_list(), limits.copied_words)
    return {
        "truncated": lambda row: cut_off(row["answer"]),
        "empty": lambda row: no_answer(row["answer"]),
        "malformed": lambda row: wrong_format(row["answer"]),
        "wrong_language": lambda row: wrong_language(row["answer"], row["asked"]),
        "repeated_text": lambda row: repeated_text(row["answer"], limits.max_repeat_share),
        "spec_copied": lambda row: copied_words(row["answer"], shingles, limits.copied_words),
        "leak": lambda row: find_leak(row["answer"], anchors),
        "invented_clause": lambda row: cited_clauses(row["reasoning"], anchors)[1],
        "vacillating": lambda row: vacillates(row["reasoning"]),
        "contradiction": lambda row: contradiction(row["reasoning"], row["answer"]),
    }


def rows() -> list[dict[str, Any]]:
    """All labelled rows: filter, bad, part, and the texts the filter reads."""
    found = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]
    for line in LEAKS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.append({"filter": "leak", "bad": row["leak"], "part": row["part"], "answer": row["text"]})
    return found


def measure(part: str) -> dict[str, dict[str, int]]:
    """Filter to counts: caught, missed, wrong (good rows it takes), kept."""
    known = filters()
    counts = {name: {"caught": 0, "missed": 0, "wrong": 0, "kept": 0} for name in known}
    for row in rows():
        if row["part"] == part:
            taken = bool(known[row["filter"]](row))
            kind = ("caught" if taken else "missed") if row["bad"] else ("wrong" if taken else "kept")
            counts[row["filter"]][kind] += 1
    return counts


def share(hits: int, total: int) -> str:
    """A share with its interval, as the table shows it."""
    found = wilson(hits, total)
    return f"{hits}/{total} ({found['low']:.0%}–{found['high']:.0%})" if total else "–"


def main() -> None:
    """Measure and print, and with --write keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--show", metavar="PART", help="print the rows of a part that are decided wrongly")
    asked = parser.parse_args()
    if asked.show:
        known = filters()
        for row in rows():
            if row["part"] == asked.show and bool(known[row["filter"]](row)) != row["bad"]:
                print(row, known[row["filter"]](row))
    lines = [
        "# Filters before the judge",
        "",
        f"{len(rows())} labelled rows of our own (`benchmarks/filters.py`). Precision: of what a filter takes, how "
        "much is faulty; recall: of what is faulty, how much it takes; with 95 % intervals. "
        "Who wrote the filters wrote the rows: they show what the filters are meant for. The filters were mended by "
        "the mistakes on dev, never by those on held_out.",
    ]
    for part in ("held_out", "dev"):
        lines += ["", f"## {part}", "", "| filter | rows | precision | recall |", "| --- | ---: | ---: | ---: |"]
        for name, count in measure(part).items():
            caught, taken = count["caught"], count["caught"] + count["wrong"]
            faulty = caught + count["missed"]
            lines.append(f"| {name} | {sum(count.values())} | {share(caught, taken)} | {share(caught, faulty)} |")
    print("\n".join(lines))
    if asked.write:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
