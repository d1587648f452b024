"""Selection, report and release of a run with millions of judgments: time and peak memory of each command.

    python benchmarks/tables.py --judgments 10000000

The run is made up: random sentences, random scores, no model. It shows speed and memory and nothing else. It lies on
disk as a build leaves it: prompts in the order of their ids, and beside each part of candidates what the screens found
when the candidates were made. Each command runs in a process of its own; its peak is that process's largest resident
memory, shared libraries included.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
from peaks import measure

HERE = Path(__file__).resolve().parent
PART = 100_000
SAMPLES, K = 5, 5
WORDS = 4096


def sentence(number: pl.Expr, words: int, seed: int) -> pl.Expr:
    """Made-up words that depend on a row's number."""
    drawn = [pl.lit("w") + (number.hash(seed * 1000 + at) % WORDS).cast(pl.String) for at in range(words)]
    return pl.concat_str(drawn, separator=" ")


def ids(name: str, number: pl.Expr) -> pl.Expr:
    """32 characters that depend on a row's number, in no order."""
    return (number.hash(7).cast(pl.String) + pl.lit(name) + number.cast(pl.String)).str.slice(0, 32).str.zfill(32)


def prompt_ids(number: pl.Expr) -> pl.Expr:
    """32 characters that grow with a row's number: a build asks for one range of prompt ids after the other."""
    return number.cast(pl.String).str.zfill(12) + ids("p", number).str.slice(12)


def chunks(rows: int) -> Iterator[pl.DataFrame]:
    """Row numbers, `PART` at a time."""
    for first in range(0, rows, PART):
        yield pl.DataFrame({"n": pl.int_range(first, min(first + PART, rows), eager=True)})


