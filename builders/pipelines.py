"""A build as distilabel pipelines: prompts → candidates → screen → judgments, one branch an arm.

The pipelines validate, print and run under stock distilabel too; a build runs them with `runner.walk`.
"""

# No `from __future__ import annotations` here: distilabel reads the type hints of `process` at run time.

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import polars as pl
from distilabel.pipeline import Pipeline
from distilabel.steps.base import GeneratorStep, Step, StepInput
from distilabel.typing import GeneratorStepOutput, StepOutput
from pydantic import PrivateAttr

from specdistill.builders.engines.base import Engine
from specdistill.builders.screens import SpecFacts, screen
from specdistill.builders.tasks import GenerateWithSpec, JudgeWithSpec, generator_digest, judge_digest
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.recipe import Recipe, Screens
from specdistill.schemas.vocabulary import Arm

GENERATE, CONTRAST, JUDGE = "generate", "contrast", "judge"
JUDGE_OF = {Arm.SPEC: "judge", Arm.CONTRAST: "judge_contrast"}
SCREEN_OF = {Arm.SPEC: "screen", Arm.CONTRAST: "screen_contrast"}
GENERATE_OF = {Arm.SPEC: GENERATE, Arm.CONTRAST: CONTRAST}


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
            rows = list(self._rows())
        else:
            rows = pl.read_parquet(Path(self.folder) / "part-*.parquet", columns=self.columns).to_dicts()
        size = int(self.batch_size or 50)
        for start in range(offset, len(rows), size):
            yield rows[start : start + size], start + size >= len(rows)
        if offset >= len(rows):
            yield [], True


class ScreenCandidates(Step):
    """Lets through what is worth a judge's time. The reasons are derived again at selection, from the stored rows.

    Attributes:
        clauses: the run's clause table.
        limits: thresholds of the screens.
    """

    clauses: str
    limits: dict[str, Any]

    _facts: SpecFacts | None = PrivateAttr(None)

    @property
    def inputs(self) -> list[str]:
        """Columns needed."""
        return ["prompt", "arm", "parse", "reasoning", "answer", "error"]

    @property
    def outputs(self) -> list[str]:
        """Nothing new."""
        return []

    def process(self, inputs: StepInput) -> StepOutput:  # type: ignore[override]
        """distilabel's hook: the rows that pass."""
        limits = Screens.model_validate(self.limits)
        if self._facts is None:
            self._facts = SpecFacts.of(pl.read_parquet(self.clauses), limits.copied_words)
        yield [row for row in inputs if screen(row, self._facts, limits) is None]


def build_pipeline(
    recipe: Recipe,
    layout: RunLayout,
    generator: Engine | None,
    judge: Engine | None,
    prompts: Callable[[], Iterable[dict[str, Any]]] | None = None,
    name: str | None = None,
) -> Pipeline:
    """The pipeline of a run.

    Args:
        generator: None leaves generation out: only stored candidates are judged.
        judge: None leaves judging out.
        prompts: the rows still wanted; default is every prompt of the run.
    """
    arms = [Arm.SPEC, *([Arm.CONTRAST] if recipe.contrast else [])]
    with Pipeline(name=name or f"specdistill-{recipe.name}", description=f"Build of {recipe.name}") as pipeline:
        root = ReadRows(
            name="prompts",
            folder=str(layout.prompts if generator else layout.candidates),
            columns=["prompt_id", "prompt", "category"] if generator else STORED_COLUMNS,
        )
        if prompts is not None:
            root.give(prompts)
        for arm in arms:
            screen_step = ScreenCandidates(
                name=SCREEN_OF[arm], clauses=str(layout.clauses), limits=recipe.screens.model_dump()
            )
            if generator is not None:
                root >> generate_task(recipe, layout, generator, arm) >> screen_step
            else:
                root >> screen_step
            if judge is not None:
                screen_step >> judge_task(recipe, layout, judge, JUDGE_OF[arm])
    return pipeline


STORED_COLUMNS = [
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


def judge_task(recipe: Recipe, layout: RunLayout, engine: Engine, name: str) -> JudgeWithSpec:
    """The judging task of one branch."""
    return JudgeWithSpec(
        name=name,
        llm=engine,
        spec=str(layout.spec),
        examples=recipe.context.examples,
        judge_digest=judge_digest(recipe.judge),
        justification_chars=recipe.judge.justification_chars,
        guided=recipe.judge.reasoning == "guided",
        num_generations=recipe.judge.k,
        input_batch_size=recipe.judge.concurrency,
    )
