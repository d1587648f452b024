"""Re-aggregating a million stored judge samples: read from Parquet parts, aggregated anew with other settings.

    taskset -c 0,1 python benchmarks/reaggregate.py --write

The samples are drawn at random (no judge), 200,000 candidates with 5 samples each, with text columns of realistic
length; one in eight abstains.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.builders.judging import aggregate_judgments
from specdistill.builders.parts import read_parts, write_part
from specdistill.cards.judge_numbers import judge
from specdistill.schemas.rows import JUDGMENTS
from specdistill.schemas.vocabulary import CRITERIA

RESULT = Path(__file__).parent / "results" / "reaggregate.md"
WEIGHTS = {"compliance": 0.5, "helpfulness": 0.2, "correctness": 0.2, "reasoning_quality": 0.1}
PART = 50_000
JUSTIFICATION = "The answer refuses as [SH-R1] asks, is brief and kind, and names where help can be had; nothing more."


def samples(rows: int, k: int, first: int) -> pl.DataFrame:
    """`rows` judge samples."""
    number = pl.int_range(first, first + rows, eager=True)
    candidate = (number // k).cast(pl.String).str.zfill(32)
    frame = pl.DataFrame({"candidate_id": candidate}).with_columns(
        (pl.lit("j") + number.cast(pl.String).str.zfill(31)).alias("judgment_id"),
        pl.col("candidate_id").alias("prompt_id"),
        (pl.lit("category-") + (number // k % 7).cast(pl.String)).alias("category"),
        pl.lit("org/judge").alias("judge"),
        pl.lit("d" * 32).alias("judge_digest"),
        pl.lit("s" * 32).alias("spec_digest"),
        (number % k).cast(pl.Int32).alias("sample_index"),
        pl.Series((number.hash(1) % 8) == 0).alias("mute"),
        *(((number.hash(seed) % 5) / 4).alias(name) for seed, name in enumerate(CRITERIA, 2)),
    )
    rows_of_table = frame.with_columns(
        *(pl.when(~pl.col("mute")).then(name).alias(name) for name in CRITERIA),
        pl.when("mute").then(pl.lit("abstained")).otherwise(pl.lit("scored")).alias("status"),
        pl.when("mute").then(pl.lit("declined")).alias("abstain_reason"),
        pl.lit(JUSTIFICATION).alias("justification"),
        pl.lit('{"justification": "' + JUSTIFICATION + '", "compliance": 4}').alias("raw"),
        pl.lit(1800, pl.Int32).alias("prompt_tokens"),
        pl.lit(70, pl.Int32).alias("completion_tokens"),
    )
    missing = (column for column in JUDGMENTS.columns if column.name not in rows_of_table.columns)
    return rows_of_table.with_columns(pl.lit(None, column.dtype).alias(column.name) for column in missing).select(
        JUDGMENTS.names
    )


@dataclass
class Timed:
    """What a step took: wall seconds, CPU seconds of all threads, and what came of it."""

    wall: float
    cpu: float
    made: Any

    def __str__(self) -> str:
        return f"{self.wall:.2f} | {self.cpu:.2f}"


def timed(what: Callable[[], Any]) -> Timed:
    """Run a step and time it."""
    wall, cpu = time.monotonic(), time.process_time()
    made = what()
    return Timed(time.monotonic() - wall, time.process_time() - cpu, made)


def main() -> None:
    """Measure and print, and with --write keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for first in range(0, asked.rows, PART):
            write_part(Path(folder), samples(min(PART, asked.rows - first), 5, first))
        read = timed(lambda: read_parts(Path(folder), JUDGMENTS))
    cores, busy = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    lines = [
        "# Re-aggregating judge samples",
        "",
        f"{asked.rows:,} samples of {asked.rows // 5:,} candidates (`benchmarks/reaggregate.py`), {cores} cores, "
        f"Polars {pl.__version__}; load average of other work: {max(0.0, busy - 1):.1f}.",
        "",
        "| step | wall s | CPU s |",
        "| --- | ---: | ---: |",
        f"| read the parts | {read} |",
    ]
    slowest = Timed(0.0, 0.0, None)
    for name in ("min", "mean", "median", "q25"):
        step = timed(lambda name=name: aggregate_judgments(read.made, aggregate=name, weights=WEIGHTS, votes_needed=3))
        assert step.made.height == asked.rows // 5
        slowest = max(slowest, step, key=lambda one: one.wall)
        lines.append(f"| aggregate by {name} | {step} |")
    noise = timed(lambda: judge({"judgments": read.made.lazy()}, 0.8, WEIGHTS, "min"))
    total = Timed(read.wall + slowest.wall, read.cpu + slowest.cpu, None)
    lines += [f"| **read and aggregate, slowest** | {total} |", f"| the report's numbers of noise | {noise} |"]
    print("\n".join(lines))
    if asked.write:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
