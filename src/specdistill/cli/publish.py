"""`specdistill publish`: a run becomes a release, in a folder or on the Hub; `--check` proves one that exists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from specdistill.cli.output import JsonFlag, err, out, print_json, safe

if TYPE_CHECKING:
    from specdistill.cards.plan import Plan
    from specdistill.cards.publishing import Published


def publish(
    run: str = typer.Argument(
        ..., metavar="RUN", help="A run folder made by build; with --check a release: org/name@vX.Y.Z or a folder."
    ),
    version: str | None = typer.Option(None, help="Version of the release, X.Y.Z; its tag is vX.Y.Z."),
    repo: str | None = typer.Option(None, metavar="ORG/NAME", help="Dataset on the Hub."),
    to_dir: Path | None = typer.Option(None, metavar="DIR", help="Write the tree of the release here."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what would change on the Hub; change nothing."),
    check: bool = typer.Option(False, "--check", help="Prove that card, manifest and data of a release agree."),
    private: bool = typer.Option(False, "--private", help="Make the repository private if it is created."),
    gated: bool = typer.Option(False, "--gated", help="Readers must ask for access. Wise for harmful content."),
    branch: str = typer.Option("main", help="Branch to commit to; made if missing."),
    pull_request: bool = typer.Option(False, "--pull-request", help="Propose it; run again once merged to tag it."),
    licence: str | None = typer.Option(
        None, "--licence", "--license", help="SPDX id of the set; default: licences.dataset of the recipe."
    ),
    licence_link: str | None = typer.Option(None, metavar="URL", help="Text of a licence that has no SPDX id."),
    title: str | None = typer.Option(None, help="Title on the card; default: the run's name."),
    language: list[str] = typer.Option([], metavar="CODE", help="ISO 639-1 code of the texts; may be repeated."),
    author: list[str] = typer.Option([], metavar="NAME", help="Author for the citation; may be repeated."),
    scan: bool = typer.Option(True, "--scan/--no-scan", help="Look for secrets and personal data."),
    accept_findings: bool = typer.Option(False, "--accept-findings", help="Release although the scan found something."),
    as_json: bool = JsonFlag,
) -> None:
    """Make a release of RUN: one commit with Parquet, card, manifest, policy and plots, then its tag.

    Whatever interrupts it, running it again finishes what is missing. The token comes from HF_TOKEN or `hf auth login`.
    """
    if check:
        check_release(run, as_json=as_json)
        return
    from specdistill.cards.plan import Target
    from specdistill.cards.publishing import publish_run
    from specdistill.cards.tree import Ask
    from specdistill.errors import UsageError
    from specdistill.schemas.layout import RunLayout

    if version is None:
        raise UsageError("A release needs a version.", "Give three numbers, e.g. --version 1.0.0.")
    if dry_run and repo is None:
        raise UsageError("--dry-run compares with a dataset on the Hub.", "Name it with --repo org/name.")
    notes = err()
    published = publish_run(
        RunLayout(Path(run)),
        Ask(version, licence, licence_link, repo, title, tuple(language), tuple(author), gated),
        to_dir=to_dir,
        target=Target(version, branch, pull_request, private, gated) if repo else None,
        dry_run=dry_run,
        scanned=scan,
        accept_findings=accept_findings,
        say=lambda text: notes.print(safe(text), soft_wrap=True),
    )
    if as_json:
        print_json(as_data(published))
    else:
        show(published, version)


def show(published: Published, version: str) -> None:
    """What was or would be published."""
    console = out()
    if published.findings:
        console.print(f"The scan found {len(published.findings):,} texts that look like secrets or personal data:")
        for find in published.findings[:10]:
            console.print(f"  {safe(str(find))}", soft_wrap=True)
    if published.outcome is not None:
        show_plan(published.outcome.plan)
    elif published.manifest is not None:
        for config, splits in published.manifest.counts.items():
            console.print(f"{config:<11} " + "  ".join(f"{safe(split)} {rows:,}" for split, rows in splits.items()))
    if published.folder is not None and published.manifest is not None:
        console.print(f"release {version} in {safe(str(published.folder))}", soft_wrap=True)
    if published.outcome is not None:
        status, oid = published.outcome.status, published.outcome.oid
        console.print(f"{status}: {safe(published.outcome.url)}" + (f" ({oid})" if oid else ""), soft_wrap=True)


def show_plan(plan: Plan) -> None:
    """Files, rows and columns that a release changes."""
    from rich.table import Table

    console = out()
    for note in plan.note:
        console.print(safe(note), soft_wrap=True)
    for title, files in (("added", plan.added), ("changed", plan.changed), ("removed", plan.removed)):
        if files:
            console.print(f"{title} {len(files):,} files, {sum(files.values()) / 1e6:,.1f} MB")
            for name, size in list(files.items())[:20]:
                console.print(f"  {safe(name)}  {size:,} bytes", soft_wrap=True)
            if len(files) > 20:
                console.print(f"  and {len(files) - 20:,} more")
    table = Table("config", "rows before", "rows now", box=None, pad_edge=False)
    for config, (before, now) in plan.rows.items():
        table.add_row(safe(config), f"{before:,}", f"{now:,}")
    console.print(table)
    for line in plan.schema:
        console.print(f"schema {safe(line)}", soft_wrap=True)
    if plan.previous:
        console.print(f"the release before is {safe(plan.previous)}")


def as_data(published: Published) -> dict[str, Any]:
    """The same for machines."""
    from dataclasses import asdict

    return {
        "folder": str(published.folder) if published.folder else None,
        "counts": published.manifest.counts if published.manifest else None,
        "outcome": asdict(published.outcome) if published.outcome else None,
        "findings": [asdict(find) for find in published.findings] if published.findings is not None else None,
    }


def check_release(place: str, *, as_json: bool) -> None:
    """Prove a release.

    Raises:
        UsageError: neither a folder nor `org/name@revision`. PublishError: it does not agree.
    """
    from specdistill.cards.check import check_release as disagreements
    from specdistill.cards.reading import RELEASE, fetch_release
    from specdistill.errors import PublishError, UsageError

    folder = Path(place)
    if not folder.is_dir():
        match = RELEASE.fullmatch(place)
        if not match:
            raise UsageError(f"'{place}' is no release.", "Give org/name@vX.Y.Z or the folder of a release.")
        folder = fetch_release(match[1], match[2] or "main")
    wrong = disagreements(folder)
    if as_json:
        print_json({"release": place, "folder": str(folder), "disagreements": wrong})
    if wrong:
        raise PublishError(
            f"{len(wrong)} things do not agree in {place}:\n" + "\n".join(f"  {line}" for line in wrong[:10]) + "\n",
            "Do not build on this release; make a new one from its run.",
        )
    if not as_json:
        out().print(f"{safe(place)}: card, manifest and data agree", soft_wrap=True)
