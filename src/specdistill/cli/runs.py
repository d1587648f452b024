"""`specdistill status` and `specdistill select`: looking at a run, and deriving its sets anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from specdistill.cli.build import SetOption, refuse_shortfall, show_counts
from specdistill.cli.output import JsonFlag, err, out, print_json, safe

RunArgument = typer.Argument(..., metavar="RUN", help="A run folder made by build.")


def status(run: Path = RunArgument, as_json: bool = JsonFlag) -> None:
    """What is done, pending, rejected and why; tokens and rate. Safe while a build is running."""
    from specdistill.builders.shim import quiet_distilabel

    quiet_distilabel()
    from specdistill.builders.run import open_run
    from specdistill.builders.status import run_status

    found = run_status(*open_run(run))
    if as_json:
        print_json(found)
    else:
        show_status(found)


def show_status(found: dict[str, Any]) -> None:
    """The status as tables."""
    from rich.table import Table

    console = out()
    state = "building now" if found["building"] else "complete" if found["complete"] else "can be resumed"
    console.print(f"[bold]{safe(found['name'])}[/] in {safe(found['run'])}: {state}", soft_wrap=True)
    table = Table("stage", "done", "pending", "failed", "stale", box=None, pad_edge=False)
    for stage, numbers in found["stages"].items():
        table.add_row(stage, *(f"{numbers[name]:,}" for name in ("done", "pending", "failed", "stale")))
    console.print(table)
    for change in found["spec_changes"]:
        why = "; ".join(map(safe, change["reasons"]))
        console.print(
            f"[yellow]the policy changed[/] {safe(change['category'])}: {why} "
            f"({change['candidates']:,} candidates to be made anew by build)",
            soft_wrap=True,
        )
    console.print(f"accepted {found['accepted']:,}")
    for title, key in (("rejected", "reasons"), ("abstentions", "abstentions"), ("failed calls", "errors")):
        if found[key]:
            console.print(f"{title} " + ", ".join(f"{safe(name)} {rows:,}" for name, rows in found[key].items()))
    console.print(
        f"tokens   {found['prompt_tokens']:,} in, {found['completion_tokens']:,} out, "
        f"{found['tokens_per_second']:,} out per second over {found['seconds']:,} s"
    )


def select(
    run: Path = RunArgument,
    overrides: list[str] | None = SetOption,
    labels: Path | None = typer.Option(
        None,
        metavar="FILE",
        help="Human labels (CSV, JSONL or Parquet: id,label), kept in the run: 1/0 or accept/reject.",
    ),
    precision: float | None = typer.Option(
        None,
        min=0.0,
        max=1.0,
        help="Set the threshold so that, by the labels, at least this share of the accepted is good.",
    ),
    as_json: bool = JsonFlag,
) -> None:
    """Derive every set again from the stored rows, e.g. with --set judge.threshold=0.6. No model call."""
    from specdistill.builders.shim import quiet_distilabel

    quiet_distilabel()
    from specdistill.builders.reselect import reselect
    from specdistill.builders.run import open_run
    from specdistill.cards.report import write_report
    from specdistill.cli.progress import Progress

    with Progress(open_run(run)[1]) as progress:
        result = reselect(run, overrides or (), labels=labels, precision=precision, observer=progress.observer())
    report = write_report(result.layout)
    if as_json:
        counted = {"counts": result.counts, "calibration": result.calibration, "shortfalls": result.shortfalls}
        print_json({"run": str(run)} | counted)
    else:
        show_counts(result.counts)
        show_calibration(result.calibration)
        for line in result.shortfalls:
            err().print(f"[yellow]short of the quota[/] {safe(line)}", soft_wrap=True)
        out().print(f"report  {safe(str(report))}", soft_wrap=True)
    refuse_shortfall(open_run(run)[1], result.shortfalls)


def show_calibration(found: dict[str, Any]) -> None:
    """What the human labels say, in two lines; nothing without labels."""
    if not found:
        return
    accepted = found["accepted"]
    if accepted["precision"] is None:
        out().print(f"labels  {found['labels']}, none of them at or above the threshold", highlight=False)
        return
    out().print(
        f"labels  {found['labels']}; at threshold {accepted['threshold']:.3g} people would accept "
        f"{accepted['precision']:.0%} ({accepted['low']:.0%} to {accepted['high']:.0%}) of the accepted rows",
        highlight=False,
        soft_wrap=True,
    )
