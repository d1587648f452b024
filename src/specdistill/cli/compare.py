"""`specdistill compare`: results side by side, the difference and its interval, and what may be said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from specdistill.cli.output import JsonFlag, out, print_json, safe


def compare(
    folders: list[Path] = typer.Argument(..., metavar="DIR…", help="Results of eval, or experiments."),
    baseline: str | None = typer.Option(None, help="Name of the result to compare with; default `base`, or the first."),
    target: Path = typer.Option(Path("comparison"), "--out", help="Where README.md, index.html and plots go."),
    title: str = typer.Option("Comparison", help="Title of the page."),
    as_json: bool = JsonFlag,
) -> None:
    """Compare evaluations: differences with intervals, paired where two models answered the same prompts."""
    from specdistill.builders.shim import quiet_distilabel

    quiet_distilabel()
    page = write_page(result_folders(folders), target, baseline, title)
    if as_json:
        print_json(page)
        return
    show_page(page)
    out().print(f"page    {target / 'README.md'}\nhtml    {target / 'index.html'}", soft_wrap=True, markup=False)


def result_folders(folders: Sequence[Path]) -> list[Path]:
    """Result folders: those named, those of experiments named, and those one level below a folder.

    Raises:
        UsageError: a folder holds none.
    """
    from specdistill.errors import UsageError
    from specdistill.train.evaluation.experiment import results_of
    from specdistill.train.evaluation.results import is_complete

    found: list[Path] = []
    for folder in folders:
        if is_complete(folder):
            found.append(folder)
            continue
        below = results_of(folder) or sorted(path for path in folder.glob("*") if is_complete(path))
        if not below:
            raise UsageError(f"'{folder}' holds no finished evaluation.", "Give folders made by `specdistill eval`.")
        found += below
    return found


def write_page(folders: Sequence[Path], target: Path, baseline: str | None, title: str) -> dict[str, Any]:
    """Compare, and write the page."""
    from specdistill.builders.parts import parquet_bytes
    from specdistill.cards.comparison import write_comparison
    from specdistill.schemas.files import write_whole
    from specdistill.train.evaluation.compare import baseline_of
    from specdistill.train.evaluation.page import comparison
    from specdistill.train.evaluation.results import read_result

    results = [read_result(folder) for folder in folders]
    page, frame = comparison(results, baseline_of(results, baseline), title)
    write_comparison(page, target)  # first: it refuses a folder that is no comparison's
    write_whole(target / "differences.parquet", parquet_bytes(frame))
    return page


def show_page(page: dict[str, Any]) -> None:
    """The headline as a table, then what may be said, and the caveats."""
    from rich.table import Table

    from specdistill.cards.comparison import number, points

    console = out()
    names = [result["name"] for result in page["results"]]
    table = Table("metric", *map(safe, names), title=safe(page["title"]), box=None, pad_edge=False)
    marks = {"better": "[green]better[/]", "worse": "[red]worse[/]", "differs": "differs", "not shown": "not shown"}
    for row in page["headline"]:
        cells = []
        for name in names:
            cell = row["cells"].get(name)
            text = "–" if cell is None else str(number(cell, row["share"]))
            if cell and cell["difference"]:
                text += f"\n{points(cell['difference'], row['share'])}\n{marks[cell['difference']['verdict']]}"
            cells.append(text)
        table.add_row(row["title"], *cells)
    console.print(table)
    for heading, lines in (
        ("may be said", page["sentences"][:3]),
        ("not shown", page["not_shown"]),
        ("read first", page["caveats"]),
    ):
        for line in lines:
            console.print(f"[bold]{heading}[/]: {safe(line)}", soft_wrap=True)
