"""`specdistill audit`: people check rows and pairs in Argilla, and their verdicts come back and count."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from specdistill.cli.output import JsonFlag, err, out, print_json, safe

if TYPE_CHECKING:
    from specdistill.builders.audit.serve import Server

app = typer.Typer(
    help="People check rows and pairs in Argilla; their verdicts come back and count.", no_args_is_help=True
)
RunArgument = typer.Argument(..., metavar="RUN", help="A run folder made by build.")
UrlOption = typer.Option(None, "--url", help="Address of the Argilla server; else ARGILLA_API_URL.")
KeyOption = typer.Option(None, "--api-key", help="An owner's key; better in ARGILLA_API_KEY than here.")
WorkspaceOption = typer.Option("audit", "--workspace", help="Argilla workspace; made if missing.")


@app.callback()
def group() -> None:
    """Options that stand before the command."""


@app.command()
def serve(
    home: Path | None = typer.Option(None, help="Where the server keeps everything; default: your data folder."),
    port: int = typer.Option(6900, help="Port on the loopback interface; 0 takes a free one."),
    annotator: list[str] = typer.Option(["annotator"], "--annotator", help="An annotator's username; repeat for more."),
    new_credentials: bool = typer.Option(False, "--new-credentials", help="New passwords and keys for all accounts."),
    as_json: bool = JsonFlag,
) -> None:
    """Run a real Argilla server on this machine until Ctrl-C: SQLite, no Elasticsearch, no Redis, no Docker.

    The first start installs the server into an environment of its own (some 440 MB in your cache folder) and makes an
    owner and annotators. Passwords and keys are shown once. Data stays in --home.
    """
    from specdistill.builders.audit.serve import default_home, start

    server = start(
        home or default_home(),
        port=port,
        annotators=annotator,
        new_credentials=new_credentials,
        say=lambda text: err().print(text, markup=False, soft_wrap=True),
    )
    try:
        if as_json:
            print_json({"url": server.url, "home": str(server.home), "accounts": [vars(a) for a in server.new]})
            typer.echo("", nl=False)
        else:
            show_server(server)
        server.process.wait()
    finally:
        server.stop()


def show_server(server: Server) -> None:
    """Address, credentials, what it is fit for."""
    from rich.table import Table

    from specdistill.builders.audit.serve import FIT_FOR

    console = out()
    console.print(f"Argilla at {server.url}, data in {safe(str(server.home))}; stop it with Ctrl-C", soft_wrap=True)
    if server.new:
        table = Table("account", "role", "password", "API key", box=None, pad_edge=False)
        for account in server.new:
            table.add_row(account.username, account.role, account.password, account.api_key)
        console.print("Shown once; nobody can show them again:")
        console.print(table, soft_wrap=True, crop=False)
        keys = [account.api_key for account in server.new if account.role == "owner"]
        if keys:
            console.print("In another terminal:")
            console.print(f"  export ARGILLA_API_URL={server.url} ARGILLA_API_KEY={keys[0]}", soft_wrap=True)
    else:
        console.print("The accounts are those of earlier starts; --new-credentials makes new passwords and keys.")
    console.print(FIT_FOR, soft_wrap=True)


@app.command()
def push(
    run: Path = RunArgument,
    url: str | None = UrlOption,
    api_key: str | None = KeyOption,
    workspace: str = WorkspaceOption,
    rows: int | None = typer.Option(
        None, min=0, help="Rows in all, control included; default: audit.per_category each."
    ),
    pairs: int | None = typer.Option(None, min=0, help="Pairs in all with control; default: audit.pairs."),
    precision: float | None = typer.Option(
        None, help="Choose so many rows that precision is known to ± this many points."
    ),
    recreate: bool = typer.Option(False, help="Make a dataset anew that was deleted on the server."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be chosen and why; send and write nothing."),
    as_json: bool = JsonFlag,
) -> None:
    """Choose rows and pairs, borderline and at random, and bring them to Argilla. Again: only what is new."""
    from specdistill.builders.shim import quiet_distilabel

    quiet_distilabel()
    from specdistill.builders.audit.choose import wanted_rows
    from specdistill.builders.audit.client import connect
    from specdistill.builders.audit.stage import choose_records, push_all
    from specdistill.builders.audit.view import judged
    from specdistill.builders.run import open_run
    from specdistill.cli.counting import Counting

    layout, recipe = open_run(run)
    client, address = (None, "") if dry_run else connect(url, api_key)
    state = judged(layout, recipe)
    total = wanted_rows(state.rows, recipe.audit, precision) if rows is None and precision is not None else rows
    records = choose_records(layout, recipe, state, total, pairs, write=not dry_run)
    if not as_json:
        show_choice(records, state.rows.height, bool(state.rows.height))
    if dry_run:
        if as_json:
            print_json({"records": records.to_dicts()})
        return
    with Counting(err(), "records") as progress:
        sent = push_all(
            layout, recipe, client, address, workspace, records, state, recreate=recreate, progress=progress
        )
    if as_json:
        print_json({"url": address, "workspace": workspace, "datasets": [vars(dataset) for dataset in sent]})
        return
    for dataset in sent:
        out().print(f"{safe(dataset.name)}: {dataset.sent} sent, {dataset.there} were there", soft_wrap=True)
    out().print(f"Annotators sign in at {address}, workspace {safe(workspace)}.", soft_wrap=True)


def show_choice(records: Any, population: int, judge: bool) -> None:
    """What was chosen, why, and what it buys."""
    import polars as pl
    from rich.table import Table

    from specdistill.builders.audit.size import buys

    console = out()
    first = records.filter(pl.col("round") == 1)
    table = Table("kind", "slice", "category", "records", "e.g. because", box=None, pad_edge=False)
    grouped = first.sort("priority", descending=True).group_by(["kind", "slice", "category"], maintain_order=True)
    shown = grouped.agg(pl.len(), pl.col("why").first()).sort("kind", "slice", "category")
    for kind, name, category, count, why in shown.iter_rows():
        table.add_row(kind, name, safe(category), str(count), safe(why[0]))
    console.print(table)
    control = first.filter((pl.col("kind") == "row") & (pl.col("slice") == "control"))
    if judge:
        console.print(f"The control slice: {buys(control.height, population)}.", soft_wrap=True)


@app.command()
def pull(
    run: Path = RunArgument,
    url: str | None = UrlOption,
    api_key: str | None = KeyOption,
    workspace: str = WorkspaceOption,
    again: bool = typer.Option(True, help="Send what people disagree about to another annotator."),
    as_json: bool = JsonFlag,
) -> None:
    """Read all answers into RUN/audit. Safe while people work. `specdistill select RUN` then applies them."""
    from specdistill.builders.shim import quiet_distilabel

    quiet_distilabel()
    from specdistill.builders.audit.client import connect
    from specdistill.builders.audit.pull import pull as read
    from specdistill.builders.audit.stage import people_of, push_all, second_opinions, write_labels
    from specdistill.builders.audit.verdicts import verdicts
    from specdistill.builders.audit.view import judged
    from specdistill.builders.run import open_run
    from specdistill.cli.counting import Counting

    layout, recipe = open_run(run)
    client, address = connect(url, api_key)
    with Counting(err(), "records") as progress:
        responses = read(layout, client, address, progress)
    found = verdicts(responses, recipe.audit)
    people_of(layout, recipe)  # from now on a release knows what people rejected, also before `select` applies it
    labels = write_labels(layout, found, responses)
    more = second_opinions(layout, recipe, responses)
    if again and more.height:
        state = judged(layout, recipe)
        more = state.still_there(more)
        push_all(layout, recipe, client, address, workspace, more, state)
    counted = {
        "statuses": dict(responses.group_by("status").len().sort("status").iter_rows()),
        "annotators": responses["annotator"].n_unique(),
        "verdicts": {
            f"{kind}/{final}": count
            for kind, final, count in found.group_by("kind", "final").len().sort("kind", "final").iter_rows()
        },
        "disputed": int(found["disputed"].sum()),
        "sent_again": more.height if again else 0,
    }
    if as_json:
        print_json(counted)
        return
    console = out()
    console.print(f"answers  {words(counted['statuses'])} by {counted['annotators']} annotators")
    console.print(f"verdicts {words(counted['verdicts'])}; disputed {counted['disputed']}")
    if counted["sent_again"]:
        console.print(f"{counted['sent_again']} records went to another annotator")
    console.print(f"labels   {safe(str(labels))}", soft_wrap=True)
    console.print(f"Now: specdistill select {safe(str(run))}", soft_wrap=True)


def words(counts: Any) -> str:
    """`a 3, b 4`, or `none`."""
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


@app.command()
def report(
    run: Path = RunArgument,
    wanted: float = typer.Option(0.95, "--precision", min=0.0, max=1.0, help="Precision the threshold is to reach."),
    as_json: bool = JsonFlag,
) -> None:
    """Agreement, judge against people, precision and recall of the accepted set, pace; for RUN/audit/report, card."""
    from specdistill.builders.shim import quiet_distilabel

    quiet_distilabel()
    from specdistill.builders.audit.report import measure, write_report
    from specdistill.builders.audit.stage import pulled
    from specdistill.builders.audit.summary import summary
    from specdistill.builders.audit.view import judged
    from specdistill.builders.manifest import note_audit
    from specdistill.builders.run import open_run

    layout, recipe = open_run(run)
    records, responses = pulled(layout)
    numbers = measure(records, responses, judged(layout, recipe).rows, recipe.audit, wanted)
    write_report(layout, numbers, recipe)
    note_audit(layout)
    if as_json:
        print_json(numbers)
        return
    show_report(numbers)
    for line in summary(numbers).lines:
        out().print(line, soft_wrap=True)
    out().print(f"report  {safe(str(layout.audit / 'report' / 'README.md'))}", soft_wrap=True)


def show_report(numbers: dict[str, Any]) -> None:
    """Agreement and confusion as tables."""
    from rich.table import Table

    from specdistill.builders.audit.report import interval_text
    from specdistill.builders.audit.summary import number

    agreement = Table("question", "alpha", "95 %", "records", "answers", box=None, pad_edge=False)
    for row in numbers["alpha"]:
        agreement.add_row(
            row["question"], number(row["alpha"]), interval_text(row), str(row["records"]), str(row["answers"])
        )
    judge = Table("category", "both accept", "judge only", "people only", "both reject", box=None, pad_edge=False)
    for row in numbers["confusion"]:
        cells = (row[name] for name in ("both_accept", "judge_only", "people_only", "both_reject"))
        judge.add_row(safe(row["category"]), *map(str, cells))
    out().print(agreement, judge)
