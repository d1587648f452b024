"""One training run from a command line: pin, probe, build, check, train, save, say what it is."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from specdistill.errors import SpecdistillError, TrainError, UsageError
from specdistill.train import arguments, curves
from specdistill.train.arguments import Arguments
from specdistill.train.data import PublishedSet, open_set
from specdistill.train.estimate import estimate
from specdistill.train.inspection import Inspection, inspect_trainer
from specdistill.train.lineage import check_resume, lineage_of
from specdistill.train.mixture import mix
from specdistill.train.models import load_tokenizer, resolve, stand_in
from specdistill.train.rows import CONFIG_OF, training_rows
from specdistill.train.specfacts import SpecText, spec_text
from specdistill.train.template import Convention, choose

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prepared:
    """Everything a trainer is built from.

    Attributes:
        published: rows with reasoning and answer apart.
        given: the same rows in the tokenizer's convention.
        test: rows to evaluate on, in the same convention, or None.
    """

    asked: Arguments
    source: PublishedSet
    spec: SpecText
    tokenizer: PreTrainedTokenizerBase
    convention: Convention
    published: datasets.Dataset
    given: datasets.Dataset
    test: datasets.Dataset | None
    lineage: dict[str, Any]


def train(method: str, argv: Sequence[str], console: Console | None = None) -> dict[str, Any]:
    """Run one method to its end.

    Args:
        method: sft, dpo, reward, kto or grpo.
        argv: our and TRL's arguments, as on the command line.
        console: where progress is written; default is standard error.

    Returns:
        What `train.json` holds: output folder, lineage, inspection, first and last loss, times, curves.

    Raises:
        UsageError: the arguments contradict each other.
        TrainError: the data or the tokens are not what they should be, or the run failed.
        MissingExtra: TRL is not installed.
    """
    console = console or Console(stderr=True)
    if os.environ.get("RANK", "0") != "0":
        console = Console(quiet=True)  # under `accelerate launch` one process speaks
    asked = arguments.parse(method, argv)
    with _quiet():
        ready = prepare(asked)
        trainer = build(ready, asked.model.model_name_or_path)
        try:
            found = inspect(ready, trainer)
            _introduce(ready, found, console)
            if not asked.data.force:
                found.refuse()
            forecast = estimate(trainer, method, found.mean_tokens)
            for line in forecast.lines():
                console.print(line)
            return _run(ready, trainer, found, forecast.seconds, console)
        finally:
            _stop(trainer)


def prepare(asked: Arguments) -> Prepared:
    """Pin the data, load the tokenizer, choose the convention, map the rows."""
    data, training = asked.data, asked.training
    source = open_set(data.dataset or "")
    config = data.dataset_config or CONFIG_OF[asked.method]
    if config != CONFIG_OF[asked.method]:
        raise UsageError(
            f"Method '{asked.method}' cannot train on config '{config}'.",
            f"Leave --config out: it takes '{CONFIG_OF[asked.method]}'.",
        )
    resolve(asked)
    rows = source.load(config, data.train_split)
    if data.limit is not None and data.limit < len(rows):
        rows = rows.shuffle(seed=training.seed).select(range(data.limit))
    used = {data.train_split: len(rows)}  # of the set; the mixture's rows are in its own record
    rows, mixed = mix(rows, data, asked.method, training.seed)
    tests = source.load(config, data.eval_split) if str(training.eval_strategy.value) != "no" else None
    tokenizer = load_tokenizer(asked)
    convention = choose(tokenizer, data.convention, forced=data.force)
    given = training_rows(asked.method, rows, tokenizer, convention)
    test = training_rows(asked.method, tests, tokenizer, convention) if tests is not None else None
    if tests is not None:
        used[data.eval_split] = len(tests)
    lineage = lineage_of(asked, source, config, used, convention, mixed)
    return Prepared(asked, source, spec_text(source), tokenizer, convention, rows, given, test, lineage)


def build(ready: Prepared, model: Any) -> Any:
    """The method's trainer.

    Args:
        model: what to train: a folder, a hub id, or a model object.

    Raises:
        TrainError: the model cannot be loaded, or its chat template refuses a row.
        UsageError: the trainer refuses its arguments.
    """
    from jinja2 import TemplateError

    asked = ready.asked
    parts = (asked, ready.lineage, ready.tokenizer, ready.given, ready.test, model)
    try:
        if asked.method == "sft":
            from specdistill.train import sft

            return sft.build(*parts)
        if asked.method == "grpo":
            from specdistill.train import grpo

            return grpo.build(*parts, published=ready.source, spec=ready.spec, convention=ready.convention)
        from specdistill.train import preference

        return preference.build(*parts)
    except SpecdistillError:  # some of ours are ValueErrors or OSErrors too, and say more
        raise
    except TemplateError as exc:
        raise TrainError(
            f"The chat template refuses a row: {exc}.", "Use a model whose template takes such conversations."
        ) from exc
    except OSError as exc:
        raise TrainError(
            f"The model '{asked.model.model_name_or_path}' cannot be loaded: {str(exc).splitlines()[0]}",
            "Name `embedded`, a folder with a checkpoint, or a model of the hub.",
        ) from exc
    except ValueError as exc:  # TRL checks most of its arguments only here
        raise _refused(asked.method, exc) from exc


def _refused(method: str, exc: ValueError) -> UsageError:
    """TRL's own words on arguments that it cannot use."""
    return UsageError(
        f"The {method} trainer refuses its arguments: {' '.join(str(exc).split())}",
        f"Change what it names; `specdistill train {method} --help-all` lists every argument.",
    )


