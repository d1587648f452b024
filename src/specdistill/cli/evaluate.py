"""`specdistill eval`: what a model does on suites of prompts, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from specdistill.cli.output import JsonFlag, err, out, print_json, safe

if TYPE_CHECKING:
    from specdistill.schemas.recipe import Engine, Judge

CITED = ("clause_citation", "policy_retrieval", "anchor_retrieval", "exact_clause_match", "outcome_accuracy",
         "compliance", "over_refusal", "over_refusal_twins", "leak", "invented_clause", "helpfulness", "readable",
         "answer_words", "completion_tokens", "goodness_at_10", "all_variants_right")  # fmt: skip
"""Metrics the terminal shows; the others are in the result."""


def evaluate(
    model: str | None = typer.Argument(None, metavar="MODEL", help="`embedded`, a folder, a hub id, a served name."),
    dataset: str | None = typer.Option(None, help="Folder made by `publish --to-dir`, or org/name@revision."),
    target: Path | None = typer.Option(None, "--out", help="Where results go; default evals/NAME."),
    name: str | None = typer.Option(None, help="What the result is called in comparisons."),
    split: str = typer.Option("test", help="Held-out split of the dataset."),
    files: list[Path] | None = typer.Option(None, "--file", help="A further suite: .jsonl, .csv or .parquet."),
    public: list[str] | None = typer.Option(None, "--public", help="A further suite: a public set, e.g. xstest."),
    variants: list[str] | None = typer.Option(
        None, "--variant", help="A transform: base64, rot13, leetspeak, spacing, role_play, prefix, no_refusal, "
        "multi_turn, translation:LANGUAGE; `all` for the built-in ones."),
    variant_limit: int | None = typer.Option(None, min=1, help="Transforms of only so many prompts."),
    limit: int | None = typer.Option(None, min=1, help="Only so many prompts of each suite."),
    with_spec: str = typer.Option("no", help="spec(category) in context: no, yes, both."),
    samples: int = typer.Option(1, min=1, help="Answers a prompt."),
    engine: str = typer.Option("auto", help="vllm, transformers, openai; auto: vllm where there is a GPU."),
    base_url: str | None = typer.Option(None, help="For openai: the server, up to and including /v1."),
    reasoning: str = typer.Option("native", help="How reasoning is asked for with the spec: native, prompted, guided."),
    temperature: float = typer.Option(0.0, min=0.0),
    max_tokens: int = typer.Option(1024, min=1, help="Most tokens of an answer, reasoning included."),
    seed: int = typer.Option(0),
    grader: str | None = typer.Option(None, help="YAML file with a judge section (a recipe will do); `dataset` for "
                                      "the dataset's own judge. Without: rules only."),
    inspect_log: bool = typer.Option(False, "--inspect-log", help="Also write a log for `inspect view`."),
    from_inspect: Path | None = typer.Option(None, help="Measure the answers of an Inspect log; asks no model."),
    metrics: bool = typer.Option(False, "--metrics", help="Print what every metric is, and stop."),
    as_json: bool = JsonFlag,
) -> None:  # fmt: skip
    """Measure what a model learnt: citations, outcomes, over-refusal, leaks, robustness; every number has an interval.

    A stopped evaluation goes on where it was. OUT/result.json pins every file; OUT/numbers.parquet has every number,
    and measures, answers and items lead from a number down to the texts behind it.
    """
    from specdistill.errors import UsageError

    if metrics:
        from specdistill.train.evaluation.metrics import metrics_page

        typer.echo(metrics_page(), nl=False)
        return
    if dataset is None or (model is None) == (from_inspect is None):
        raise UsageError(
            "A dataset and either a model or an Inspect log are needed.", "specdistill eval MODEL --dataset DIR"
        )
    from specdistill.train.runtime import prepare_process

    prepare_process()
    from specdistill.builders.shim import quiet_distilabel

    quiet_distilabel()
    from specdistill.schemas.files import write_whole
    from specdistill.train.data import open_set
    from specdistill.train.evaluation import evaluate as evaluation
    from specdistill.train.evaluation.beside_model import readme
    from specdistill.train.evaluation.results import read_result
    from specdistill.train.evaluation.suites import from_file, from_hub, held_out
    from specdistill.train.evaluation.transforms import MULTI_TURN, TRANSFORMS

    published = open_set(dataset)
    wanted = list(variants or [])
    if "all" in wanted:
        wanted = [*TRANSFORMS, MULTI_TURN, *(name for name in wanted if name != "all")]
    if with_spec not in ("no", "yes", "both"):
        raise UsageError(f"--with-spec is '{with_spec}'.", "Give no, yes or both.")
    asked = evaluation.Asked(
        engine=engine_config(engine, model or "-", base_url, reasoning, temperature, max_tokens, seed),
        published=published,
        suites=[
            held_out(published, split, limit),
            *(from_file(path, limit) for path in files or []),
            *(from_hub(one, limit) for one in public or []),
        ],
        name=name,
        variants=wanted,
        variant_limit=variant_limit,
        with_spec={"no": (False,), "yes": (True,), "both": (False, True)}[with_spec],
        samples=samples,
        grader=grader_config(grader, published),
        seed=seed,
    )
    called = name or model or (from_inspect.stem if from_inspect else "")
    folder = target or Path("evals") / Path(called).name
    if from_inspect is not None:
        from specdistill.train.evaluation.inspect_logs import import_log

        import_log(from_inspect, asked, folder)
    else:
        evaluation.evaluate(asked, folder, notes())
    result = read_result(folder)
    write_whole(folder / "README.md", readme(result).encode())
    if inspect_log:
        from specdistill.train.evaluation.inspect_logs import export_log

        err().print(f"Inspect log {export_log(result)}", soft_wrap=True, markup=False)
    if as_json:
        print_json(result.record.model_dump() | {"numbers": result.numbers.to_dicts()})
        return
    show_numbers(result)
    out().print(f"result  {folder / 'result.json'}", soft_wrap=True, markup=False)


def engine_config(
    engine: str, model: str, base_url: str | None, reasoning: str, temperature: float, max_tokens: int, seed: int
) -> Engine:
    """The engine's configuration from the command line.

    Raises:
        UsageError: it contradicts itself.
    """
    from pydantic import ValidationError

    from specdistill.errors import UsageError
    from specdistill.schemas.recipe import Engine

    if engine == "auto":
        engine = "openai" if base_url else auto_engine()
    fields: dict[str, Any] = {
        "engine": engine,
        "model": model,
        "base_url": base_url,
        "reasoning": reasoning,
        "temperature": temperature,
        "max_tokens": max_tokens,
        "seed": seed,
    }
    try:
        return Engine.model_validate(fields)
    except ValidationError as exc:
        first = exc.errors()[0]
        named = ".".join(map(str, first["loc"])) or "the engine"
        raise UsageError(f"{named}: {first['msg']}.", "See `specdistill eval --help`.") from exc


def auto_engine() -> str:
    """vLLM where there is a GPU and vLLM; transformers elsewhere, which starts in seconds."""
    from importlib.util import find_spec

    import torch

    return "vllm" if torch.cuda.is_available() and find_spec("vllm") else "transformers"


def grader_config(asked: str | None, published: Any) -> Judge | None:
    """The grader's configuration, or None."""
    if asked is None:
        return None
    from specdistill.train.arguments import RewardArguments
    from specdistill.train.judge_config import judge_for

    return judge_for(published, RewardArguments(judge=None if asked == "dataset" else asked))


