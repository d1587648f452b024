"""Arms from one run, trained, evaluated and compared; a stopped experiment goes on at the cell it was in."""

from __future__ import annotations

import gc
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from specdistill.builders.engines.embedded import resolve_model
from specdistill.errors import RunError, UsageError
from specdistill.schemas.digest import digest
from specdistill.schemas.evaluation import EvalResult
from specdistill.schemas.files import write_whole
from specdistill.schemas.recipe import Engine as EngineConfig
from specdistill.train.data import PublishedSet, open_set
from specdistill.train.evaluation.arms import ARMS, Material, arm_rows, count_of, has_rows, open_material
from specdistill.train.evaluation.armset import write_arm_set
from specdistill.train.evaluation.evaluate import Asked, Note, cpu_seconds, evaluate
from specdistill.train.evaluation.plan import Cell, ExperimentRecipe, cells_of
from specdistill.train.evaluation.results import is_complete
from specdistill.train.evaluation.suites import Suite, from_file, from_hub, held_out

HELD_OUT = "held_out"
CELL, TRAINED, EXPERIMENT = "cell.json", "trained.json", "experiment.json"
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "sft": {"num_train_epochs": 3},
    "dpo": {"num_train_epochs": 1},
    "grpo": {"num_train_epochs": 1},
}
_SHOWN = ("steps", "first_loss", "last_loss", "seconds", "peak_memory_gib")


@dataclass(frozen=True)
class Place:
    """Paths of one experiment."""

    root: Path

    def cell(self, name: str) -> Path:
        """Folder of one cell: its training set, the model, `eval/`, cell.json."""
        return self.root / "cells" / name

    def rows(self, name: str) -> Path:
        """Folder of a cell's training set."""
        return self.cell(name) / f"{name}-set"

    def model(self, name: str) -> Path:
        """Folder of a cell's weights, called as the cell: lineages know a model by its folder's name."""
        return self.cell(name) / name


@dataclass(frozen=True)
class Setup:
    """What all cells share."""

    recipe: ExperimentRecipe
    material: Material
    published: PublishedSet
    suites: list[Suite]
    place: Place
    console: Console
    note: Note


def run_experiment(
    recipe: ExperimentRecipe, root: Path, console: Console, note: Note = lambda what, done, total: None
) -> list[Path]:
    """Train and evaluate every cell that is not finished.

    Args:
        root: the experiment's folder.
        console: where a line a cell is written, and training's own lines.

    Returns:
        The folders of all results, in the order of cells.

    Raises:
        RunError: the run cannot be used.
        TrainError, EngineError: as training and evaluation raise them.
    """
    place = Place(root)
    material = open_material(recipe.run)
    write_whole(root / "experiment.yaml", recipe.model_dump_json(indent=2, exclude={"run"}).encode())
    published = open_set(str(held_out_set(place, material)))
    suites = [held_out(published, limit=recipe.evaluate.limit)]
    suites += [from_file(path, recipe.evaluate.limit) for path in recipe.evaluate.files]
    suites += [from_hub(name, recipe.evaluate.limit) for name in recipe.evaluate.public]
    setup = Setup(recipe, material, published, suites, place, console, note)
    cells, skipped = wanted(recipe, material)
    for arm in skipped:
        console.print(f"arm {arm} is left out: this run has no rows for it", markup=False)
    keys: dict[str, str] = {}
    began, cpu = time.monotonic(), cpu_seconds()
    for number, cell in enumerate(cells):
        keys[cell.name] = train_key(setup, cell, keys)
        if finished(setup, cell, keys[cell.name]):
            console.print(f"[{number + 1}/{len(cells)}] {cell.name}: finished before", markup=False)
            continue
        console.print(f"[{number + 1}/{len(cells)}] {cell.name}: {ARMS[cell.arm].note}", markup=False)
        run_cell(setup, cell, keys)
        drop_models(setup, cells[number + 1 :], keys)
    drop_models(setup, [], keys)
    record = {
        "cells": [asdict(cell) | {"name": cell.name} for cell in cells],
        "left_out": skipped,
        "this_session": {
            "wall_seconds": round(time.monotonic() - began, 1),
            "cpu_seconds": round(cpu_seconds() - cpu, 1),
        },
    }
    write_whole(root / EXPERIMENT, (json.dumps(record, indent=2) + "\n").encode())
    return [place.cell(cell.name) / "eval" for cell in cells]