def inspect(ready: Prepared, trainer: Any) -> Inspection:
    """Check what a built trainer would train on."""
    data = ready.asked.data
    return inspect_trainer(
        trainer,
        ready.asked.method,
        ready.published,
        ready.given,
        ready.convention,
        ready.spec,
        rows=data.inspect_rows,
        max_truncated=data.max_truncated,
    )


def _stop(trainer: Any) -> None:
    """Let go of the judge's engine."""
    engine = getattr(trainer, "judge_engine", None)
    if engine is not None:
        engine.unload()


def dry(method: str, argv: Sequence[str]) -> tuple[Prepared, Any, Inspection]:
    """Everything up to the first step for `train inspect`, with a stand-in for the model: no weights are loaded."""
    asked = arguments.parse(method, argv)
    with _quiet():
        ready = prepare(asked)
        asked.training.model_init_kwargs = None
        asked.model.use_peft = False
        if method == "grpo":  # no batch before there are completions, and no judge is needed to see the prompts
            trainer: Any = SimpleNamespace(
                train_dataset=ready.given,
                processing_class=ready.tokenizer,
                args=asked.training,
                chat_template_kwargs=ready.convention.kwargs,
            )
        else:
            trainer = build(ready, stand_in(ready.tokenizer, method))
        return ready, trainer, inspect(ready, trainer)


def _run(ready: Prepared, trainer: Any, found: Inspection, forecast: float | None, console: Console) -> dict[str, Any]:
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    from specdistill.train.progress import ProgressLine

    args, method = ready.asked.training, ready.asked.method
    for shown in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(shown)
    trainer.add_callback(ProgressLine(console))
    checkpoint = _checkpoint(args)
    if checkpoint:
        check_resume(checkpoint, ready.lineage)
    ready.lineage["inspection"] = found.record()
    began = time.monotonic()
    outcome = _trained(method, trainer, checkpoint)
    seconds = time.monotonic() - began
    folder = Path(args.output_dir)
    trainer.save_model(args.output_dir)
    record = _record(ready, trainer, outcome, found, seconds, forecast)
    if trainer.is_world_process_zero():
        trainer.create_model_card(model_name=(args.hub_model_id or folder.name).split("/")[-1])
        kept = {name: value for name, value in record.items() if name != "output_dir"}  # no path of this machine
        curves.write_record(folder / "train.json", kept)
        curves.plot(record["history"], folder / "curves.png", f"{method} on {ready.source.source.name}")
    if args.push_to_hub:
        trainer.push_to_hub()
    trainer.end()
    if record["last_loss"] is not None and not math.isfinite(record["last_loss"]):
        raise TrainError("The loss is no longer a number.", "Lower --learning_rate, or train with --bf16 False.")
    return record


