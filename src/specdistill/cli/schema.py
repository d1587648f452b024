"""`specdistill schema`: the contracts of the published configs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from specdistill.cli.output import JsonFlag, out, print_json, safe

if TYPE_CHECKING:
    from specdistill.schemas.table import Table

app = typer.Typer(help="The contracts of the published configs.", no_args_is_help=True)
ConfigOption = typer.Option(None, "--config", help="Config of the rows; default: the name of the file's folder.")


@app.command("list")
def list_(as_json: bool = JsonFlag) -> None:
    """Configs and tables with their versions."""
    from specdistill.schemas.configs import TABLES
    from specdistill.schemas.evaluation import EVAL_TABLES
    from specdistill.schemas.rows import CANDIDATES, CLAUSES, JUDGMENTS, PROMPTS

    groups = {
        "published configs": [*TABLES.values()],
        "tables of a run": [PROMPTS, CANDIDATES, JUDGMENTS, CLAUSES],
        "tables of an evaluation": [*EVAL_TABLES.values()],
    }
    if as_json:
        print_json({group: {table.name: table.version for table in tables} for group, tables in groups.items()})
        return
    for group, tables in groups.items():
        out().print(f"[bold]{group}[/]")
        for table in tables:
            out().print(f"  {table.name:<11} {table.version}  {safe(table.doc)}", soft_wrap=True)


@app.command()
def show(
    config: str = typer.Argument(..., help="A published config, or a table of an evaluation."),
    form: str = typer.Option("text", "--as", help="text, json-schema or features."),
) -> None:
    """One config: its columns, as prose, JSON Schema or Hugging Face features."""
    from specdistill.errors import UsageError
    from specdistill.schemas.features import features
    from specdistill.schemas.json_schema import json_schema, prose

    table = table_of(config)
    match form:
        case "text":
            typer.echo(prose(table))
        case "json-schema":
            typer.echo(json.dumps(json_schema(table), indent=2, ensure_ascii=False))
        case "features":
            typer.echo(json.dumps(features(table).to_dict(), indent=2, ensure_ascii=False))
        case _:
            raise UsageError(f"'{form}' is no form.", "Give --as text, json-schema or features.")


@app.command()
def validate(
    paths: list[Path] = typer.Argument(..., help="Parquet or JSONL files, or folders with CONFIG/*.parquet."),
    config: str | None = ConfigOption,
    as_json: bool = JsonFlag,
) -> None:
    """Check rows against their schema; names the first ten problems of each file."""
    from specdistill.errors import SchemaError
    from specdistill.schemas.rowfiles import read_rows

    found: dict[str, list[str]] = {}
    for path in files_in(paths):
        table = table_of(config or path.parent.name)
        try:
            found[str(path)] = table.problems(read_rows(path, table))
        except SchemaError as exc:
            found[str(path)] = [exc.cause]
    if as_json:
        print_json(found)
    bad = {path: problems for path, problems in found.items() if problems}
    if bad:
        lines = "\n".join(f"  {path}: {problem}" for path, problems in bad.items() for problem in problems)
        raise SchemaError(
            f"{len(bad)} of {len(found)} files are not valid:\n{lines}\n",
            "`specdistill schema show` has the contract; `schema migrate` upgrades rows of an earlier version.",
        )
    if not as_json:
        out().print(f"{len(found):,} files are valid")


@app.command()
def diff(
    before: str = typer.Argument(..., help="A release: folder, README.md, or org/name@revision."),
    after: str = typer.Argument(..., help="Another one."),
    as_json: bool = JsonFlag,
) -> None:
    """What changed for readers between two releases, and which version step that asks for."""
    from specdistill.schemas.contract import card_schemas, schema_changes

    old, new = (card_schemas(card_of(place)) for place in (before, after))
    changes = schema_changes(old, new)
    step = "major" if any(change.breaking for change in changes) else "minor" if changes else "patch"
    if as_json:
        print_json({"changes": [vars(change) for change in changes], "version_step": step})
        return
    for change in changes:
        out().print(safe(str(change)), soft_wrap=True)
    out().print(f"{len(changes)} changes; the next version is a {step} one")


@app.command()
def migrate(
    source: Path = typer.Argument(..., help="A Parquet or JSONL file, or a folder with CONFIG/*.parquet."),
    to: Path = typer.Argument(..., help="Where the upgraded file or folder goes; must not exist."),
    config: str | None = ConfigOption,
) -> None:
    """Upgrade rows of an earlier schema version to today's."""
    from specdistill.errors import UsageError
    from specdistill.schemas.files import write_whole
    from specdistill.schemas.migrations import migrate as upgrade
    from specdistill.schemas.rowfiles import read_rows

    if to.exists():
        raise UsageError(f"{to} exists.", "Give a place that does not exist yet.")
    if not source.is_dir() and to.suffix != ".parquet":
        raise UsageError(f"Rows are written as Parquet, and {to.name} is no name for that.", "End it in .parquet.")
    upgraded = {}
    for path in files_in([source]):
        name = config or path.parent.name
        rows, done = upgrade(read_rows(path, table_of(name)), name)
        place = (to / path.parent.name / path.name).with_suffix(".parquet") if source.is_dir() else to
        upgraded[place] = rows
        out().print(f"{safe(str(path))}: {'; '.join(done) or 'is of today'}", soft_wrap=True)
    import io

    for place, rows in upgraded.items():
        buffer = io.BytesIO()
        rows.write_parquet(buffer)
        write_whole(place, buffer.getvalue())


def table_of(config: str) -> Table:
    """A published config by name.

    Raises:
        UsageError: there is none; names the nearest.
    """
    from difflib import get_close_matches

    from specdistill.errors import UsageError
    from specdistill.schemas.configs import TABLES
    from specdistill.schemas.evaluation import EVAL_TABLES

    if config in TABLES:
        return TABLES[config]
    if config in EVAL_TABLES:
        return EVAL_TABLES[config]
    near = get_close_matches(config, TABLES, n=1)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    raise UsageError(f"There is no config '{config}'.", f"{hint}Known: {', '.join(TABLES)}.")


def files_in(paths: list[Path]) -> list[Path]:
    """Files, and the sets in folders (of a release, or of a run).

    Raises:
        UsageError: a path is not there, or a folder has no sets.
    """
    from specdistill.errors import UsageError
    from specdistill.schemas.configs import TABLES

    found: list[Path] = []
    for path in paths:
        place = path / "datasets" if (path / "datasets").is_dir() else path
        sets = sorted(file for name in TABLES for file in place.glob(f"{name}/*.parquet"))
        inside = [path] if path.is_file() else sets
        if not inside:
            raise UsageError(f"{path} has no rows to look at.", "Give a file, or a folder with CONFIG/*.parquet.")
        found += inside
    return found


def card_of(place: str) -> str:
    """The card of a release.

    Raises:
        UsageError: it is none. PublishError: the hub does not have it.
    """
    from specdistill.cards.reading import RELEASE
    from specdistill.cards.remote import Remote, attempt
    from specdistill.errors import PublishError, UsageError

    path = Path(place)
    if path.is_dir():
        path = path / "README.md"
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    match = RELEASE.fullmatch(place)
    if not match:
        raise UsageError(f"'{place}' is no release.", "Give a folder, a README.md, or org/name@revision.")
    remote = Remote(match[1])
    oid = attempt(f"find {place}", lambda: remote.api.dataset_info(match[1], revision=match[2] or "main").sha)
    raw = remote.read("README.md", str(oid))
    if raw is None:
        raise PublishError(f"{place} has no README.md.", "It is no release of specdistill.")
    return raw.decode(errors="replace")
