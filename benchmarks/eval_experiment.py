"""Four arms and three fractions on the embedded 135M model: does the evaluation find what was planted in the data?

    python benchmarks/eval_experiment.py FOLDER [--more]

The run is written by templates (`templated_run.py`), training and answers are real. Stopped, it goes on where it was.
`--more` adds the base model with the spec in context and DPO. Writes `benchmarks/results/eval_experiment.md`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from specdistill.train.runtime import prepare_process

prepare_process()

import polars as pl  # noqa: E402
from rich.console import Console  # noqa: E402
from templated_run import FAULTS, JUDGE_ERRS, write_templated_run  # noqa: E402

from specdistill.cards.comparison import comparison_text  # noqa: E402
from specdistill.cli.compare import write_page  # noqa: E402
from specdistill.cli.experiment import write_sweep_of  # noqa: E402
from specdistill.train.evaluation.experiment import run_experiment  # noqa: E402
from specdistill.train.evaluation.numbers import trace  # noqa: E402
from specdistill.train.evaluation.plan import ExperimentRecipe, cells_of  # noqa: E402
from specdistill.train.evaluation.results import is_complete, read_result  # noqa: E402

SETTINGS: dict[str, Any] = {
    "name": "embedded-arms",
    "arms": ["base", "sft_filtered", "sft_unfiltered", "sft_no_reasoning"],
    "fractions": [0.25, 0.5, 1.0],
    "seeds": [0],
    "train": {
        "sft": {"num_train_epochs": 0.5, "per_device_train_batch_size": 8, "learning_rate": 2e-4},
        "dpo": {"max_steps": 6, "per_device_train_batch_size": 2, "learning_rate": 2e-5},
    },
    "engine": {
        "engine": "transformers",
        "model": "-",
        "temperature": 0.0,
        "max_tokens": 80,
        "options": {"batch_size": 42},
    },
    "spec_engine": {"reasoning": "prompted", "options": {"batch_size": 12}},
    "evaluate": {
        "limit": 28,
        "variants": [],
        "variant_limit": 7,
    },
}


MORE = ["base_spec", "dpo"]
RESULT = Path(__file__).parent / "results" / "eval_experiment.md"


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--more", action="store_true")
    parser.add_argument("--report", action="store_true", help="Only report what is finished.")
    asked = parser.parse_args()
    folder, target = asked.folder, asked.folder / "experiment"
    if not (folder / "run" / "manifest.json").is_file():
        write_templated_run(folder / "run")
    settings = SETTINGS | {"arms": SETTINGS["arms"] + (MORE if asked.more else [])}
    recipe = ExperimentRecipe.model_validate({**settings, "run": folder / "run"})
    if asked.report:
        results = [target / "cells" / cell.name / "eval" for cell in cells_of(recipe)]
        results = [path for path in results if is_complete(path)]
    else:
        results = run_experiment(recipe, target, Console(width=140, force_terminal=False))
    page = write_page(results, target / "report", None, "Arms on the embedded model")
    write_sweep_of(folder / "run", folder / "run" / "truth.parquet", target / "report")
    traced = [trace_of(path) for path in results]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(result_text(page, traced, (target / "report" / "sweep.md").read_text("utf-8")))


def trace_of(folder: Path) -> tuple[int, int]:
    """Numbers of a result, and how many of them are not the mean of their measures on disk."""
    result = read_result(folder)
    found = trace(result.numbers, result.measures)
    wrong = found.filter((pl.col("value") - pl.col("again")).abs().fill_null(1.0) > 1e-12)
    return found.height, wrong.height


def result_text(page: dict[str, Any], traced: list[tuple[int, int]], swept: str) -> str:
    """The committed page: the report without its plots, with what the run is and what it cost."""
    wall, cpu = (
        sum(row[kind] + ((row["training"] or {}).get(kind) or 0) for row in page["results"])
        for kind in ("wall_seconds", "cpu_seconds")
    )
    numbers, wrong = sum(one for one, _ in traced), sum(bad for _, bad in traced)
    head = (
        "The run's candidates and verdicts are written by templates with planted faults "
        f"({', '.join(f'{name} {100 * share:.0f} %' for name, share in FAULTS.items())}; the judge errs on "
        f"{100 * JUDGE_ERRS:.0f} %), over the packaged safety policy and its seed prompts; training and answers are "
        "real (SmolLM2-135M-Instruct, transformers and TRL on CPU). It shows whether the evaluation finds what was "
        "planted; it shows nothing about real teachers.\n\n"
        f"Cost of all cells: {cpu:,.0f} CPU seconds, {wall / 60:.0f} minutes of wall time. "
        f"Traced: {numbers:,} numbers made anew from the measures on disk, {wrong} of them different.\n"
    )
    text = comparison_text(page, {})
    title, _, rest = text.partition("\n")
    return f"{title}\n\n{head}{rest}\n{swept.replace('# k and', '## k and').replace(PLOT, '')}"


PLOT = "![Precision against recall, one line a k](sweep.png)\n\n"

if __name__ == "__main__":
    main()
