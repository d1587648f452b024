"""A build as distilabel pipelines: prompts → candidates → screen → judgments, one branch an arm.

The pipelines validate, print and run under stock distilabel too; a build runs them with `runner.walk`.
"""

# No `from __future__ import annotations` here: distilabel reads the type hints of `process` at run time.

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
from distilabel.pipeline import Pipeline
from distilabel.steps.base import GeneratorStep, Step, StepInput
from distilabel.typing import GeneratorStepOutput, StepOutput
from pydantic import PrivateAttr

from specdistill.builders.adaptive import rule_of
from specdistill.builders.engines.base import Engine
from specdistill.builders.keys import generator_digest, judge_digest, rewrite_digest
from specdistill.builders.rewrite_tasks import RepairLeak, ReviseBySpec, Rewrite
from specdistill.builders.runner import SAMPLES
from specdistill.builders.screens import Screening, SpecFacts, repairable
from specdistill.builders.tasks import GenerateWithSpec, JudgeWithSpec
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe, Screens
from specdistill.schemas.vocabulary import Arm

GENERATE, CONTRAST, JUDGE = "generate", "contrast", "judge"
LEAKS = "leaks"
JUDGE_OF = {
    Arm.SPEC: "judge",
    Arm.CONTRAST: "judge_contrast",
    Arm.REPAIR: "judge_repair",
    Arm.CONSTITUTION: "judge_constitution",
}
SCREEN_OF = {
    Arm.SPEC: "screen",
    Arm.CONTRAST: "screen_contrast",
    Arm.REPAIR: "screen_repair",
    Arm.CONSTITUTION: "screen_constitution",
}
GENERATE_OF = {Arm.SPEC: GENERATE, Arm.CONTRAST: CONTRAST, Arm.REPAIR: "repair", Arm.CONSTITUTION: "revise"}
PARENT_OF = {Arm.REPAIR: Arm.SPEC, Arm.CONSTITUTION: Arm.CONTRAST}
"""Arms whose candidates are made from candidates of another arm."""


def judge_step(arm: Arm, number: int) -> str:
    """Name of the step of the `number`-th judge, counted from 0, for an arm."""
    return JUDGE_OF[arm] + (f"_{number + 1}" if number else "")


class ReadRows(GeneratorStep):
    """Rows of the Parquet parts in a folder, or the rows a build still wants.

    Attributes:
        folder: the parts; read when no rows were given with `give`.
        columns: which columns; the step's outputs.
    """

    folder: str
    columns: list[str]

    _rows: Callable[[], Iterable[dict[str, Any]]] | None = PrivateAttr(None)

    @property
    def outputs(self) -> list[str]:
        """Columns given."""
        return self.columns

    def give(self, rows: Callable[[], Iterable[dict[str, Any]]]) -> None:
        """Emit these rows instead of the parts."""
        self._rows = rows

    def process(self, offset: int = 0) -> GeneratorStepOutput:
        """distilabel's hook: batches of rows and whether it is the last."""
        if self._rows is not None:
            rows = iter(self._rows())
        else:
            stored = pl.read_parquet(Path(self.folder) / "part-*.parquet", columns=self.columns)
            rows = stored.iter_rows(named=True)
        rows, size = islice(rows, offset, None), int(self.batch_size or 50)
        batch = list(islice(rows, size))
        while following := list(islice(rows, size)):
            yield batch, False
            batch = following
        yield batch, True


class FilterCandidates(Step):
    """Lets some candidates through, by what they say and what the spec is.

    Attributes:
        clauses: the run's clause table.
        limits: thresholds of the screens.
    """

    clauses: str
    limits: dict[str, Any]

    _screening: Screening | None = PrivateAttr(None)

    @property
    def inputs(self) -> list[str]:
        """Columns needed."""
        return ["candidate_id", "prompt", "arm", "parse", "reasoning", "answer", "error"]

    @property
    def outputs(self) -> list[str]:
        """Nothing new."""
        return []

    def share(self, screening: Screening) -> None:
        """Look through this one, so that what was found is known to others."""
        self._screening = screening

    @abstractmethod
    def passes(self, row: dict[str, Any], screening: Screening) -> bool:
        """Whether a candidate goes on."""

    def process(self, inputs: StepInput) -> StepOutput:  # type: ignore[override]
        """distilabel's hook: the rows that pass."""
        if self._screening is None:
            limits = Screens.model_validate(self.limits)
            self._screening = Screening(SpecFacts.of(pl.read_parquet(self.clauses), limits.copied_words), limits)
        yield [row for row in inputs if self.passes(row, self._screening)]


class ScreenCandidates(FilterCandidates):
    """Lets through what is worth a judge's time."""

    def passes(self, row: dict[str, Any], screening: Screening) -> bool:
        """Whether no screen has a reason against it. A stored candidate that comes with the samples it lacks has
        passed: otherwise they would not have been planned."""
        return SAMPLES in row or screening.find(row) is None


