"""A build from recipe to derived sets. Resumable everywhere: what has a row or a ledger entry is not asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.builders.audit.stage import people_of
from specdistill.builders.budget import open_budget
from specdistill.builders.calibration import calibrate, population_of, stored_labels
from specdistill.builders.compare_stage import compare_pairs, stored_comparisons
from specdistill.builders.comparing import order_numbers
from specdistill.builders.contexts import SpecContexts
from specdistill.builders.engines.factory import EnginePool, Host, engines_of, two_offline_models
from specdistill.builders.engines.foreign_code import foreign_code
from specdistill.builders.kept_prompts import keep, prompts_of
from specdistill.builders.kept_screens import keep_screens
from specdistill.builders.label_task import labeller
from specdistill.builders.ledger import Ledger
from specdistill.builders.manifest import write_manifest
from specdistill.builders.parts import PartWriter, parquet_bytes
from specdistill.builders.pipelines import GENERATE_OF, JUDGE_OF, SCREEN_OF, build_pipeline, judge_step
from specdistill.builders.plan import Plan, plan
from specdistill.builders.pool import Labeller
from specdistill.builders.quotas import as_dicts, quota_states, shortfalls
from specdistill.builders.rounds import Rounds
from specdistill.builders.run import (
    heal,
    locked,
    save_cleaning,
    save_prompts,
    save_recipe,
)
from specdistill.builders.runner import Hooks, Stopped, run_to_end, walk
from specdistill.builders.screens import Screening
from specdistill.builders.selection import Sets, decide_run, sets_of_run
from specdistill.builders.set_files import write_sets
from specdistill.builders.sets import finish
from specdistill.builders.stored import Stored
from specdistill.errors import RunError
from specdistill.schemas.files import write_whole
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.rows import CANDIDATES, JUDGMENTS
from specdistill.specs.clauses import clause_frame
from specdistill.specs.layout import write_spec
from specdistill.specs.loader import libraries, load_spec, seed_files

Row = dict[str, Any]


@dataclass
class Observer:
    """Who watches a build; every part is optional.

    Attributes:
        note: told what happens, in a sentence.
        planned: told what is still to be done, once.
        rows: told (`candidates` or `judgments`, new rows) as they come.
        step: told (what is done to prompts or candidates, rows done, rows in all or 0).
    """

    note: Callable[[str], None] = lambda text: None
    planned: Callable[[Plan], None] = lambda plan: None
    rows: Callable[[str, list[Row]], None] = lambda table, rows: None
    step: Callable[[str, int, int], None] = lambda name, done, total: None


@dataclass
class Result:
    """What a build made.

    Attributes:
        counts: config to split to rows.
        failed_calls: candidates and judgments whose call failed; a rerun retries them.
        calibration: what the run's human labels say; empty without labels.
        shortfalls: quotas that are not met, in words.
    """

    layout: RunLayout
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    failed_calls: int = 0
    calibration: dict[str, Any] = field(default_factory=dict)
    shortfalls: list[str] = field(default_factory=list)


def build(
    recipe: Recipe,
    out: Path,
    *,
    base: Path,
    observer: Observer | None = None,
    trust_remote_code: bool = False,
    host: Host | None = None,
) -> Result:
    """Run a recipe to the end, or go on with a run that is there.

    Args:
        out: the run folder.
        base: folder that relative paths of the recipe are relative to.
        trust_remote_code: let the recipe's engine options run code that comes with a model.
        host: where the models live; default is this machine. No key depends on it.

    Raises:
        Stopped: the user asked for a stop; the run can be resumed.
        SpecdistillError: with cause and remedy; the run can be resumed.
    """
    observer = observer or Observer()
    layout = RunLayout(out)
    with foreign_code(trust_remote_code, *engines_of(recipe)), locked(layout):
        for path in heal(layout):
            observer.note(f"A damaged part was set aside as {path}; its rows come back from the ledger.")
        recipe = resolved(recipe, base)
        ledger = Ledger(layout.ledger, open_budget(layout.ledger, recipe.budget))
        ended = "failed"
        try:
            prepare(recipe, layout, base, observer, labeller(recipe, ledger, observer.step, host))
            generate_and_judge(recipe, layout, ledger, observer, host)
            if recipe.preference.pairwise:
                asked = compare_pairs(recipe, layout, ledger, host)
                observer.note(f"{asked} pairs compared in both orders.")
            ended = "done"
        except Stopped:
            ended = "stopped"
            raise
        finally:
            ledger.close(ended)
        return derive(recipe, layout, observer)


def prepare(
    recipe: Recipe, layout: RunLayout, base: Path, observer: Observer, label: Labeller | None = None
) -> SpecContexts:
    """Write what the run is made from: spec, prompts, recipe. Nothing is written before all of it is valid."""
    spec = load_spec(resolved(recipe, base).spec)
    made = prompts_of(layout, recipe, spec, base, seed_files(spec), step=observer.step, label=label, note=observer.note)
    prompts = made.table
    if prompts.is_empty():
        why = ", ".join(f"{reason} {rows}" for reason, rows in made.summary["removed"].items())
        raise RunError(
            f"The recipe's sources hold no prompts that can be used{f' (removed: {why})' if why else ''}.",
            "Check `prompts:` and `clean:` in the recipe.",
        )
    contexts = SpecContexts(
        spec, examples=recipe.context.examples, budget=recipe.context.budget, count=token_counter(recipe)
    )
    labels = sorted(set(prompts["category"].to_list()))
    for named in labels:
        contexts.rendered(named)  # refuses what is over the budget before anything is written
    for category in labels:
        write_whole(layout.rendered / f"{category}.md", contexts.text(category).encode())
    for path in layout.rendered.glob("*.md"):  # of prompts that the recipe no longer has
        if path.stem not in labels:
            path.unlink()
    layout.manifest.unlink(missing_ok=True)
    write_spec(spec, layout.spec)
    write_whole(layout.clauses, parquet_bytes(clause_frame(spec)))
    if not made.stored:
        save_prompts(layout, prompts)
        save_cleaning(layout, made)
        keep(layout, made)
    save_recipe(layout, recipe)
    counted = prompts["category"].n_unique()
    observer.note(f"Spec '{spec.id}' {spec.version}; {prompts.height} prompts in {counted} categories.")
    if made.removed.height:
        why = ", ".join(f"{reason} {rows}" for reason, rows in made.summary["removed"].items())
        observer.note(f"{made.removed.height} of {made.summary['rows']} rows were removed: {why} ({layout.removed}).")
    return contexts


def resolved(recipe: Recipe, base: Path) -> Recipe:
    """The recipe with absolute paths, as it is kept in the run: it can be read from anywhere."""
    spec = recipe.spec if recipe.spec in libraries() else str((base / recipe.spec).absolute())
    prompts = [
        source.model_copy(update={"path": (base / source.path).absolute()}) if source.path else source
        for source in recipe.prompts
    ]
    sets = [
        asked.model_copy(update={"path": (base / asked.path).absolute()}) if asked.path else asked
        for asked in recipe.decontaminate
    ]
    return recipe.model_copy(update={"spec": spec, "prompts": prompts, "decontaminate": sets})


def token_counter(recipe: Recipe) -> Callable[[str], int] | None:
    """Counts with the generator's tokenizer; None where no budget asks for it.

    Raises:
        SpecError: there is no such tokenizer.
    """
    if recipe.context.budget is None:
        return None
    from specdistill.builders.engines.embedded import resolve_model
    from specdistill.specs.tokens import tokenizer_counter

    return tokenizer_counter(resolve_model(recipe.context.tokenizer or recipe.generator.model)).count


def generate_and_judge(
    recipe: Recipe, layout: RunLayout, ledger: Ledger, observer: Observer, host: Host | None = None
) -> None:
    """All model work of a build. With two different offline models, one is done before the other is loaded."""
    rounds = Rounds(recipe, people_of(layout, recipe)) if recipe.quota.asked else None
    with EnginePool(keep=rounds is not None and not two_offline_models(recipe), host=host) as pool:
        while True:
            stored = Stored(layout, recipe)
            keep_screens(stored, observer.step)
            todo = rounds.next(stored) if rounds else plan(stored)
            if todo.empty:
                if rounds is None or not rounds.number:
                    observer.note("Nothing to generate or judge: every row is there.")
                return
            observer.planned(todo)
            if rounds:
                observer.note(rounds.said(todo))
            one_pass(stored, pool, ledger, observer, todo)
            if rounds is None:
                return


def one_pass(stored: Stored, pool: EnginePool, ledger: Ledger, observer: Observer, todo: Plan) -> None:
    """Generate what is wanted and judge it."""
    recipe = stored.recipe
    if two_offline_models(recipe):
        observer.note(f"Generating with {recipe.generator.model}; {recipe.judge.model} is loaded after it.")
        walk_stage(stored, pool, ledger, observer, todo, judging=False)
        stored = Stored(stored.layout, recipe)
        keep_screens(stored, observer.step)
        left = plan(stored, spend={})
        todo = Plan(judgments_wanted=left.judgments_wanted, judge=left.judge)
        observer.planned(todo)
    walk_stage(stored, pool, ledger, observer, todo, judging=True)


def walk_stage(
    stored: Stored, pool: EnginePool, ledger: Ledger, observer: Observer, todo: Plan, *, judging: bool
) -> None:
    """Walk the pipeline over what is wanted; parts are written even when it ends early."""
    recipe, layout = stored.recipe, stored.layout
    generator = pool.engine(recipe.generator)
    judges = [pool.engine(one) for one in recipe.judge.judges] if judging else []
    screening = Screening(stored.facts, recipe.screens)

    def keep(part: Path, rows: list[Row]) -> None:
        stored.screens.keep(part, screening.frame(rows))

    pipeline = build_pipeline(recipe, layout, generator, judges, todo.generate, screening=screening)
    rewritten, judged = stored.orphans()
    candidates = PartWriter(layout.candidates, CANDIDATES, rewritten, written_to=keep)
    judgments = PartWriter(layout.judgments, JUDGMENTS, judged)
    tables = dict.fromkeys(GENERATE_OF.values(), (candidates, "candidates"))
    for number in range(len(judges)):
        tables |= dict.fromkeys((judge_step(arm, number) for arm in JUDGE_OF), (judgments, "judgments"))

    def seen(name: str, new: list[Row]) -> None:
        if name in tables:
            observer.rows(tables[name][1], new)

    hooks = Hooks({name: writer.add for name, (writer, _) in tables.items()}, seen)
    # Stored candidates enter at the screen, which lets all of them through: they passed it to be planned.
    inject: dict[str, Iterable[Row]] = {SCREEN_OF[arm]: rows() for arm, rows in todo.judge.items()} if judging else {}
    inject |= {GENERATE_OF[arm]: parents() for arm, parents in todo.rewrite.items()}
    try:
        run_to_end(walk(pipeline, ledger, hooks, inject))
    finally:
        candidates.flush()
        judgments.flush()


def derive(recipe: Recipe, layout: RunLayout, observer: Observer | None = None) -> Result:
    """Derive all sets from the stored rows, and write the manifest. No model call.

    Raises:
        RunError: a part cannot be read.
        SchemaError: rows do not fit their schema.
    """
    observer = observer or Observer()
    stored = Stored(layout, recipe)
    keep_screens(stored, observer.step)
    layout.manifest.unlink(missing_ok=True)
    people = people_of(layout, recipe)
    comparisons = stored_comparisons(layout, recipe)
    labels = stored_labels(layout)
    with decide_run(stored, people, observer.step) as decided:
        states = quota_states(decided, stored.prompts, recipe)
        sets = sets_of_run(stored, decided, people, comparisons, observer.step)
        counts = write_sets(layout, chain(held_out(layout), sets))
        calibration = calibrate(population_of(decided), labels, recipe.judge.threshold) if labels.height else {}
    write_manifest(layout, recipe, counts, calibration, as_dicts(states), order_numbers(comparisons))
    return Result(layout, counts, stored.failed_calls(), calibration, shortfalls(states))


def held_out(layout: RunLayout) -> Iterator[Sets]:
    """The evaluation split of the prompts, where the recipe asks for one."""
    if layout.evaluation.exists():
        rows = pl.read_parquet(layout.evaluation).with_columns(pl.col("prompt_id").alias("id"))
        yield {"prompts": {"evaluation": finish("prompts", rows)}}
