"""The release tree: exactly the files that will be committed, in a folder that `load_dataset` reads.

    CONFIG/SPLIT-00000-of-0000N.parquet   README.md   manifest.json   spec/   report/

Built beside its place and renamed there, so it exists whole or not at all.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from specdistill.cards.card import card_text
from specdistill.cards.numbers import Numbers, numbers
from specdistill.cards.plots import render_plots
from specdistill.cards.report import numbers_json, refuse_release
from specdistill.cards.statistics import height
from specdistill.errors import InvariantError, PublishError, RunError, UsageError
from specdistill.schemas.configs import TABLES
from specdistill.schemas.digest import digest
from specdistill.schemas.features import features
from specdistill.schemas.files import disk_error, sync_folder
from specdistill.schemas.invariants import NAMED, Violation, check_run, scan_frame, scan_sets
from specdistill.schemas.layout import RunLayout, shard_names
from specdistill.schemas.manifest import FileEntry, Manifest, Release
from specdistill.schemas.text import without_folder
from specdistill.schemas.verify import MANIFEST, file_digest, file_entry, read_manifest

VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
CARD = "README.md"
PLACES = frozenset({"path", "spec", "model"})
"""Keys of a recipe and of a manifest's models whose value may be a path."""


@dataclass(frozen=True)
class Ask:
    """What a release is asked for, beside the run.

    Attributes:
        version: X.Y.Z.
        licence: SPDX id of the set, or any name with `licence_link`; None takes the recipe's `licences.dataset`.
        repo: `org/name`, for the card; None for a tree that goes nowhere.
        title: for the card; None takes the run's name.
        languages: ISO 639-1 codes of the texts.
        authors: for the citation.
        gated: whether readers must ask for access.
        scan: findings of the scan by kind, as accepted; None where it was not run.
    """

    version: str
    licence: str | None = None
    licence_link: str | None = None
    repo: str | None = None
    title: str | None = None
    languages: Sequence[str] = ()
    authors: Sequence[str] = ()
    gated: bool = False
    scan: Mapping[str, int] | None = None


def build_tree(
    layout: RunLayout,
    to_dir: Path,
    ask: Ask,
    *,
    previous: Manifest | None = None,
) -> Manifest:
    """Write the tree of a release. Its sets are the run's own files under another name (hard links), wherever the
    file system allows it.

    Args:
        layout: a finished run.
        to_dir: where; must be missing, empty, or an earlier tree, which is then replaced.
        previous: manifest of the release before, for the changelog.

    Returns:
        The manifest as written.

    Raises:
        UsageError: no version, no licence.
        RunError: the run is not finished, or its files are not those of its manifest.
        InvariantError: rows break a promise; names the first ten.
        PublishError: `to_dir` holds something else.
        DiskError: it cannot be written.
    """
    release = release_of(ask, layout, previous)
    target_is_free(to_dir)
    manifest = finished(layout)
    refuse(check_run(layout))
    building = to_dir.with_name(f".{to_dir.name}.{os.getpid()}.building")
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        made = fill(
            layout,
            building,
            manifest.model_copy(
                update={
                    "release": release,
                    "recipe": shareable(manifest.recipe),
                    "models": [one.model_copy(update={"model": without_folder(one.model)}) for one in manifest.models],
                }
            ),
        )
        swap(building, to_dir)
    except OSError as exc:
        raise disk_error(to_dir, exc) from exc
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return made


