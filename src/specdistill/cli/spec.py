"""`specdistill spec …`: look at a policy, check it, compare two, import one, see which rules rows apply.

Every command prints its result to stdout and remarks to stderr; `--json` prints one JSON document instead.
Errors are `SpecdistillError`s, which the main program prints with cause and remedy (exit 1, or 2 for usage).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specdistill.cli.output import echo, out, print_json
from specdistill.errors import UsageError

if TYPE_CHECKING:
    from specdistill.specs.tokens import Counter

app = typer.Typer(no_args_is_help=True, help="Policies: list, show, lint, diff, coverage, import.")

DEFAULT = "safety"
Json = Annotated[bool, typer.Option("--json", help="One JSON document, for machines.")]
Tokenizer = Annotated[
    str | None,
    typer.Option(help="tokenizer.json, model folder or hub id; default: the embedded model's, else an estimate."),
]


def note(text: str) -> None:
    """A remark for people, on stderr, so that stdout stays what was asked for."""
    echo(text, stream=sys.stderr)


def counter_for(tokenizer: str | None) -> Counter:
    """The counter a command uses; never starts a conversion or a download that was not asked for."""
    from specdistill.specs.tokens import ESTIMATE, tokenizer_counter

    if tokenizer is not None and tokenizer != "embedded":
        return tokenizer_counter(tokenizer)
    from specdistill.builders.engines.embedded import cache_dir, embedded_model

    if tokenizer == "embedded":
        return tokenizer_counter(embedded_model(), "the embedded model's tokenizer")
    made = sorted(cache_dir().glob("smollm2-*/tokenizer.json"))
    return tokenizer_counter(made[-1], "the embedded model's tokenizer") if made else ESTIMATE


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """The packaged spec libraries."""
    from specdistill.specs.loader import libraries, load_spec, seed_files

    rows: list[dict[str, Any]] = []
    for name in libraries():
        spec = load_spec(name)
        rows.append(
            {
                "name": name,
                "title": spec.title,
                "version": spec.version,
                "licence": spec.licence,
                "categories": [category.id for category in spec.categories],
                "clauses": len(spec.anchors),
                "seed_files": len(seed_files(spec)),
                "digest": spec.digest,
            }
        )
    if as_json:
        print_json(rows)
        return
    for row in rows:
        echo(f"{row['name']}  {row['title']} {row['version']} ({row['licence']}), {row['clauses']} clauses")
        echo("  " + ", ".join(row["categories"]))


@app.command()
def show(
    categories: Annotated[
        list[str] | None, typer.Argument(help="Category ids; several give their union. None: list them.")
    ] = None,
    spec: Annotated[str, typer.Option(help="Library name, folder or Markdown file.")] = DEFAULT,
    examples: Annotated[bool, typer.Option("--examples", help="With the worked examples.")] = False,
    budget: Annotated[int | None, typer.Option(min=1, help="Fail if it has more tokens.")] = None,
    tokenizer: Tokenizer = None,
    as_json: Json = False,
) -> None:
    """Exactly what a model is shown for a category, with its token count."""
    from specdistill.specs.loader import load_spec
    from specdistill.specs.render import category_text, render

    loaded = load_spec(spec)
    counter = counter_for(tokenizer)
    if not categories:
        sizes = {category.id: counter.count(category_text(category)) for category in loaded.categories}
        if as_json:
            print_json(
                {
                    "spec": loaded.id,
                    "version": loaded.version,
                    "digest": loaded.digest,
                    "counter": counter.name,
                    "categories": [
                        {
                            "id": category.id,
                            "title": category.title,
                            "summary": category.summary,
                            "clauses": [clause.anchor for clause in category.clauses],
                            "tokens": sizes[category.id],
                        }
                        for category in loaded.categories
                    ],
                }
            )
            return
        for category in loaded.categories:
            echo(f"{category.id}  {len(category.clauses)} clauses, {sizes[category.id]} tokens")
        first = loaded.categories[0].id
        note(f"Tokens by {counter.name}. Show one with: specdistill spec show {first} --spec {spec}")
        return
    rendered = render(loaded, categories, examples=examples, budget=budget, count=counter.count)
    if as_json:
        print_json(
            {
                "spec": loaded.id,
                "version": loaded.version,
                "categories": list(rendered.categories),
                "tokens": rendered.tokens,
                "counter": counter.name,
                "digest": rendered.digest,
                "anchors": list(rendered.anchors),
                "text": rendered.text,
            }
        )
        return
    echo(rendered.text, end="")
    note(f"{rendered.tokens} tokens by {counter.name}; digest {rendered.digest}")


@app.command()
def lint(
    spec: Annotated[str, typer.Argument(help="Library name, folder or Markdown file.")] = DEFAULT,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
    tokenizer: Tokenizer = None,
    as_json: Json = False,
) -> None:
    """Every fault of a policy with file and line; exit 1 if there is an error."""
    from specdistill.specs.lint import lint as findings_of

    counter = counter_for(tokenizer)
    findings = findings_of(spec, count=counter.count)
    errors = sum(finding.severity == "error" for finding in findings)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            echo(str(finding))
        note(f"{errors} errors, {len(findings) - errors} warnings; tokens by {counter.name}.")
    if errors or (strict and findings):
        raise typer.Exit(1)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="Library, folder, file, run, release or REVISION:path.")],
    after: Annotated[str, typer.Argument(help="The newer one, named in the same way.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="A Markdown page, for a pull request.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit 1 if the newer version number is too low.")] = False,
    as_json: Json = False,
) -> None:
    """Clauses added, removed, renamed, re-outcomed, reworded, moved; and what the version should be."""
    from specdistill.specs.diff import diff as compare
    from specdistill.specs.diff import stale_categories
    from specdistill.specs.diff_text import diff_json, diff_markdown
    from specdistill.specs.semver import advise
    from specdistill.specs.versions import open_version

    old, new = open_version(before), open_version(after)
    changes = compare(old, new)
    advice = advise(changes)
    stale = stale_categories(old, new)
    if as_json:
        print_json({**diff_json(changes, advice), "stale": stale})
    elif markdown:
        echo(diff_markdown(changes, advice), end="")
    else:
        from specdistill.cli.spec_view import show_diff

        show_diff(out(), changes, advice)
        note(f"Rows of these categories become stale: {', '.join(stale) or 'none'}.")
    if check and advice.enough is False:
        raise typer.Exit(1)


@app.command("import")
def import_command(
    source: Annotated[str, typer.Argument(help="A Markdown file, or a folder of them.")],
    to: Annotated[Path, typer.Option("--to", help="Folder to write our layout to.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also into a folder that is not empty.")] = False,
    as_json: Json = False,
) -> None:
    """Take over a Markdown policy, and report with line numbers what has no place: no anchor, no outcome."""
    from specdistill.specs.importing import import_spec

    report = import_spec(source, to, overwrite=overwrite)
    if as_json:
        spec = report.spec
        print_json(
            {
                "folder": str(report.folder),
                "id": spec.id,
                "version": spec.version,
                "digest": spec.digest,
                "categories": [category.id for category in spec.categories],
                "clauses": list(spec.anchors),
                "unresolved": [finding._asdict() for finding in report.unresolved],
            }
        )
        return
    from specdistill.cli.spec_view import show_import

    show_import(out(), report)
    note(f"Next: specdistill spec lint {report.folder}")


@app.command()
def coverage(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or a folder made by publish --to-dir.")],
    plot: Annotated[Path | None, typer.Option(help="Write the heat map to this PNG.")] = None,
    suggest: Annotated[
        int | None, typer.Option(min=1, help="Ask the run's generator for N new prompts a clause no row applies.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Write the suggested prompts to this JSONL file.")] = None,
    as_json: Json = False,
) -> None:
    """For every clause, how many accepted reasonings cite it, by outcome; and citations of what was not shown."""
    if (suggest is None) is not (to is None):
        raise UsageError("--suggest and --to belong together.", "Give both: --suggest 5 --to suggested.jsonl.")
    from specdistill.cli.spec_rows import rows_of
    from specdistill.specs.clauses import clause_frame
    from specdistill.specs.coverage import coverage as cover
    from specdistill.specs.coverage import stray_citations, uncovered
    from specdistill.specs.render import render

    rows = rows_of(run)
    covered = cover(clause_frame(rows.spec), rows.accepted)
    shown = {category.id: render(rows.spec, category.id) for category in rows.spec.categories}
    strays = stray_citations(
        rows.shown([text.digest for text in shown.values()]),
        rows.spec.anchors,
        {name: text.anchors for name, text in shown.items()},
    )
    if plot is not None:
        from specdistill.specs.heatmap import save_heatmap

        save_heatmap(covered, plot)
    bare = uncovered(covered)["anchor"].to_list()
    suggested: dict[str, Any] = {}
    if suggest is not None and to is not None:
        from specdistill.cli.spec_suggest import suggest as ask
        from specdistill.cli.spec_suggest import write_suggestions

        found = ask(run, rows.spec, bare, suggest)
        write_suggestions(found, to)
        suggested = {"suggested": {"prompts": len(found.rows), "asked": found.asked, "faults": found.faults}}
        note(f"{len(found.rows)} prompts for {found.asked} clauses in {to}: look through them before use.")
    if as_json:
        print_json(
            {
                "accepted": rows.accepted.height,
                "clauses": covered.to_dicts(),
                "uncovered": bare,
                **suggested,
                "stray": strays.to_dicts(),
            }
        )
        return
    from specdistill.cli.spec_view import show_coverage

    show_coverage(out(), covered, strays, rows.accepted.height)
    if plot is not None:
        note(f"Heat map: {plot}")
