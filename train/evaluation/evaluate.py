"""One model, its suites, one folder of results."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from specdistill.builders.contexts import categories_of
from specdistill.errors import EngineError, UsageError
from specdistill.schemas.copying import shingles_of
from specdistill.schemas.evaluation import EvalResult
from specdistill.schemas.recipe import Engine as EngineConfig
from specdistill.schemas.recipe import Judge, Screens
from specdistill.schemas.vocabulary import FinishReason
from specdistill.train.data import PublishedSet
from specdistill.train.evaluation.generate import answer_items
from specdistill.train.evaluation.grading import grade_answers
from specdistill.train.evaluation.identity import model_record
from specdistill.train.evaluation.intervals import LEVEL, RESAMPLES
from specdistill.train.evaluation.measure import PolicyFacts, measures_of
from specdistill.train.evaluation.numbers import numbers_of
from specdistill.train.evaluation.results import RESULT, write_result
from specdistill.train.evaluation.suites import Suite, items_of, suite_record
from specdistill.train.evaluation.translate import translated
from specdistill.train.lineage import packages
from specdistill.version import __version__

if TYPE_CHECKING:
    from specdistill.builders.engines.base import Engine

Note = Callable[[str, int, int], None]
"""Told of progress: what, how many done, of how many."""


@dataclass(frozen=True)
class Asked:
    """One evaluation.

    Attributes:
        engine: the model and how it is sampled.
        name: what the result is called; None for the model's name.
        published: the set whose spec is measured against.
        suites: what is asked.
        variants: transforms, beside `plain`.
        variant_limit: transforms of only so many prompts.
        with_spec: False, True or both: whether spec(category) is in context.
        samples: answers an item.
        grader: judge section of the model that grades; None for rules only.
        experiment: recorded in the result.
    """

    engine: EngineConfig
    published: PublishedSet
    suites: Sequence[Suite]
    name: str | None = None
    variants: Sequence[str] = ()
    variant_limit: int | None = None
    with_spec: Sequence[bool] = (False,)
    samples: int = 1
    grader: Judge | None = None
    resamples: int = RESAMPLES
    level: float = LEVEL
    seed: int = 0
    experiment: dict[str, Any] | None = None


@dataclass
class Engines:
    """Engines of one evaluation, each loaded when it is first needed, and only one model in memory at a time.

    State: the engine that is loaded.
    """

    loaded: dict[str, Engine] = field(default_factory=dict)

    def get(self, config: EngineConfig) -> Engine:
        """The loaded engine of a configuration."""
        from specdistill.builders.engines.factory import make_engine

        key = config.model_dump_json()
        if key not in self.loaded:
            self.close()
            engine = make_engine(config)
            engine.load()
            self.loaded[key] = engine
        return self.loaded[key]

    def close(self) -> None:
        """Let go of all."""
        for engine in self.loaded.values():
            engine.unload()
        self.loaded.clear()


def evaluate(asked: Asked, folder: Path, note: Note = lambda what, done, total: None) -> EvalResult:
    """Answer, grade, measure, count. Run again after a stop: finished answers and grades stay.

    Args:
        folder: where the result goes.

    Raises:
        UsageError: nothing is asked.
        EngineError: the model cannot be loaded, or every call failed.
    """
    began, cpu = time.monotonic(), cpu_seconds()
    (folder / RESULT).unlink(missing_ok=True)
    rendered = rendered_spec(asked.published)
    clauses = pl.read_parquet(asked.published.folder / "spec" / "clauses.parquet")
    model = model_record(asked.engine)
    engines = Engines()
    try:
        items = items_of(asked.suites, asked.variants, asked.variant_limit)
        languages = [name for name in asked.variants if name.startswith("translation:")]
        if languages:
            items = translated(items, languages, asked, engines, folder, note)
        if items.is_empty():
            raise UsageError("No suite has a prompt.", "Name a set with a test split, a file, or a public set.")
        answers = _answers(asked, items, model["key"], rendered, clauses, engines, folder, note)
        grades = None
        if asked.grader is not None:
            grader = asked.grader
            grades = grade_answers(
                lambda: engines.get(grader),
                grader,
                answers,
                items,
                rendered=rendered,
                categories=category_titles(clauses),
                folder=folder / "grades",
                note=lambda done, total: note("grades", done, total),
            )
    finally:
        engines.close()
    failed = answers.filter(pl.col("finish_reason") == FinishReason.ERROR)
    if failed.height == answers.height:
        raise EngineError(f"Every call failed: {failed['error'][0]}", "Mend the engine; then run it again.")
    return finish(asked, folder, model, items, answers, grades, (began, cpu))


def finish(
    asked: Asked,
    folder: Path,
    model: Mapping[str, Any],
    items: pl.DataFrame,
    answers: pl.DataFrame,
    grades: pl.DataFrame | None,
    since: tuple[float, float],
) -> EvalResult:
    """Measure answers that are there, count, and write the result.

    Args:
        model: what `result.json` says of it.
        since: wall clock (monotonic) and CPU seconds when the evaluation began.
    """
    rendered = rendered_spec(asked.published)
    clauses = pl.read_parquet(asked.published.folder / "spec" / "clauses.parquet")
    measures = measures_of(answers, items, facts_of(asked.published, clauses, rendered), grades, asked.grader)
    numbers = numbers_of(measures, resamples=asked.resamples, level=asked.level, seed=asked.seed)
    record = {
        "name": asked.name or model["name"],
        "specdistill": __version__,
        "model": dict(model),
        "dataset": dataset_record(asked.published),
        "spec": asked.published.manifest.spec.model_dump(exclude={"rendered", "title", "licence"}),
        "suites": suite_record(items, asked.suites),
        "sampling": sampling_record(asked),
        "grader": grader_record(asked.grader),
        "bootstrap": {"resamples": asked.resamples, "level": asked.level, "seed": asked.seed, "cluster": "prompt"},
        "failed_calls": answers.filter(pl.col("error").is_not_null()).height,
        "times": {
            "wall_seconds": round(time.monotonic() - since[0], 2),
            "cpu_seconds": round(cpu_seconds() - since[1], 2),
        },
        "packages": packages(),
        "experiment": asked.experiment,
    }
    return write_result(folder, record, {"items": items, "measures": measures, "numbers": numbers})


def _answers(
    asked: Asked,
    items: pl.DataFrame,
    key: str,
    rendered: Mapping[str, str],
    clauses: pl.DataFrame,
    engines: Engines,
    folder: Path,
    note: Note,
) -> pl.DataFrame:
    first = dict(clauses.drop_nulls("category").unique("category", keep="first").select("category", "anchor").rows())
    anchors = {label: first[categories_of(label)[0]] for label in rendered if categories_of(label)[0] in first}
    parts = []
    for with_spec in asked.with_spec:
        what = "answers with the spec" if with_spec else "answers"
        parts.append(
            answer_items(
                lambda: engines.get(asked.engine),
                asked.engine,
                items.filter(pl.col("category").is_in(list(rendered))) if with_spec else items,
                key=key,
                with_spec=with_spec,
                rendered=rendered,
                anchors=anchors,
                samples=asked.samples,
                folder=folder / "answers",
                note=lambda done, total, what=what: note(what, done, total),  # type: ignore[misc]
            )
        )
    return pl.concat(parts)


def rendered_spec(published: PublishedSet) -> dict[str, str]:
    """Category to the text of spec(category) that was published with the rows."""
    folder = published.folder / "spec" / "rendered"
    return {path.stem: path.read_text("utf-8") for path in sorted(folder.glob("*.md"))}


def facts_of(published: PublishedSet, clauses: pl.DataFrame, rendered: Mapping[str, str]) -> PolicyFacts:
    """What measuring needs of the spec."""
    words = Screens.model_validate(published.manifest.recipe.get("screens") or {}).copied_words
    runs = shingles_of([*clauses["text"].to_list(), *rendered.values()], words)
    return PolicyFacts(dict(clauses.select("anchor", "category").rows()), runs, words, frozenset(rendered))


def category_titles(clauses: pl.DataFrame) -> dict[str, str]:
    """Every category of the policy to what it is about, in the titles of its first clauses: for the retrieval grader.

    Not only those with a rendered text: a policy whose prompts all have two categories renders no single one.
    """
    titles = clauses.drop_nulls("category").group_by("category", maintain_order=True).agg(pl.col("title").head(3))
    return {category: "; ".join(found) for category, found in titles.iter_rows()}


def dataset_record(published: PublishedSet) -> dict[str, Any]:
    """Which set the suites and the spec come from."""
    manifest, source = published.manifest, published.source
    return {
        "id": source.name,
        "revision": source.revision,
        "sha": source.sha,
        "version": manifest.release.version if manifest.release else None,
        "manifest_sha256": published.manifest_sha256,
    }


def sampling_record(asked: Asked) -> dict[str, Any]:
    """How answers were sampled."""
    config = asked.engine
    fields = config.model_dump(include={"engine", "reasoning", "temperature", "top_p", "max_tokens", "seed"})
    kept = {name: value for name, value in config.options.items() if name in ("sampling", "chat_template_kwargs")}
    return {**fields, "options": kept, "samples": asked.samples, "with_spec": list(asked.with_spec)}


def grader_record(grader: Judge | None) -> dict[str, Any] | None:
    """Which model graded, and how. No address: where it runs does not decide what it says."""
    if grader is None:
        return None
    from specdistill.builders.judging import RUBRIC_VERSION
    from specdistill.train.evaluation.grading import GRADER_VERSION

    sampling = {"reasoning", "temperature", "top_p", "max_tokens", "seed"}
    fields = grader.model_dump(include={"model", "engine", "k", "aggregate", "weights"} | sampling)
    return {**fields, "rubric_version": RUBRIC_VERSION, "grader_version": GRADER_VERSION}


def cpu_seconds() -> float:
    """CPU seconds of this process and the children it has waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system