def notes() -> Any:
    """Progress as plain lines."""
    console = err()

    def note(what: str, done: int, total: int) -> None:
        console.print(f"{what} {done}/{total}", markup=False)

    return note


def show_numbers(result: Any) -> None:
    """The numbers of all prompts, as tables, one a suite and way of asking."""
    import polars as pl
    from rich.table import Table

    from specdistill.train.evaluation.metrics import METRICS
    from specdistill.train.evaluation.words import shown, span

    console = out()
    rows = result.numbers.filter((pl.col("grouped_by") == "all") & pl.col("metric").is_in(list(CITED)))
    for (suite, spec), part in rows.group_by("suite", "with_spec", maintain_order=True):
        known = part["variant"].unique(maintain_order=True).to_list()
        table = Table("metric", *known, title=f"{safe(result.name)} on {safe(str(suite))}"
                      f"{', with the spec in context' if spec else ''}", title_justify="left", box=None)  # fmt: skip
        for metric in (name for name in METRICS if name in set(part["metric"].to_list())):
            cells = []
            for variant in known:
                found = part.filter((pl.col("metric") == metric) & (pl.col("variant") == variant)).to_dicts()
                cells.append(
                    f"{shown(metric, found[0]['value'])} ({span(metric, found[0]['low'], found[0]['high'])})"
                    if found
                    else "–"
                )
            table.add_row(METRICS[metric].title, *cells)
        console.print(table)
    console.print("Mean (95 % interval over prompts); ood: all transforms together; *: the worst case over variants.")