def wanted(recipe: ExperimentRecipe, material: Material) -> tuple[list[Cell], list[str]]:
    """The cells, and the arms that this run has no rows for."""
    skipped = [arm for arm in recipe.arms if not has_rows(material, arm)]
    kept = [arm for arm in recipe.arms if arm not in skipped]
    if not kept:
        raise UsageError("No arm is left.", "The run has no rows for any of them.")
    return cells_of(recipe.model_copy(update={"arms": kept})), skipped


def held_out_set(place: Place, material: Material) -> Path:
    """The set all arms are evaluated on: held-out prompts, what was accepted on them, the spec."""
    test = {
        config: {"test": splits["test"]}
        for config, splits in material.sets.items()
        if config in ("prompts", "sft") and "test" in splits
    }
    return write_arm_set(place.root / HELD_OUT, test, material, f"{material.recipe.name}-held-out")


def train_key(setup: Setup, cell: Cell, keys: Mapping[str, str]) -> str:
    """Everything that decides a cell's weights."""
    if ARMS[cell.arm].method is None:
        return digest("base", setup.recipe.model)
    folder = setup.place.rows(cell.name)
    rows = arm_rows(
        setup.material, cell.arm, fraction=cell.fraction, seed=cell.seed, match_size=setup.recipe.match_size
    )
    sets = {config: {"train": frame} for config, frame in rows.items()}
    write_arm_set(folder, sets, setup.material, f"{setup.recipe.name}-{cell.name}")
    manifest = (folder / "manifest.json").read_text("utf-8")
    start = keys[cell.start] if cell.start else setup.recipe.model
    return digest("train", manifest, start, arguments(setup, cell))


def arguments(setup: Setup, cell: Cell) -> dict[str, Any]:
    """TRL's arguments of a cell."""
    method = ARMS[cell.arm].method or ""
    return {**_DEFAULTS.get(method, {}), **setup.recipe.train.get(method, {}), "seed": cell.seed}


def eval_key(setup: Setup, cell: Cell, trained: str) -> str:
    """Everything that decides a cell's numbers."""
    asked = setup.recipe.evaluate.model_dump(mode="json", exclude={"files"})
    engine = engine_of(setup, cell, "-").model_dump(mode="json")
    suites = [[suite.name, sorted(digest(row) for row in suite.rows)] for suite in setup.suites]
    return digest("eval", trained, asked, engine, suites, setup.published.manifest_sha256)


def finished(setup: Setup, cell: Cell, trained: str) -> bool:
    """Whether a cell's result is there and is what would be made now."""
    folder = setup.place.cell(cell.name)
    if not (folder / CELL).is_file() or not is_complete(folder / "eval"):
        return False
    return bool(read_json(folder / CELL).get("eval_key") == eval_key(setup, cell, trained))


def run_cell(setup: Setup, cell: Cell, keys: Mapping[str, str]) -> EvalResult:
    """Train (unless the weights are there) and evaluate one cell; `cell.json` is written last."""
    folder, kind = setup.place.cell(cell.name), ARMS[cell.arm]
    (folder / CELL).unlink(missing_ok=True)
    model = model_of(setup, cell, keys)
    record = {
        "arm": cell.arm,
        "note": kind.note,
        "fraction": cell.fraction if kind.method else None,
        "seed": cell.seed if kind.method else None,
        "training": read_json(folder / TRAINED).get("record") if kind.method else None,
    }
    asked = Asked(
        engine=engine_of(setup, cell, model),
        published=setup.published,
        suites=setup.suites,
        name=cell.name,
        variants=setup.recipe.evaluate.variants,
        variant_limit=setup.recipe.evaluate.variant_limit,
        with_spec=(kind.with_spec,),
        samples=setup.recipe.evaluate.samples,
        grader=setup.recipe.evaluate.grader,
        resamples=setup.recipe.evaluate.resamples,
        experiment=record,
    )
    result = evaluate(asked, folder / "eval", setup.note)
    gc.collect()
    done = {**asdict(cell), "eval_key": eval_key(setup, cell, keys[cell.name]), "times": result.times.model_dump()}
    write_whole(folder / CELL, (json.dumps(done, indent=2) + "\n").encode())
    setup.console.print(f"  evaluated in {result.times.wall_seconds:.0f} s, {result.times.cpu_seconds:.0f} CPU-s")
    return result


