"""The recipe of an experiment, and the cells it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from specdistill.errors import RecipeError, UsageError
from specdistill.schemas.recipe import Engine, Judge, Strict
from specdistill.schemas.recipe_file import apply_override, decode
from specdistill.schemas.safe_yaml import read_yaml
from specdistill.train.evaluation.arms import ARMS, kind_of

Fraction = Annotated[float, Field(gt=0, le=1)]


class EvalSettings(Strict):
    """How every arm is evaluated."""

    limit: int | None = Field(default=None, ge=1)
    """Only so many held-out prompts."""
    variants: list[str] = Field(default_factory=list)
    """Transforms beside the plain form."""
    variant_limit: int | None = Field(default=None, ge=1)
    """Transforms of only so many prompts."""
    samples: int = Field(default=1, ge=1)
    files: list[Path] = Field(default_factory=list)
    """Further suites: files of prompts."""
    public: list[str] = Field(default_factory=list)
    """Further suites: public sets."""
    grader: Judge | None = None
    """The model that grades; none for rules only."""
    resamples: int = Field(default=1000, ge=100)


class ExperimentRecipe(Strict):
    """A whole experiment."""

    name: str = Field(default="experiment", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")
    run: Path
    """The run every arm's rows come from."""
    model: str = "embedded"
    """The base model."""
    arms: list[str] = Field(default=["base", "base_spec", "sft_unfiltered", "sft_filtered", "sft_no_reasoning"])
    fractions: list[Fraction] = Field(default=[1.0], min_length=1)
    """Shares of the training prompts for the arms in `curve`."""
    curve: list[str] = Field(default=["sft_filtered"])
    """Arms trained on every fraction; the others take the largest."""
    seeds: list[int] = Field(default=[0], min_length=1)
    """Seeds of the arms in `curve`; the others take the first."""
    match_size: bool = True
    """Unfiltered rows drawn down to as many as were accepted."""
    train: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Method to TRL arguments."""
    engine: Engine = Engine(engine="transformers", model="-", temperature=0.0, max_tokens=512)
    """How answers are sampled; the model is each arm's own."""
    spec_engine: dict[str, Any] = Field(default_factory=dict)
    """What differs for arms with the spec in context: reasoning, max_tokens."""
    evaluate: EvalSettings = EvalSettings()
    truth: Path | None = None
    """What people said of candidates (Parquet), for the sweep of k and threshold; default: the run's audit."""
    keep_models: bool = False
    """Keep every arm's weights."""

    @model_validator(mode="after")
    def known(self) -> ExperimentRecipe:
        """Arms and methods are known; what starts from another arm has it."""
        for arm in (*self.arms, *self.curve):
            if arm not in ARMS:
                raise ValueError(f"there is no arm '{arm}'; known: {', '.join(ARMS)}")
        if unknown := set(self.train) - {"sft", "dpo", "grpo"}:
            raise ValueError(f"train has unknown methods {sorted(unknown)}; known: sft, dpo, grpo")
        return self


@dataclass(frozen=True)
class Cell:
    """One model of an experiment: an arm at a fraction with a seed.

    Attributes:
        start: name of the cell whose model it starts from; None for the base model.
    """

    arm: str
    fraction: float
    seed: int
    start: str | None = None

    @property
    def name(self) -> str:
        """Folder and name in comparisons."""
        if ARMS[self.arm].method is None:
            return self.arm
        return f"{self.arm}-{percent(self.fraction)}-s{self.seed}"


def percent(fraction: float) -> str:
    """A fraction in per cent, `025` of a quarter; `000.3` where that is no whole number, so that no two are alike."""
    text = format((Decimal(repr(fraction)) * 100).normalize(), "f")
    whole, point, rest = text.partition(".")
    return f"{int(whole):03d}{point}{rest}"


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> ExperimentRecipe:
    """Read a recipe; a run folder is the default experiment over it.

    Raises:
        RecipeError: it cannot be read or contradicts itself.
        UsageError: there is no such file or folder.
    """
    import yaml

    base: dict[str, Any]
    if (path / "recipe.yaml").is_file():
        base, where = {"run": str(path)}, path
    elif path.is_file():
        where = path.parent
        try:
            base = read_yaml(decode(path.read_bytes(), path)) or {}
        except yaml.YAMLError as exc:
            raise RecipeError(f"This is not valid YAML: {exc}", "Mend the line.", file=path) from exc
        if not isinstance(base, dict):
            raise RecipeError("The experiment is not a mapping.", "Start with `run: runs/NAME`.", file=path)
    else:
        raise UsageError(f"'{path}' is neither a recipe nor a run folder.", "Give one of them.")
    for override in overrides:
        apply_override(base, override)
    try:
        recipe = ExperimentRecipe.model_validate(base)
    except ValidationError as exc:
        first = exc.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or None
        raise RecipeError(
            f"The experiment is not valid: {first['msg']}.", "See `specdistill experiment --help`.", file=path, key=key
        ) from exc
    run = recipe.run if recipe.run.is_absolute() or recipe.run.is_dir() else where / recipe.run
    truth = recipe.truth if recipe.truth is None or recipe.truth.is_file() else where / recipe.truth
    return recipe.model_copy(update={"run": run, "truth": truth})


def cells_of(recipe: ExperimentRecipe) -> list[Cell]:
    """Every cell, those that start from others last; what an arm starts from is there though nobody asked for it."""
    largest, first = max(recipe.fractions), recipe.seeds[0]
    cells: dict[str, Cell] = {}

    def add(arm: str, fraction: float, seed: int) -> str:
        kind = kind_of(arm)
        start = add(kind.start, fraction, seed) if kind.start else None
        cell = Cell(arm, fraction, seed, start)
        cells.setdefault(cell.name, cell)
        return cell.name

    for arm in recipe.arms:
        add(arm, largest, first)
    for arm in recipe.curve:
        if arm in recipe.arms and kind_of(arm).method is not None:
            for seed in recipe.seeds:
                for fraction in sorted(recipe.fractions):
                    add(arm, fraction, seed)
    return sorted(cells.values(), key=lambda cell: cell.start is not None)
