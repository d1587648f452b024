"""From `org/name@revision` or a folder to the rows that are trained on, pinned and verified.

TRL's own command line cannot pin a dataset revision, and `load_dataset(repo, revision=tag)` silently returns any
revision in the cache when the hub is unreachable. So a tag becomes a commit first, the commit's files are checked
against the manifest they were published with, and only then are rows read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from specdistill.errors import SchemaError, TrainError, UsageError
from specdistill.schemas.configs import TABLES
from specdistill.schemas.manifest import Manifest
from specdistill.schemas.verify import MANIFEST, file_digest, read_manifest, verify_tree

if TYPE_CHECKING:
    import datasets

_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$|^[\w.-]+$")
_SHA = re.compile(r"^[0-9a-f]{40}$")
_VERSION_TAG = re.compile(r"^v(\d+\.\d+\.\d+\S*)$")


@dataclass(frozen=True)
class Source:
    """A dataset that has been pinned: what was asked and what it stands for.

    Attributes:
        asked: as given by the user.
        repo: hub id, or None for a folder.
        revision: tag, branch or commit as asked, or None.
        sha: commit the revision stood for, or None for a folder.
        folder: where its files lie.
    """

    asked: str
    repo: str | None
    revision: str | None
    sha: str | None
    folder: Path

    @property
    def name(self) -> str:
        """Short name for cards and default folder names: never a path."""
        return self.repo or self.folder.resolve().name


@dataclass(frozen=True)
class PublishedSet:
    """A published set whose files have been checked.

    Attributes:
        source: where it comes from.
        manifest: what was published.
        manifest_sha256: digest of the manifest file; pins every other file.
    """

    source: Source
    manifest: Manifest
    manifest_sha256: str

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.source.folder

    def splits(self, config: str) -> dict[str, int]:
        """Split name to rows.

        Raises:
            UsageError: the set has no such config.
        """
        counts = self.manifest.counts.get(config)
        if not counts:
            raise UsageError(
                f"The dataset '{self.source.asked}' has no rows in config '{config}'.",
                f"It has: {', '.join(sorted(name for name, rows in self.manifest.counts.items() if rows))}.",
            )
        return counts

    def load(self, config: str, split: str) -> datasets.Dataset:
        """The rows of one split.

        Raises:
            UsageError: no such config or split.
            TrainError: the rows cannot be read, or are not as many as the manifest says.
            SchemaError: the rows lack a column this version needs.
        """
        import datasets

        counts = self.splits(config)
        if not counts.get(split):
            raise UsageError(
                f"Config '{config}' of '{self.source.asked}' has no rows in split '{split}'.",
                f"It has: {', '.join(f'{name} ({rows} rows)' for name, rows in counts.items() if rows)}.",
            )
        try:
            rows = datasets.load_dataset(
                str(self.folder), config, split=split, cache_dir=str(cache_for(self.manifest_sha256))
            )
        except (ValueError, OSError, datasets.exceptions.DatasetsError) as exc:
            raise TrainError(
                f"Config '{config}' of '{self.source.asked}' cannot be read: {exc}",
                "Check the YAML header of its README.md, or publish it again.",
            ) from exc
        if len(rows) != counts[split]:
            raise TrainError(
                f"Split '{split}' of '{config}' has {len(rows)} rows, the manifest says {counts[split]}.",
                "The README.md and the manifest disagree; publish the set again.",
            )
        if config in TABLES and (missing := [c for c in TABLES[config].names if c not in rows.column_names]):
            raise SchemaError(
                f"Config '{config}' of '{self.source.asked}' lacks the columns {missing}.",
                "It was written by another version; `specdistill schema migrate` upgrades older ones.",
            )
        return rows


def open_set(asked: str) -> PublishedSet:
    """Pin a published set and prove that every file is what its manifest says.

    Args:
        asked: a folder made by `publish --to-dir`, or `org/name@revision`.

    Raises:
        UsageError: neither a folder nor a hub id.
        TrainError: the hub does not have it or cannot be reached, it is not a release, or it is another version
            than the tag says.
        SchemaError: a file is missing, was changed or is not in the manifest.
        RunError: the manifest cannot be read.
    """
    source = pin(asked)
    path = source.folder / MANIFEST
    if not path.is_file() or read_manifest(path).release is None:
        raise TrainError(
            f"'{asked}' is not a published set: it has no manifest of a release.",
            "Make one with `specdistill publish RUN --to-dir DIR`; a run folder itself is not one.",
            file=path,
        )
    manifest = verify_tree(source.folder)
    tag = _VERSION_TAG.match(source.revision or "")
    if tag and manifest.release and manifest.release.version != tag.group(1):
        raise TrainError(
            f"The tag '{source.revision}' points at version {manifest.release.version} of '{source.repo}'.",
            "Somebody moved the tag; ask for a commit sha, or publish the version again.",
        )
    return PublishedSet(source, manifest, file_digest(path))


def pin(asked: str) -> Source:
    """Resolve what the user named to files on disk that will not change underneath.

    A tag or branch is resolved to a commit first; files are fetched by that commit. With the hub unreachable only
    a full commit sha that is already cached can be used.

    Raises:
        UsageError: neither a folder nor a hub id.
        TrainError: see `open_set`.
    """
    folder = Path(asked).expanduser()
    if folder.is_dir():
        return Source(asked, None, None, None, folder)
    repo, _, revision = asked.partition("@")
    if not _HUB_ID.match(repo) or asked.startswith((".", "/", "~")):
        raise UsageError(
            f"'{asked}' is neither a folder nor a hub id.",
            "Give a folder made by `specdistill publish --to-dir`, or org/name@revision.",
        )
    return _pin_hub(asked, repo, revision or None)


def _pin_hub(asked: str, repo: str, revision: str | None) -> Source:
    import httpx2  # the client of huggingface_hub >= 2, whose network errors it lets through
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub import errors as hub

    try:
        sha = revision if revision and _SHA.match(revision) else str(HfApi().dataset_info(repo, revision=revision).sha)
        folder = Path(snapshot_download(repo, repo_type="dataset", revision=sha))
    except (hub.RevisionNotFoundError, hub.RepositoryNotFoundError, hub.GatedRepoError) as exc:
        reason = {
            hub.RevisionNotFoundError: f"The hub has '{repo}', but no revision '{revision}'.",
            hub.GatedRepoError: f"Access to '{repo}' must be granted first.",
        }.get(type(exc), f"The hub has no dataset '{repo}' that you may read.")
        raise TrainError(
            reason,
            "Check the name; private and gated sets need a token in HF_TOKEN; local folders are fine too.",
        ) from exc
    except (httpx2.HTTPError, OSError) as exc:  # OSError: offline mode, nothing in the cache, disk
        raise TrainError(
            f"'{asked}' cannot be resolved to a commit: {type(exc).__name__}: {str(exc).splitlines()[0]}",
            "Check HF_ENDPOINT and the network, or name a commit sha that is already in the cache, or a folder.",
        ) from exc
    return Source(asked, repo, revision, sha, folder)


def cache_for(digest: str) -> Path:
    """Where `datasets` may keep Arrow copies of rows with this digest.

    Its own cache is keyed by the folder's name and README: two folders of one name, or one folder published twice,
    give the rows of whichever was loaded first, without a word (datasets 5.2).
    """
    from datasets import config

    return Path(config.HF_DATASETS_CACHE) / "specdistill" / digest[:32]