class PickLeaks(FilterCandidates):
    """Lets through answers whose only fault is that a phrase of theirs leaks: those that a rewrite can mend."""

    def passes(self, row: dict[str, Any], screening: Screening) -> bool:
        """Whether a rewrite can mend it."""
        return repairable(row, screening.facts, screening.limits)


def build_pipeline(
    recipe: Recipe,
    layout: RunLayout,
    generator: Engine | None,
    judges: Engine | Sequence[Engine] | None = None,
    prompts: Callable[[], Iterable[dict[str, Any]]] | None = None,
    name: str | None = None,
    screening: Screening | None = None,
) -> Pipeline:
    """The pipeline of a run. A screen is there where something follows it.

    Args:
        generator: None leaves generation out: only stored candidates are judged.
        judges: engines of `recipe.judge.judges`, in their order; None leaves judging out.
        prompts: the rows still wanted; default is every prompt of the run.
        screening: what the screens look through; default is one of each screen's own.
    """
    arms = [Arm.SPEC, *([Arm.CONTRAST] if recipe.contrast else [])]
    engines = [judges] if isinstance(judges, Engine) else list(judges or ())
    with Pipeline(name=name or f"specdistill-{recipe.name}", description=f"Build of {recipe.name}") as pipeline:
        root = ReadRows(
            name="prompts",
            folder=str(layout.prompts if generator else layout.candidates),
            columns=PROMPT_COLUMNS if generator else STORED_COLUMNS,
        )
        if prompts is not None:
            root.give(prompts)
        limits = {"clauses": str(layout.clauses), "limits": recipe.screens.model_dump()}

        def screened(arm: Arm, source: Any) -> Any:
            """A screen after a step, and the judges after the screen."""
            step = ScreenCandidates(name=SCREEN_OF[arm], **limits)
            if screening is not None:
                step.share(screening)
            source >> step
            for number, engine in enumerate(engines):
                step >> judge_task(recipe, layout, engine, judge_step(arm, number), number)
            return step

        for arm in arms:
            if generator is None:
                screened(arm, root)
                continue
            made = generate_task(recipe, layout, generator, arm)
            root >> made
            if arm == Arm.SPEC and recipe.repair:
                repair = rewrite_task(recipe, layout, generator, Arm.REPAIR, recipe.repair.samples)
                made >> PickLeaks(name=LEAKS, **limits) >> repair
                if engines:
                    screened(Arm.REPAIR, repair)
            if arm == Arm.CONTRAST and recipe.constitution:
                revise = rewrite_task(recipe, layout, generator, Arm.CONSTITUTION, recipe.constitution.samples)
                screened(arm, made) >> revise
                if engines:
                    screened(Arm.CONSTITUTION, revise)
            elif engines:
                screened(arm, made)
    return pipeline


PROMPT_COLUMNS = ["prompt_id", "prompt", "category", "outcome_hint"]
STORED_COLUMNS = [
    "outcome_hint",
    "candidate_id",
    "prompt_id",
    "prompt",
    "category",
    "arm",
    "parse",
    "reasoning",
    "answer",
    "error",
]


def generate_task(recipe: Recipe, layout: RunLayout, engine: Engine, arm: Arm) -> GenerateWithSpec:
    """The generation task of one arm."""
    config = recipe.generator
    samples = config.samples if arm == Arm.SPEC else (recipe.contrast.samples if recipe.contrast else 1)
    return GenerateWithSpec(
        name=GENERATE_OF[arm],
        llm=engine,
        spec=str(layout.spec),
        examples=recipe.context.examples,
        arm=arm.value,
        reasoning=config.reasoning,
        placement=config.placement,
        generator_digest=generator_digest(config),
        reasoning_chars=config.reasoning_chars,
        answer_chars=config.answer_chars,
        num_generations=samples,
        input_batch_size=config.concurrency,
    )


def rewrite_task(recipe: Recipe, layout: RunLayout, engine: Engine, arm: Arm, samples: int) -> Rewrite:
    """The task that makes candidates from candidates."""
    config = recipe.generator
    task = RepairLeak if arm == Arm.REPAIR else ReviseBySpec
    return task(
        name=GENERATE_OF[arm],
        llm=engine,
        spec=str(layout.spec),
        examples=recipe.context.examples,
        reasoning=config.reasoning,
        generator_digest=rewrite_digest(config),
        reasoning_chars=config.reasoning_chars,
        answer_chars=config.answer_chars,
        num_generations=samples,
        input_batch_size=config.concurrency,
    )


def judge_task(recipe: Recipe, layout: RunLayout, engine: Engine, name: str, number: int = 0) -> JudgeWithSpec:
    """The judging task of one branch, for the `number`-th judge."""
    judge = recipe.judge.judges[number]
    return JudgeWithSpec(
        name=name,
        llm=engine,
        spec=str(layout.spec),
        examples=recipe.context.examples,
        judge_digest=judge_digest(judge),
        justification_chars=judge.justification_chars,
        guided=judge.reasoning == "guided",
        hint=judge.hint,
        adaptive=rule.model_dump() if (rule := rule_of(recipe)) else None,
        num_generations=judge.k,
        input_batch_size=judge.concurrency,
    )
