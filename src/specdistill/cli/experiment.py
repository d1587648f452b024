"""`specdistill experiment`: what each ingredient of a run bought."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from specdistill.cli.build import SetOption
from specdistill.cli.output import JsonFlag, err, out, print_json


def experiment(
    recipe: Path = typer.Argument(..., metavar="RECIPE|RUN", help="An experiment's YAML file, or a run folder."),
    target: Path | None = typer.Option(None, "--out", help="Where everything goes; default experiments/NAME."),
    overrides: list[str] | None = SetOption,
    plan: bool = typer.Option(False, "--plan", help="List the cells and stop."),
    as_json: bool = JsonFlag,
) -> None:
    """Train and evaluate arms from one run (base, with the spec, unfiltered, filtered, DPO, ...) and compare them.

    Every arm's rows come from the run by selection: no new generation. A stopped experiment goes on at the cell it was
    in. `--set fractions=[0.25,0.5,1.0]` and `--set seeds=[0,1]` give the sample-efficiency curve.
    """
    from specdistill.train.runtime import prepare_process

    prepare_process()
    from specdistill.train.evaluation.plan import cells_of, load_experiment

    asked = load_experiment(recipe, overrides or ())
    folder = target or Path("experiments") / asked.name
    if plan:
        for cell in cells_of(asked):
            out().print(cell.name, markup=False)
        return
    from specdistill.builders.shim import quiet_distilabel

    quiet_distilabel()
    from specdistill.cli.compare import show_page, write_page
    from specdistill.cli.evaluate import notes
    from specdistill.schemas.layout import RunLayout
    from specdistill.train.evaluation.experiment import run_experiment

    results = run_experiment(asked, folder, err(), notes())
    page = write_page(results, folder / "report", None, f"Experiment: {asked.name}")
    truth = asked.truth or RunLayout(asked.run).audit_verdicts
    swept = write_sweep_of(asked.run, truth, folder / "report") if truth.is_file() else []
    if as_json:
        print_json({**page, "sweep": swept})
        return
    show_page(page)
    out().print(
        f"report  {folder / 'report' / 'README.md'}\nhtml    {folder / 'report' / 'index.html'}",
        soft_wrap=True,
        markup=False,
    )
    if swept:
        out().print(f"sweep   {folder / 'report' / 'sweep.md'}", soft_wrap=True, markup=False)


def write_sweep_of(run: Path, truth: Path, target: Path) -> list[dict[str, Any]]:
    """Sweep a run's k and threshold against what people said, and write the page."""
    from specdistill.builders.run import open_run
    from specdistill.builders.stored import read_rows
    from specdistill.cards.sweep import write_sweep
    from specdistill.train.evaluation.sweep import read_truth, sweep

    layout, recipe = open_run(run)
    rows = sweep(read_rows(layout, recipe).judgments, read_truth(truth), recipe.judge)
    write_sweep(rows, target)
    return rows
