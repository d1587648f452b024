"""`specdistill build --dry-run`: what a recipe would ask for and cost, as a table or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from specdistill.cli.output import out, print_json, safe

if TYPE_CHECKING:
    from specdistill.schemas.recipe import Recipe


def show_dry_run(recipe: Recipe, base: Path, given: dict[str, Any], as_json: bool) -> None:
    """Reckon and print; `given` holds like, prompts, tokens_per_second and the prices, None where not given."""
    from specdistill.builders.shim import quiet_distilabel

    quiet_distilabel()
    from specdistill.builders.assumptions import Assumptions
    from specdistill.builders.dry_run import dry_run

    assumed = {name: value for name, value in given.items() if name not in ("like", "prompts") and value is not None}
    found = dry_run(recipe, base, Assumptions(**assumed), like=given["like"], prompts=given["prompts"])
    if as_json:
        print_json(found)
        return
    show(found)


def show(found: dict[str, Any]) -> None:
    """The estimate as tables, and what it rests on."""
    from rich.table import Table

    console = out()
    console.print(
        f"{safe(found['recipe'])}: {found['prompts']:,} prompts in {len(found['categories'])} categories. "
        "Nothing was asked and nothing was written.",
        soft_wrap=True,
    )
    table = Table("step", box=None, pad_edge=False)
    for name in ("requests", "calls", "tokens in", "of it cached", "tokens out"):
        table.add_column(name, justify="right")
    keys = ("requests", "calls", "prompt_tokens", "cached_tokens", "completion_tokens")
    for row in [*found["steps"], found["total"]]:
        table.add_row(safe(row["step"]), *(f"{row[key]:,}" for key in keys))
    console.print(table)
    if found["gpu_hours"] is not None:
        console.print(f"GPU-hours  {found['gpu_hours']:,.2f}")
    for name, value in found["cost"].items():
        console.print(f"cost       {value:,.2f} for {name}")
    parts = ", ".join(f"{name} {size(count)}" for name, count in found["bytes"].items())
    console.print(f"on disk    {size(sum(found['bytes'].values()))}: {parts}", soft_wrap=True)
    for line in found["assumptions"]:
        console.print(f"- {safe(line)}", soft_wrap=True)


def size(count: float) -> str:
    """Bytes with a unit: 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