def make_run(root: Path, judgments: int) -> None:
    """Write the stored rows of a run."""
    from specdistill.builders.build import Observer, prepare
    from specdistill.builders.kept_screens import KeptScreens
    from specdistill.builders.keys import generator_digest, judge_digest
    from specdistill.builders.parts import write_part
    from specdistill.builders.run import save_prompts
    from specdistill.builders.screens import SpecFacts
    from specdistill.schemas.layout import RunLayout
    from specdistill.schemas.recipe import Recipe
    from specdistill.schemas.rows import CANDIDATES, JUDGMENTS, PROMPTS
    from specdistill.schemas.vocabulary import CRITERIA

    asked: dict[str, Any] = {
        "name": "tables",
        "spec": "safety",
        "prompts": [{"library": "seeds"}],
        "generator": {"engine": "transformers", "model": "none", "reasoning": "prompted", "samples": SAMPLES},
        "judge": {"engine": "transformers", "model": "none", "k": K, "threshold": 0.5, "aggregate": "mean"},
        "quota": {"max_samples_per_prompt": 1},
        "licences": {"dataset": "CC0-1.0"},
    }
    recipe = Recipe.model_validate(asked)
    layout = RunLayout(root)
    contexts = prepare(recipe, layout, Path(), Observer())
    categories = sorted(contexts.spec.category(one.id).id for one in contexts.spec.categories)
    shown = pl.col("category").replace_strict({name: contexts.digest(name) for name in categories})
    own = pl.col("category").replace_strict({name: contexts.category_digest(name) for name in categories})
    anchors = {one.id: one.clauses[0].anchor for one in contexts.spec.categories}
    prompt = pl.col("n") // (SAMPLES * K)
    candidate = pl.col("n") // K

    def category(number: pl.Expr) -> pl.Expr:
        return (number % len(categories)).replace_strict(dict(enumerate(categories)), return_dtype=pl.String)

    def filled(frame: pl.DataFrame, table: Any) -> pl.DataFrame:
        missing = [one for one in table.columns if one.name not in frame.columns]
        frame = frame.with_columns(pl.lit(None, one.dtype).alias(one.name) for one in missing)
        return frame.select(table.names).cast(table.schema)

    frames = []
    for frame in chunks(judgments // (SAMPLES * K)):
        key = prompt_ids(pl.col("n"))
        turn = pl.struct(pl.lit("user").alias("role"), sentence(pl.col("n"), 24, 1).alias("content"))
        frames.append(
            filled(
                frame.select(
                    key.alias("prompt_id"),
                    pl.concat_list(turn).alias("prompt"),
                    category(pl.col("n")).alias("category"),
                    pl.lit("made up").alias("source"),
                    key.alias("group_id"),
                ),
                PROMPTS,
            )
        )
    save_prompts(layout, pl.concat(frames).sort("category", maintain_order=True))
    facts = SpecFacts.of(pl.read_parquet(layout.clauses), recipe.screens.copied_words)
    screens = KeptScreens(layout.screens, facts, recipe.screens)
    cites = pl.format("The clause [{}] decides here. ", pl.col("category").replace_strict(anchors))
    for frame in chunks(judgments // K):
        number = pl.col("n") // SAMPLES
        rows = frame.with_columns(category(number).alias("category")).with_columns(
            ids("c", pl.col("n")).alias("candidate_id"),
            prompt_ids(number).alias("prompt_id"),
            pl.lit("spec").alias("arm"),
            (pl.col("n") % SAMPLES).alias("sample_index"),
            pl.lit("none").alias("model"),
            pl.lit(generator_digest(recipe.generator)).alias("generator_digest"),
            shown.alias("spec_digest"),
            own.alias("category_digest"),
            pl.lit("ok").alias("parse"),
            pl.lit("stop").alias("finish_reason"),
            (cites + sentence(pl.col("n"), 60, 2) + ". I will comply.").alias("reasoning"),
            (sentence(pl.col("n"), 50, 3) + ".").alias("answer"),
        )
        part = write_part(layout.candidates, filled(rows, CANDIDATES))
        found = rows.select(
            "candidate_id",
            pl.lit(None, pl.String).alias("reason"),
            pl.lit(None, pl.String).alias("detail"),
            pl.concat_list(pl.col("category").replace_strict(anchors)).alias("clauses"),
        )
        screens.keep(part, found)
    for frame in chunks(judgments):
        score = ((pl.col("n").hash(11) + candidate.hash(13) % 3) % 5).clip(0, 4) / 4
        rows = frame.with_columns(category(prompt).alias("category")).with_columns(
            ids("j", pl.col("n")).alias("judgment_id"),
            ids("c", candidate).alias("candidate_id"),
            prompt_ids(prompt).alias("prompt_id"),
            pl.lit("none").alias("judge"),
            pl.lit(judge_digest(recipe.judge)).alias("judge_digest"),
            shown.alias("spec_digest"),
            own.alias("category_digest"),
            (pl.col("n") % K).alias("sample_index"),
            pl.lit("scored").alias("status"),
            *(score.alias(name) for name in CRITERIA),
            sentence(pl.col("n"), 12, 4).alias("justification"),
        )
        write_part(layout.judgments, filled(rows, JUDGMENTS))


def main() -> None:
    """Make the run, time the commands, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judgments", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "tables.md")
    parser.add_argument("--commands", nargs="+", default=["select", "report", "publish"])
    parser.add_argument("--publish-up-to", type=int, default=1_000_000, help="judgments; every text is scanned")
    args = parser.parse_args()
    lines = []
    for judgments in args.judgments:
        folder = Path(tempfile.mkdtemp(prefix="specdistill-tables-"))
        run = folder / "run"
        try:
            make_run(run, judgments)
            stored = sum(path.stat().st_size for path in run.rglob("*.parquet")) / 1e9
            asked = {
                "select": ["select", str(run)],
                "report": ["report", str(run)],
                "publish": ["publish", str(run), "--to-dir", str(folder / "release"), "--version", "1.0.0"],
            }
            for name in args.commands:
                if name == "publish" and judgments > args.publish_up_to:
                    continue
                own, child, seconds = measure(asked[name], os.environ, folder / "peak")
                lines.append(
                    f"| {judgments:,} | {judgments // K:,} | {stored:.2f} | {name} | {seconds:.0f} "
                    f"| {own:,.0f} | {child:,.0f} |"
                )
                print(lines[-1], flush=True)
        finally:
            shutil.rmtree(folder)
    args.out.write_text(
        "# Large tables\n\n"
        f"`python benchmarks/tables.py`, {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, polars "
        f"{version('polars')}, {os.cpu_count()} cores, load of other work {os.getloadavg()[2]:.1f}. A made-up run: "
        "speed and memory only. Peaks are MB of resident memory; `publish` writes a release folder, checked.\n\n"
        "| judgments | candidates | GB stored | command | seconds | peak MB | peak MB of a child |\n"
        "| ---: | ---: | ---: | --- | ---: | ---: | ---: |\n" + "\n".join(lines) + "\n"
    )
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