def shareable(value: Any, key: str = "") -> Any:
    """A recipe without the folders of the machine it ran on: of an absolute path only the last part is told."""
    if isinstance(value, Mapping):
        return {name: shareable(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [shareable(item, key) for item in value]
    return without_folder(value) if isinstance(value, str) and key in PLACES else value


def release_of(ask: Ask, layout: RunLayout, previous: Manifest | None) -> Release:
    """The release's own part of the manifest.

    Raises:
        UsageError: the version is no X.Y.Z, or nobody gave a licence.
    """
    from specdistill.cards.changes import changes

    if not VERSION.fullmatch(ask.version):
        raise UsageError(f"'{ask.version}' is no version.", "Give three numbers, e.g. --version 1.0.0.")
    manifest = read_manifest(layout.manifest)
    licence = ask.licence or (manifest.recipe.get("licences") or {}).get("dataset")
    if not licence:
        raise UsageError(
            "A release needs a licence, and neither the command nor the recipe states one.",
            "Give --licence (an SPDX id such as CC-BY-4.0), or set licences.dataset in the recipe.",
        )
    return Release(
        version=ask.version,
        repo=ask.repo,
        licence=licence,
        licence_link=ask.licence_link,
        title=ask.title,
        languages=list(ask.languages),
        authors=list(ask.authors),
        gated=ask.gated,
        scan=dict(ask.scan) if ask.scan is not None else None,
        previous=previous.release.version if previous and previous.release else None,
        changes=changes(previous, manifest) if previous else [],
    )


def target_is_free(to_dir: Path) -> None:
    """Refuse a folder that holds anything but an earlier tree.

    Raises:
        PublishError: it does.
    """
    if not to_dir.exists() or (to_dir.is_dir() and not any(to_dir.iterdir())):
        return
    ours = False
    if to_dir.is_dir() and (to_dir / MANIFEST).is_file():
        try:
            ours = read_manifest(to_dir / MANIFEST).release is not None
        except RunError:
            ours = False
    if not ours:
        raise PublishError(
            "The folder is not empty and holds no earlier release.",
            "Give --to-dir a folder that does not exist yet, so that nothing of yours is replaced.",
            file=to_dir,
        )


def finished(layout: RunLayout) -> Manifest:
    """The run's manifest, once its files are proven to be those it lists.

    Raises:
        RunError: a derived set was changed since, is missing, or is not in the form it is published in.
    """
    import pyarrow.parquet as pq

    manifest = read_manifest(layout.manifest)
    refuse_release(layout, manifest)
    if wrong := shown_otherwise(layout.rendered, manifest):
        raise RunError(
            f"What the models were shown is not what the manifest says: {', '.join(wrong)}.",
            "Put the run's `spec/` back as it was, or build again with the policy as it is now.",
            file=layout.rendered,
        )
    for name, entry in manifest.files.items():
        path = layout.root / name
        if not path.is_file() or path.stat().st_size != entry.bytes or file_digest(path) != entry.sha256:
            raise RunError(
                f"The run's file {name} is not the one its manifest lists.",
                "Run `specdistill select` on the run to derive its sets anew.",
                file=path,
            )
    for path in sorted(layout.datasets.glob("*/*.parquet")):
        if path.relative_to(layout.root).as_posix() not in manifest.files:
            raise RunError(
                "The run's manifest does not list this file.",
                "Run `specdistill select` on the run to derive its sets anew.",
                file=path,
            )
        if pq.read_schema(path).metadata != features(TABLES[path.parent.name]).arrow_schema.metadata:
            raise RunError(
                "This file is not in the form it is published in: an earlier version of specdistill wrote it.",
                "Run `specdistill select` on the run to derive its sets anew; no model is called.",
                file=path,
            )
    return manifest


def shown_otherwise(rendered: Path, manifest: Manifest) -> list[str]:
    """Names of the files in a `spec/rendered/` that are missing, or not the texts of the manifest's digests."""
    known = {f"{label}.md": known for label, known in manifest.spec.rendered.items()}
    there = {path.name: digest(path.read_text(encoding="utf-8")) for path in rendered.glob("*.md")}
    return sorted(name for name in known | there if known.get(name) != there.get(name))


def refuse(broken: Sequence[Violation]) -> None:
    """Stop at broken promises.

    Raises:
        InvariantError: there are some; names the first ten.
    """
    if broken:
        lines = "\n".join(f"  {violation}" for violation in broken[:NAMED])
        more = f"\n  and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        raise InvariantError(
            f"The sets break {len(broken)} of the promises that every published set makes:\n{lines}{more}\n",
            "Look the rows up by id in the run's datasets, fix what made them, and run `specdistill select` again.",
        )


def fill(layout: RunLayout, folder: Path, manifest: Manifest) -> Manifest:
    """Write every file of the tree into an empty folder; the manifest last."""
    known: dict[str, FileEntry] = {}
    sets = published(scan_sets(layout.datasets))
    for config, splits in sets.items():
        (folder / config).mkdir()
        for split in splits:
            shards = layout.shards(config, split)
            for source, name in zip(shards, shard_names(split, len(shards)), strict=True):
                link_or_copy(source, folder / config / name)
                known[f"{config}/{name}"] = manifest.files[source.relative_to(layout.root).as_posix()]
    for path in layout.spec_files:
        copy = folder / "spec" / path.relative_to(layout.spec)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    clauses = scan_frame(layout.clauses).collect()
    known["spec/clauses.parquet"] = manifest.files["spec/clauses.parquet"]
    measured: Numbers = numbers(sets, manifest, clauses)
    plots = render_plots(measured)
    (folder / "report").mkdir()
    for name, data in {**plots, "numbers.json": numbers_json(measured)}.items():
        (folder / "report" / name).write_bytes(data)
    manifest = manifest.model_copy(update={"counts": measured["rows"], "files": {}})
    (folder / CARD).write_text(card_text(folder, manifest, measured, plots), encoding="utf-8")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {name: known.get(name) or file_entry(folder / name) for name in names}
    manifest = manifest.model_copy(update={"files": files})
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def published(sets: Mapping[str, Mapping[str, pl.LazyFrame]]) -> dict[str, dict[str, pl.LazyFrame]]:
    """The splits that have rows, and the configs that have such splits: `datasets` cannot load an empty one."""
    full = {
        config: {split: frame for split, frame in splits.items() if height(frame)} for config, splits in sets.items()
    }
    return {config: splits for config, splits in full.items() if splits}


def link_or_copy(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no such thing, or it is another one.

    Files of runs and releases are replaced, never written to, so a name that is kept keeps its content.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def swap(building: Path, to_dir: Path) -> None:
    """Put the finished folder in its place; an earlier tree there goes once the new one stands."""
    for path in sorted(building.rglob("*")):
        if path.is_file():
            with open(path, "rb") as handle:
                os.fsync(handle.fileno())
    old = to_dir.with_name(f".{to_dir.name}.{os.getpid()}.old")
    if to_dir.exists():
        to_dir.rename(old)
    building.rename(to_dir)
    sync_folder(to_dir.parent)
    shutil.rmtree(old, ignore_errors=True)
