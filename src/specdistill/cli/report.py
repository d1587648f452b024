"""`specdistill report`: numbers and plots of a finished run."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from specdistill.cli.output import JsonFlag, out, print_json


def report(
    run: Path = typer.Argument(..., metavar="RUN", help="A run folder made by build."), as_json: bool = JsonFlag
) -> None:
    """Acceptance, rejections, scores, the judge's noise, tokens: as a page with plots in RUN/report."""
    from specdistill.cards.report import write_report
    from specdistill.schemas.layout import RunLayout

    page = write_report(RunLayout(run))
    if as_json:
        print_json(json.loads((page.parent / "numbers.json").read_bytes()))
        return
    out().print(f"report  {page}", soft_wrap=True, markup=False)
