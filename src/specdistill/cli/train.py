"""`specdistill train …`: from a dataset to TRL, with every TRL argument on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from specdistill.cli.output import JsonFlag, err, out, print_json
from specdistill.train.arguments import METHODS, DataArguments, RewardArguments, option_help

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
HelpAll = typer.Option(False, "--help-all", help="List every TRL argument too.")

app = typer.Typer(
    help="Train on a published dataset, pinned and checked on the rendered tokens.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


def _listed(*kinds: type) -> str:
    """Our options for the end of `--help`."""
    rows = option_help(*kinds)
    width = max(len(flag) for flag, _, _ in rows)
    lines = [f"{flag:<{width}}  {text}" + (f" ({default})" if default else "") for flag, default, text in rows]
    more = "Every argument of TRL's config and ModelConfig may follow, or stand in --config FILE.yaml; see --help-all."
    return "\n\n".join([*lines, more])


_DATA = _listed(DataArguments)
_GRPO = _listed(DataArguments, RewardArguments)


@app.command(context_settings=PASS_ON, epilog=_DATA)
def sft(context: typer.Context, help_all: bool = HelpAll, as_json: bool = JsonFlag) -> None:
    """Supervised fine-tuning on reasoning and answer (config `sft`)."""
    _train("sft", context.args, help_all, as_json)


@app.command(context_settings=PASS_ON, epilog=_DATA)
def dpo(context: typer.Context, help_all: bool = HelpAll, as_json: bool = JsonFlag) -> None:
    """Direct preference optimisation (config `preference`)."""
    _train("dpo", context.args, help_all, as_json)


@app.command(context_settings=PASS_ON, epilog=_DATA)
def reward(context: typer.Context, help_all: bool = HelpAll, as_json: bool = JsonFlag) -> None:
    """A reward model on pairs with the judge's margins (config `preference`)."""
    _train("reward", context.args, help_all, as_json)


@app.command(context_settings=PASS_ON, epilog=_DATA)
def kto(context: typer.Context, help_all: bool = HelpAll, as_json: bool = JsonFlag) -> None:
    """Kahneman-Tversky optimisation on single labelled completions (config `kto`)."""
    _train("kto", context.args, help_all, as_json)


@app.command(context_settings=PASS_ON, epilog=_GRPO)
def grpo(context: typer.Context, help_all: bool = HelpAll, as_json: bool = JsonFlag) -> None:
    """Reinforcement learning with the build's judge as the reward (config `prompts`)."""
    _train("grpo", context.args, help_all, as_json)


@app.command(context_settings=PASS_ON, epilog=_DATA)
def inspect(
    context: typer.Context,
    method: str = typer.Option("sft", help=f"One of {', '.join(METHODS)}."),
    rows: int = typer.Option(2, min=0, help="Rows to print."),
    as_json: bool = JsonFlag,
) -> None:
    """Print the tokens that would be trained on, coloured by loss mask, and check them. Loads no weights."""
    from specdistill.errors import UsageError
    from specdistill.train.runtime import prepare_process

    if method not in METHODS:
        raise UsageError(f"There is no method '{method}'.", f"Known methods: {', '.join(METHODS)}.")
    prepare_process()
    from specdistill.train.run import dry
    from specdistill.train.show import as_records, print_rows

    ready, trainer, found = dry(method, context.args)
    if as_json:
        print_json({"inspection": found.record(), "sequences": as_records(trainer, ready, method, rows)})
    else:
        print_rows(out(), trainer, ready, method, rows)
        err().print(
            f"{found.rows} rows; {found.checked} sequences checked, {found.mean_tokens:.0f} tokens, "
            f"{found.trained_tokens:.0f} with loss, longest {found.longest}; "
            f"{found.truncated} cut, {found.dropped} dropped"
        )
    found.refuse()


@app.command("export-distill")
def export_distill(
    dataset: str = typer.Option(..., help="Folder made by `publish --to-dir`, or org/name@revision."),
    target: Path = typer.Option(..., "--out", help="Parquet file to write."),
    split: str = typer.Option("train", help="Split of config `prompts`."),
) -> None:
    """Write `prompt` + `privileged_context` (the spec) for TRL's on-policy self-distillation."""
    from specdistill.train.distill import export

    rows = export(dataset, split, target)
    out().print(f"{rows} rows in {target}")


def _train(method: str, argv: list[str], help_all: bool, as_json: bool) -> None:
    from specdistill.train.runtime import prepare_process

    prepare_process()  # before torch is imported
    if help_all:
        from specdistill.train.arguments import make_parser

        make_parser(method).print_help()
        return
    from specdistill.train.run import train

    record = train(method, argv, err())
    if as_json:
        print_json(record)
    else:
        _finished(record)


def _finished(record: dict[str, Any]) -> None:
    folder = record["output_dir"]
    first, last = record["first_loss"], record["last_loss"]
    change = f", loss {first:.3f} to {last:.3f}" if first is not None and last is not None else ""
    out().print(
        f"{record['steps']} steps in {record['seconds']:.0f} s{change}, {record['peak_memory_gib']:.1f} GiB at most\n"
        f"  model    {folder}\n  curves   {folder}/curves.png\n  record   {folder}/train.json",
        soft_wrap=True,
    )
