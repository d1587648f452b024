"""Six arms and three fractions on the embedded 135M model: does the evaluation find what was planted in the data?

    python benchmarks/eval_experiment.py FOLDER

The run is written by templates (`templated_run.py`), training and answers are real. Stopped, it goes on where it was.
Writes `benchmarks/results/eval_experiment.md`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from specdistill.train.runtime import prepare_process

prepare_process()

from rich.console import Console  # noqa: E402
from templated_run import write_templated_run  # noqa: E402

from specdistill.train.evaluation.experiment import run_experiment  # noqa: E402
from specdistill.train.evaluation.plan import ExperimentRecipe  # noqa: E402

SETTINGS: dict[str, Any] = {
    "name": "embedded-arms",
    "arms": ["base", "sft_filtered", "sft_unfiltered", "base_spec", "sft_no_reasoning", "dpo"],
    "fractions": [0.25, 0.5, 1.0],
    "seeds": [0],
    "train": {
        "sft": {"num_train_epochs": 1, "per_device_train_batch_size": 8, "learning_rate": 2e-4},
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
        "limit": 42,
        "variants": ["base64", "prefix", "multi_turn"],
        "variant_limit": 14,
    },
}


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if not (folder / "run" / "manifest.json").is_file():
        write_templated_run(folder / "run")
    recipe = ExperimentRecipe.model_validate({**SETTINGS, "run": folder / "run"})
    run_experiment(recipe, folder / "experiment", Console(width=140, force_terminal=False))


if __name__ == "__main__":
    main()
