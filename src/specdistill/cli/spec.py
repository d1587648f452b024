"""`specdistill spec …`: look at a policy, check it, compare two, import one, see which rules rows apply.

Every command prints its result to stdout and remarks to stderr; `--json` prints one JSON document instead.
Errors are `SpecdistillError`s, which the main program prints with cause and remedy (exit 1, or 2 for usage).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from specdistill.specs.tokens import Counter

app = typer.Typer(no_args_is_help=True, help="Policies: list, show, lint, diff, coverage, import.")

DEFAULT = "safety"
Json = Annotated[bool, typer.Option("--json", help="One JSON document, for machines.")]
Tokenizer = Annotated[
    str | None,
    typer.Option(help="tokenizer.json, model folder or hub id; default: the embedded model's, else an estimate."),
]


def emit(value: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def note(text: str) -> None:
    """A remark for people, on stderr, so that stdout stays what was asked for."""
    typer.echo(text, err=True)


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

    rows = []
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
        emit(rows)
        return
    for row in rows:
        typer.echo(f"{row['name']}  {row['title']} {row['version']} ({row['licence']}), {row['clauses']} clauses")
        typer.echo("  " + ", ".join(row["categories"]))


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
            emit(
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
            typer.echo(f"{category.id}  {len(category.clauses)} clauses, {sizes[category.id]} tokens")
        first = loaded.categories[0].id
        note(f"Tokens by {counter.name}. Show one with: specdistill spec show {first} --spec {spec}")
        return
    rendered = render(loaded, categories, examples=examples, budget=budget, count=counter.count)
    if as_json:
        emit(
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
    typer.echo(rendered.text, nl=False)
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
        emit([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            typer.echo(str(finding))
        note(f"{errors} errors, {len(findings) - errors} warnings; tokens by {counter.name}.")
    if errors or (strict and findings):
        raise typer.Exit(1)
