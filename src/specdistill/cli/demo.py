"""`specdistill demo`: the whole job on an embedded model, without key, accelerator or network."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from specdistill.cli.output import err, out

STEPS = 6


def demo(
    folder: Path = typer.Option(Path("runs/demo"), "--out", help="Where everything goes; run again to resume."),
    steps: int = typer.Option(12, min=1, help="Optimiser steps of the SFT run; 0 is not a run."),
) -> None:
    """Watch a written policy become training data, and a model start to train on it."""
    from specdistill.train.runtime import prepare_process

    prepare_process()
    began = time.monotonic()
    console = err()
    console.print(
        "This demo runs the real parts (distilabel tasks, vLLM, datasets, TRL) on SmolLM2-135M, which comes in a "
        "package.\nA model of that size shows that the machinery works; what it writes is [bold]not[/] good training "
        "data.",
        soft_wrap=True,
    )
    recipe_file = Path(__file__).parent.parent / "demo.yaml"
    overrides = [] if has_vllm() else ["generator.engine=transformers", "judge.engine=transformers"]
    console.print(f"engine: {'transformers (vLLM is not installed)' if overrides else 'vLLM'}")
    show_spec(console)
    run, release = build_demo(recipe_file, overrides, folder, console)
    read_back(release, console)
    trained = train_demo(release, folder / "sft", steps, console)
    finish(run, release, trained, recipe_file, time.monotonic() - began)


def has_vllm() -> bool:
    """Whether a vLLM build is installed."""
    from importlib.util import find_spec

    return find_spec("vllm") is not None


def show_spec(console) -> None:  # type: ignore[no-untyped-def]
    """Step 1: the policy."""
    from specdistill.specs.loader import load_spec

    spec = load_spec("safety")
    console.rule(f"1/{STEPS} the spec: {spec.title} {spec.version}", align="left")
    for category in spec.categories:
        console.print(f"  {category.id:<18} {len(category.clauses)} clauses", highlight=False)
    console.print("  see it as the model does: specdistill spec show self-harm")


def build_demo(recipe_file: Path, overrides: list[str], folder: Path, console):  # type: ignore[no-untyped-def]
    """Steps 2 to 4: build, report, and the tree that would be published."""
    from specdistill.cards.tree import Ask, build_tree
    from specdistill.cli.build import run_build
    from specdistill.schemas.layout import RunLayout
    from specdistill.schemas.recipe_file import load_recipe

    console.rule(f"2/{STEPS} prompts, candidates, judgments, datasets", align="left")
    run = folder / "run"
    run_build(load_recipe(recipe_file, overrides), run, recipe_file.parent)
    console.rule(f"3/{STEPS} the report: {run / 'report' / 'README.md'}", align="left")
    release = folder / "release"
    console.rule(f"4/{STEPS} the release: {release}", align="left")
    build_tree(RunLayout(run), release, Ask(version="0.1.0", languages=["en"]))
    return run, release


def read_back(release: Path, console) -> None:  # type: ignore[no-untyped-def]
    """Step 5: every config as a stranger would load it."""
    import logging

    from datasets import disable_progress_bars, load_dataset

    from specdistill.schemas.vocabulary import CONFIGS

    disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.ERROR)
    console.rule(f"5/{STEPS} load_dataset({str(release)!r}, CONFIG)", align="left")
    for config in CONFIGS:
        loaded = load_dataset(str(release), config)
        rows = ", ".join(f"{split} {len(rows)}" for split, rows in loaded.items())
        console.print(f"  {config:<12} {rows}", highlight=False)


def train_demo(release: Path, folder: Path, steps: int, console) -> Path:  # type: ignore[no-untyped-def]
    """Step 6: a short SFT run from the release."""
    from specdistill.train.run import train

    console.rule(f"6/{STEPS} specdistill train sft --dataset {release} --model embedded", align="left")
    argv = ["--dataset", str(release), "--model", "embedded", "--output_dir", str(folder)]
    argv += ["--max_steps", str(steps), "--per_device_train_batch_size", "4", "--learning_rate", "1e-4"]
    argv += ["--logging_steps", "1", "--save_strategy", "no", "--report_to", "none"]
    train("sft", argv, console)
    return folder


def finish(run: Path, release: Path, trained: Path, recipe: Path, seconds: float) -> None:
    """Where everything is, and what to type for a real model."""
    out().print(
        f"""
Done in {seconds:.0f} s.
  run       {run}   (specdistill status {run})
  report    {run}/report/README.md
  release   {release}/README.md   (the dataset card)
  model     {trained}

Remember: a 135M model judged a 135M model. The machinery is real, the data is not good.

With a real model: copy {recipe},
name your models and prompts, and
  specdistill build recipe.yaml --preview 3     look at whole exchanges first
  specdistill build recipe.yaml                 resumable at any point
  specdistill select runs/NAME --set judge.threshold=0.8
  specdistill publish runs/NAME --to-dir release --version 1.0.0
  specdistill train sft --dataset release --model YOUR_MODEL""",
        soft_wrap=True,
        markup=False,
    )
