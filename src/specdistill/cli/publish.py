"""`specdistill publish`: a run becomes a release, in a folder or on the Hub."""

from __future__ import annotations

from pathlib import Path

import typer

from specdistill.cli.output import JsonFlag, out, print_json, safe


def publish(
    run: Path = typer.Argument(..., metavar="RUN", help="A run folder made by build."),
    version: str = typer.Option(..., "--version", help="Version of the release, X.Y.Z; it becomes the tag vX.Y.Z."),
    to_dir: Path | None = typer.Option(None, "--to-dir", help="Write the tree of the release here."),
    licence: str | None = typer.Option(
        None, "--licence", "--license", help="SPDX id of the set; default: licences.dataset of the recipe."
    ),
    licence_link: str | None = typer.Option(None, help="Where the text of a licence lies that has no SPDX id."),
    title: str | None = typer.Option(None, help="Title on the card; default: the run's name."),
    language: list[str] = typer.Option([], help="ISO 639-1 code of a language of the texts; may be repeated."),
    author: list[str] = typer.Option([], help="Author for the citation; may be repeated."),
    as_json: bool = JsonFlag,
) -> None:
    """Make a release of RUN: Parquet per config and split, card, manifest, the policy, plots."""
    from specdistill.cards.tree import Ask, build_tree
    from specdistill.errors import UsageError
    from specdistill.schemas.layout import RunLayout

    if to_dir is None:
        raise UsageError("There is nowhere to publish to.", "Give --to-dir FOLDER.")
    ask = Ask(version, licence, licence_link, title=title, languages=language, authors=author)
    manifest = build_tree(RunLayout(run), to_dir, ask)
    if as_json:
        print_json({"folder": str(to_dir), "version": version, "counts": manifest.counts})
        return
    console = out()
    for config, splits in manifest.counts.items():
        console.print(f"{config:<11} " + "  ".join(f"{safe(split)} {rows:,}" for split, rows in splits.items()))
    console.print(f"release {version} in {safe(str(to_dir))}", soft_wrap=True)
