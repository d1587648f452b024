"""`specdistill build`: from a recipe to datasets, resumable."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import typer

from specdistill.cli.output import JsonFlag, err, out, print_json, safe
from specdistill.errors import QuotaShort, UsageError

TrustOption = typer.Option(
    False, "--trust-remote-code", help="Let the recipe's engine options run code that comes with a model."
)
SetOption = typer.Option(None, "--set", metavar="KEY=VALUE", help="Override a key of the recipe; may be repeated.")
RayOption = typer.Option(
    None,
    "--ray",
    metavar="ADDRESS",
    help="Run the models on a Ray cluster: its HOST:PORT, `auto` for the one of this node, or `local`.",
)
ReplicasOption = typer.Option(
    0, "--replicas", metavar="N", min=0, help="With --ray: most copies of each model; default: as many as have room."
)


def build(
    recipe: Path = typer.Argument(..., help="The recipe, a YAML file."),
    run: Path | None = typer.Option(None, "--out", metavar="RUN", help="The run folder; default runs/NAME."),
    preview: int = typer.Option(0, "--preview", metavar="N", min=0, help="Show N whole exchanges and write nothing."),
    strict: bool = typer.Option(False, "--strict", help="Fail when a quota is not met (quota.strict of the recipe)."),
    overrides: list[str] | None = SetOption,
    trust_remote_code: bool = TrustOption,
    dry: bool = typer.Option(False, "--dry-run", help="Say what it would ask for and cost; no model call, no file."),
    like: Path | None = typer.Option(None, metavar="RUN", help="With --dry-run: take tokens and sizes from a run."),
    prompts: int | None = typer.Option(None, min=1, help="With --dry-run: for so many prompts, mixed the same."),
    tokens_per_second: float | None = typer.Option(None, min=0.001, help="With --dry-run: of one replica, completion."),
    gpu_price: float | None = typer.Option(None, min=0.0, help="With --dry-run: of a replica's hour."),
    price_in: float | None = typer.Option(None, min=0.0, help="With --dry-run: of a million prompt tokens."),
    price_out: float | None = typer.Option(None, min=0.0, help="With --dry-run: of a million completion tokens."),
    ray: str | None = RayOption,
    replicas: int = ReplicasOption,
    as_json: bool = JsonFlag,
) -> None:
    """Clean, generate, judge and select. Run it again after any stop: finished work is never repeated."""
    from specdistill.schemas.recipe_file import load_recipe

    if replicas and not ray:
        raise UsageError("--replicas says how many copies of a model a Ray cluster has.", "Give --ray too.")
    parsed = load_recipe(recipe, [*(overrides or ()), *(["quota.strict=true"] if strict else [])])
    prices = {"gpu_price": gpu_price, "price_in": price_in, "price_out": price_out}
    given = {"like": like, "prompts": prompts, "tokens_per_second": tokens_per_second} | prices
    if dry:
        from specdistill.cli.capacity import show_dry_run

        show_dry_run(parsed, recipe.resolve().parent, given, as_json)
        return
    if unused := [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]:
        raise UsageError(f"{', '.join(unused)} is for --dry-run.", "Add --dry-run, or leave it out.")
    if preview:
        with hosted(ray, replicas) as host:
            show_preview(parsed, recipe.resolve().parent, preview, as_json, trust_remote_code, host)
        return
    folder = run or Path("runs") / parsed.name
    run_build(parsed, folder, recipe.resolve().parent, as_json, trust_remote_code, ray, replicas)


def hosted(ray: str | None, replicas: int, note: Callable[[str], None] = lambda text: None):  # type: ignore[no-untyped-def]
    """Where the models live, until the end of a `with`: on a Ray cluster, or None for this machine."""
    if ray is None:
        return nullcontext()
    from specdistill.builders.engines.ray_cluster import RayHost

    return RayHost(ray, replicas, note=note)


def run_build(  # type: ignore[no-untyped-def]
    recipe,
    folder: Path,
    base: Path,
    as_json: bool = False,
    trust_remote_code: bool = False,
    ray: str | None = None,
    replicas: int = 0,
) -> None:
    """Build with progress, then the report; exit code 130 after a stop."""
    from specdistill.builders.shim import quiet_distilabel

    quiet_distilabel()
    from specdistill.builders.build import build as build_run
    from specdistill.builders.runner import Stopped
    from specdistill.cards.report import write_report
    from specdistill.cli.progress import Progress

    with Progress(recipe) as progress, hosted(ray, replicas, progress.note) as host:
        try:
            result = build_run(
                recipe,
                folder,
                base=base,
                observer=progress.observer(),
                trust_remote_code=trust_remote_code,
                host=host,
            )
        except Stopped:
            err().print(f"Stopped in good order. The same command resumes the run in {safe(str(folder))}.")
            raise typer.Exit(130) from None
    report = write_report(result.layout)
    if as_json:
        counted = {"counts": result.counts, "failed_calls": result.failed_calls, "shortfalls": result.shortfalls}
        print_json({"run": str(folder)} | counted)
        refuse_shortfall(recipe, result.shortfalls)
        return
    show_counts(result.counts)
    for line in result.shortfalls:
        err().print(f"[yellow]short of the quota[/] {safe(line)}", soft_wrap=True)
    if result.failed_calls:
        err().print(
            f"[yellow]{result.failed_calls} calls failed[/] and are kept as rows with their reason; "
            "the same command tries them again."
        )
    out().print(f"run     {safe(str(folder))}\nreport  {safe(str(report))}", soft_wrap=True)
    refuse_shortfall(recipe, result.shortfalls)


def refuse_shortfall(recipe, shortfalls: list[str]) -> None:  # type: ignore[no-untyped-def]
    """Fail where the recipe's quota is strict and not met.

    Raises:
        QuotaShort: naming every quota that lacks rows.
    """
    if recipe.quota.strict and shortfalls:
        raise QuotaShort(
            "These quotas are not met: " + "; ".join(shortfalls) + ".",
            "The run is whole. Add prompts, samples or budget and build again, lower the quota, or drop --strict.",
        )


def show_counts(counts: dict[str, dict[str, int]]) -> None:
    """Rows of each set and split."""
    from rich.table import Table

    table = Table("set", "split", "rows", box=None, pad_edge=False)
    for config, splits in counts.items():
        for split, rows in splits.items():
            table.add_row(config, split, f"{rows:,}")
    out().print(table)


def show_preview(  # type: ignore[no-untyped-def]
    recipe, base: Path, count: int, as_json: bool, trust_remote_code: bool = False, host=None
) -> None:
    """A few whole exchanges, as sent and as they came back."""
    from specdistill.builders.shim import quiet_distilabel

    quiet_distilabel()
    from specdistill.builders.preview import preview

    exchanges = preview(recipe, base, count, trust_remote_code=trust_remote_code, host=host)
    if as_json:
        print_json(exchanges)
        return
    console = out()
    for number, exchange in enumerate(exchanges, start=1):
        console.rule(f"{number}/{len(exchanges)}  {exchange['category']}  prompt {exchange['prompt_id']}")
        for call in exchange["calls"]:
            console.print(f"\n[bold]{call['step']}[/] sends")
            for message in call["messages"]:
                console.print(f"[bold cyan]{message['role']}[/]\n{safe(message['content'])}", soft_wrap=True)
            console.print("\n[bold]and gets[/]")
            console.print(safe(call["text"] if call["error"] is None else f"failed: {call['error']}"), soft_wrap=True)
            console.print(f"[bold]read as[/] {safe(str(call['read']))}", soft_wrap=True)
