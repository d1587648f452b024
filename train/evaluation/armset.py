"""An arm's rows as a folder that `specdistill train` takes: pinned by a manifest, and never published.

It is laid out as a release, but is none: an unfiltered arm breaks on purpose what a release promises.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import yaml

from specdistill.builders.manifest import model_entries, spec_entry
from specdistill.builders.parts import parquet_bytes
from specdistill.schemas.configs import TABLES
from specdistill.schemas.files import write_whole
from specdistill.schemas.manifest import Manifest, Release
from specdistill.schemas.verify import MANIFEST, file_entry
from specdistill.train.evaluation.arms import Material
from specdistill.version import __version__

CREATED = "1970-01-01T00:00:00+00:00"
"""No time of day: equal rows give an equal manifest, so that a set is known by its digest."""


def write_arm_set(folder: Path, sets: Mapping[str, Mapping[str, pl.DataFrame]], material: Material, name: str) -> Path:
    """Write rows, spec and manifest.

    Args:
        sets: config to split to rows.
        name: of the set, in lineages.
    """
    shutil.rmtree(folder, ignore_errors=True)
    counts = {config: {split: rows.height for split, rows in splits.items()} for config, splits in sets.items()}
    for config, splits in sets.items():
        for split, rows in splits.items():
            write_whole(folder / config / f"{split}-00000-of-00001.parquet", parquet_bytes(rows))
    layout = material.layout
    write_whole(folder / "spec" / "clauses.parquet", layout.clauses.read_bytes())
    for path in sorted(layout.rendered.glob("*.md")):
        write_whole(folder / "spec" / "rendered" / path.name, path.read_bytes())
    head = {
        "configs": [
            {
                "config_name": config,
                "data_files": [{"split": split, "path": f"{config}/{split}-*.parquet"} for split in splits],
            }
            for config, splits in sets.items()
        ]
    }
    text = f"---\n{yaml.safe_dump(head)}---\n\n# {name}\n\nAn arm of an experiment; not a release.\n"
    write_whole(folder / "README.md", text.encode())
    listed = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (MANIFEST, "README.md"))
    manifest = Manifest(
        name=name,
        created=CREATED,
        specdistill=__version__,
        schemas={config: TABLES[config].version for config in sets},
        recipe=material.recipe.model_dump(mode="json"),
        spec=spec_entry(layout, material.recipe),
        models=model_entries(material.recipe),
        stages={},
        counts=counts,
        files={path.relative_to(folder).as_posix(): file_entry(path) for path in listed},
        release=Release(version="0.0.0"),
    )
    write_whole(folder / MANIFEST, (manifest.model_dump_json(indent=2) + "\n").encode())
    return folder