def model_of(setup: Setup, cell: Cell, keys: Mapping[str, str]) -> str:
    """The cell's weights: the base model's, those that lie there, or trained now."""
    kind = ARMS[cell.arm]
    if kind.method is None:
        return setup.recipe.model
    folder = setup.place.cell(cell.name)
    model = setup.place.model(cell.name)
    if (model / "train.json").is_file() and read_json(folder / TRAINED).get("train_key") == keys[cell.name]:
        return str(model)
    start = resolve_model(setup.recipe.model)
    if cell.start:
        [before] = [one for one in cells_of(setup.recipe) if one.name == cell.start]
        start = model_of(setup, before, keys)
    train_cell(setup, cell, start, keys[cell.name])
    return str(model)


def train_cell(setup: Setup, cell: Cell, start: str, key: str) -> None:
    """Train one cell; `trained.json` is written when the weights are whole."""
    from specdistill.train.run import train

    folder, method = setup.place.cell(cell.name), ARMS[cell.arm].method or ""
    (folder / TRAINED).unlink(missing_ok=True)
    model = setup.place.model(cell.name)
    shutil.rmtree(model, ignore_errors=True)
    argv = ["--dataset", str(setup.place.rows(cell.name)), "--model", start, "--output_dir", str(model)]
    argv += ["--save_strategy", "no", "--report_to", "none"]
    for name, value in arguments(setup, cell).items():
        argv += [f"--{name}", str(value)]
    began, cpu = time.monotonic(), cpu_seconds()
    record = train(method, argv, setup.console)
    gc.collect()
    rows = arm_rows(
        setup.material, cell.arm, fraction=cell.fraction, seed=cell.seed, match_size=setup.recipe.match_size
    )
    kept = {name: record[name] for name in _SHOWN} | {"rows": count_of(rows), "method": method}
    kept |= {
        "wall_seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(cpu_seconds() - cpu, 1),
        "set_manifest_sha256": record["lineage"]["dataset"]["manifest_sha256"],
    }
    write_whole(folder / TRAINED, (json.dumps({"train_key": key, "record": kept}, indent=2) + "\n").encode())


def engine_of(setup: Setup, cell: Cell, model: str) -> EngineConfig:
    """How a cell's model is sampled: as its own template wants it, where it was trained."""
    recipe = setup.recipe
    more = recipe.spec_engine if ARMS[cell.arm].with_spec else {}
    config = recipe.engine.model_dump() | dict(more) | {"model": model}
    lineage = Path(model) / "lineage.json"
    if lineage.is_file() and (kwargs := read_json(lineage)["convention"]["chat_template_kwargs"]):
        config["options"] = {**config["options"], "chat_template_kwargs": kwargs}
    return EngineConfig.model_validate(config)


def drop_models(setup: Setup, later: list[Cell], keys: Mapping[str, str]) -> None:
    """Remove weights that no later cell starts from: they are the only large thing, and can be trained again."""
    if setup.recipe.keep_models:
        return
    needed = {cell.start for cell in later}
    for name in keys:
        folder = setup.place.cell(name)
        if name not in needed and (folder / CELL).is_file() and (folder / TRAINED).is_file():
            for path in setup.place.model(name).glob("*"):
                if path.suffix in (".safetensors", ".bin"):
                    path.unlink()
            (folder / TRAINED).rename(folder / "training.json")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of ours; empty where there is none.

    Raises:
        RunError: it is not one.
    """
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as exc:
        raise RunError(f"This file is damaged: {exc}.", "Remove it; its cell is then made again.", file=path) from exc


def results_of(root: Path) -> list[Path]:
    """The result folders of an experiment, finished ones only, in the order of its cells."""
    names = [cell["name"] for cell in read_json(root / EXPERIMENT).get("cells", [])]
    folders = [root / "cells" / name / "eval" for name in names]
    return [folder for folder in folders if is_complete(folder)]