def _trained(method: str, trainer: Any, checkpoint: str | None) -> Any:
    import torch

    try:
        return trainer.train(resume_from_checkpoint=checkpoint)
    except torch.OutOfMemoryError as exc:
        raise TrainError(
            f"The device ran out of memory: {str(exc).splitlines()[0]}",
            "Lower --per_device_train_batch_size or --max_length, or set --gradient_checkpointing or --use_peft.",
        ) from exc
    except SpecdistillError:
        raise
    except ValueError as exc:
        if trainer.state.global_step:  # a later step fails for another reason
            raise
        raise _refused(method, exc) from exc  # an unknown --loss_type of DPO meets no check before its first loss


def _checkpoint(args: Any) -> str | None:
    """The checkpoint to resume from: a folder, or the last one for `true`."""
    from transformers.trainer_utils import get_last_checkpoint

    asked = args.resume_from_checkpoint
    if not asked or str(asked).lower() == "false":
        return None
    if str(asked).lower() not in ("true", "last"):
        if not Path(asked).is_dir():
            raise UsageError(f"There is no checkpoint '{asked}'.", "Name a checkpoint-N folder, or `last`.")
        return str(asked)
    last = get_last_checkpoint(args.output_dir) if Path(args.output_dir).is_dir() else None
    if last is None:
        raise UsageError(
            f"There is no checkpoint in '{args.output_dir}'.",
            "Leave --resume_from_checkpoint out to start anew.",
        )
    return str(last)


def _record(
    ready: Prepared, trainer: Any, outcome: Any, found: Inspection, seconds: float, forecast: float | None
) -> dict[str, Any]:
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if entry.get("loss") is not None]
    tokens = [entry["num_tokens"] for entry in history if entry.get("num_tokens") is not None]
    return {
        "output_dir": ready.asked.training.output_dir,
        "steps": trainer.state.global_step,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "seconds": round(seconds, 2),
        "seconds_estimated": None if forecast is None else round(forecast, 1),
        "tokens_per_second": round(tokens[-1] / seconds, 1) if tokens and seconds else None,
        "peak_memory_gib": round(peak_memory(), 2),
        "metrics": outcome.metrics,
        "inspection": found.record(),
        "lineage": ready.lineage,
        "history": history,
    }


def peak_memory() -> float:
    """Most memory this process has held, in GiB: the GPU's where there is one, else resident memory."""
    import resource

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _introduce(ready: Prepared, found: Inspection, console: Console) -> None:
    data, how = ready.lineage["dataset"], ready.convention
    at = f" at {data['sha'][:10]}" if data["sha"] else ""
    console.print(f"{ready.asked.method} on {data['id']}{at}, config {data['config']}: {found.rows} rows")
    console.print(f"turn as '{how.name}': {how.before!r} reasoning {how.between!r} answer {how.after!r}", markup=False)
    console.print(
        f"checked {found.checked} sequences: {found.mean_tokens:.0f} tokens, {found.trained_tokens:.0f} of them with "
        f"loss; {found.truncated} cut, {found.dropped} dropped"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of datasets and transformers, and no caches that outlive the run; restored afterwards."""
    import datasets
    from transformers.utils import logging as verbosity

    bars, caching = datasets.are_progress_bars_disabled(), datasets.is_caching_enabled()
    level = verbosity.get_verbosity()
    drawn = verbosity.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    datasets.disable_caching()
    verbosity.disable_progress_bar()
    verbosity.set_verbosity_error()
    try:
        yield
    finally:
        if not bars:
            datasets.enable_progress_bars()
        if caching:
            datasets.enable_caching()
        if drawn:
            verbosity.enable_progress_bar()
        verbosity.set_verbosity(level)
