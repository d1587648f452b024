"""`specdistill prompts …`: looking at what cleaning makes of a recipe's prompts, and growing new ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from specdistill.cli.build import TrustOption
from specdistill.cli.output import JsonFlag, err, out, print_json, safe
from specdistill.errors import UsageError

if TYPE_CHECKING:
    from specdistill.schemas.recipe import Recipe

app = typer.Typer(help="Clean, decontaminate and grow prompt sets.", no_args_is_help=True)
RecipeArgument = typer.Argument(..., help="The recipe, a YAML file.")


@app.command()
def check(
    recipe: Path = RecipeArgument,
    to: Path | None = typer.Option(None, "--to", metavar="DIR", help="Write the prompts and the removals there."),
    as_json: bool = JsonFlag,
) -> None:
    """Read, clean, decontaminate and split the recipe's prompts without a model call, and say what became of them."""
    from specdistill.builders.parts import parquet_bytes
    from specdistill.builders.pool import make_prompts
    from specdistill.builders.splits import split_of
    from specdistill.builders.steps import Step
    from specdistill.cli.progress import Progress
    from specdistill.schemas.files import write_whole
    from specdistill.schemas.recipe_file import load_recipe
    from specdistill.specs.loader import libraries, load_spec, seed_files

    parsed = load_recipe(recipe)
    base = recipe.resolve().parent
    spec = load_spec(parsed.spec if parsed.spec in libraries() else str(base / parsed.spec))
    with Progress(parsed) as progress:
        step: Step = progress.step
        made = make_prompts(parsed, [category.id for category in spec.categories], base, seed_files(spec), step=step)
        splits = split_of(made.table, parsed.split)
    if to is not None:
        placed = made.table.join(splits, on="prompt_id", maintain_order="left")
        for name, frame in (("prompts", placed), ("removed", made.removed), ("evaluation", made.evaluation)):
            write_whole(to / f"{name}.parquet", parquet_bytes(frame))
    counted = dict(splits.group_by("split").len().sort("split").iter_rows())
    if as_json:
        print_json(made.summary | {"splits": counted})
        return
    show_summary(made.summary | {"splits": counted})


def show_summary(summary: dict[str, Any]) -> None:
    """What became of the rows, a line each."""
    console = out()
    console.print(f"rows      {summary['rows']:,}, kept {summary['kept']:,}, held out {summary['held_out']:,}")
    for title, key in (
        ("removed", "removed"),
        ("flagged", "flagged"),
        ("languages", "languages"),
        ("splits", "splits"),
    ):
        if summary[key]:
            listed = ", ".join(f"{safe(str(name))} {rows:,}" for name, rows in summary[key].items())
            console.print(f"{title:<9} {listed}", soft_wrap=True)
    for one in summary["decontaminated"]:
        console.print(f"{safe(one['name'])}: {one['prompts']:,} prompts, {one['removed']:,} of ours removed")
    groups = summary["groups"]
    console.print(f"groups    {groups['groups']:,}, the largest of {groups['largest']:,} prompts")


def refuse_input(to: Path, file: Path, recipe: Recipe) -> None:
    """Refuse to write over what is read: the rows in it would be doubles of themselves, and gone.

    Args:
        file: the recipe's own.
        recipe: with absolute paths.

    Raises:
        UsageError: the recipe is, or reads, the file.
    """
    read = [file, *(one.path for one in recipe.prompts), *(one.path for one in recipe.decontaminate)]
    if to.resolve() in [path.resolve() for path in read if path]:
        raise UsageError(
            f"{to} is read by the recipe; new prompts in its place would be the end of what it holds.",
            "Name another file with --to and add it to `prompts:`, or take this one out of the recipe first.",
        )


@app.command()
def grow(
    recipe: Path = RecipeArgument,
    to: Path = typer.Option(..., "--to", metavar="FILE", help="Where the rows go: .jsonl, a prompt source."),
    per_clause: int = typer.Option(2, min=1, help="Prompts asked for each clause, at least."),
    category: list[str] | None = typer.Option(None, help="Only this category; may be repeated."),
    axis: list[str] | None = typer.Option(None, help="Change an axis: tone=polite,curt. Empty drops it. Repeatable."),
    trust_remote_code: bool = TrustOption,
    as_json: bool = JsonFlag,
) -> None:
    """Let the recipe's generator write prompts for every clause, along axes in a covering array, with benign twins.

    A rerun is answered from the ledger beside FILE. The rows are a model's ideas: look at them before you use them.
    """
    from specdistill.builders.shim import quiet_distilabel

    quiet_distilabel()
    from specdistill.builders.build import resolved
    from specdistill.builders.engines.foreign_code import foreign_code
    from specdistill.builders.growing.axes import axes_with
    from specdistill.builders.growing.grow import grow as grow_prompts
    from specdistill.builders.growing.grow import write_grown
    from specdistill.builders.ledger import Ledger
    from specdistill.builders.prompts import read_pool
    from specdistill.builders.runner import Stopped
    from specdistill.cli.progress import Progress
    from specdistill.schemas.recipe_file import load_recipe
    from specdistill.specs.loader import load_spec, seed_files

    base = recipe.resolve().parent
    parsed = resolved(load_recipe(recipe), base)
    refuse_input(to, recipe, parsed)
    axes = axes_with(axis or ())
    spec = load_spec(parsed.spec)
    with foreign_code(trust_remote_code, parsed.generator), Progress(parsed) as progress:
        existing = read_pool(parsed, [one.id for one in spec.categories], base, seed_files(spec), progress.step)
        ledger = Ledger(to.with_suffix(".ledger.sqlite"))
        try:
            found = grow_prompts(
                parsed,
                existing,
                ledger,
                axes=axes,
                per_clause=per_clause,
                categories=category or [],
                step=progress.step,
                trust_remote_code=trust_remote_code,
            )
        except Stopped:
            err().print("Stopped in good order. The same command goes on where it stopped.")
            raise typer.Exit(130) from None
        finally:
            ledger.close()
    write_grown(found.rows, to)
    summary = {
        "rows": len(found.rows),
        "asked": found.asked,
        "faults": found.faults,
        "removed": found.removed,
        "pairs_covered": found.pairs[0],
        "pairs": found.pairs[1],
    }
    if as_json:
        print_json({"file": str(to)} | summary)
        return
    out().print(
        f"{len(found.rows):,} prompts from {found.asked:,} requests in {safe(str(to))}; "
        f"{found.pairs[0]} of {found.pairs[1]} pairs of axis values are covered",
        soft_wrap=True,
    )
    for title, counted in (("no prompt", found.faults), ("doubles", found.removed)):
        if counted:
            err().print(f"{title}: " + ", ".join(f"{name} {number}" for name, number in counted.items()))
