"""What a release would change on the hub, compared by digests the hub gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path

from specdistill.cards.remote import HubState, Remote, RemoteFile
from specdistill.cards.tree import CARD
from specdistill.schemas.contract import card_schemas, schema_changes
from specdistill.schemas.manifest import Manifest
from specdistill.schemas.verify import MANIFEST, file_digest, read_manifest

KEPT = frozenset({".gitattributes"})
"""Files of the hub's own that a release leaves alone."""


@dataclass(frozen=True)
class Target:
    """Where a release goes.

    Attributes:
        private, gated: how a repository that does not exist yet is made; an existing one must agree.
    """

    version: str
    branch: str = "main"
    pull_request: bool = False
    private: bool = False
    gated: bool = False

    @property
    def tag(self) -> str:
        """The tag's name."""
        return f"v{self.version}"


@dataclass(frozen=True)
class Plan:
    """What a release would change.

    Attributes:
        added, changed, removed: path to bytes.
        rows: config to (rows before, rows after).
        schema: changes of columns, in words.
        previous: version before this one.
        note: what else will happen, in sentences.
    """

    added: Mapping[str, int] = field(default_factory=dict)
    changed: Mapping[str, int] = field(default_factory=dict)
    removed: Mapping[str, int] = field(default_factory=dict)
    rows: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    schema: tuple[str, ...] = ()
    previous: str | None = None
    note: tuple[str, ...] = ()


def first_plan(folder: Path, target: Target) -> Plan:
    """The plan for a repository that does not exist yet."""
    added, _, _ = differences(folder, {})
    manifest = read_manifest(folder / MANIFEST)
    rows = {config: (0, sum(splits.values())) for config, splits in manifest.counts.items()}
    kind = "a private" if target.private else "a public"
    notes = [f"The repository will be created as {kind} one."]
    if target.gated:
        notes.append("Readers will have to ask for access.")
    return Plan(added, {}, {}, rows, (), None, tuple(notes))


def plan_of(
    remote: Remote, folder: Path, there: Mapping[str, RemoteFile], before: Manifest | None, state: HubState
) -> Plan:
    """What a commit would change.

    Args:
        there: files at the commit it is made on.
        before: the release before.
    """
    added, changed, removed = differences(folder, there)
    manifest = read_manifest(folder / MANIFEST)
    was = before.counts if before else {}
    configs = dict.fromkeys((*was, *manifest.counts))
    rows = {
        config: (sum(was.get(config, {}).values()), sum(manifest.counts.get(config, {}).values())) for config in configs
    }
    schema: tuple[str, ...] = ()
    version = before.release.version if before and before.release else None
    if version and (oid := state.tags.get(f"v{version}")):
        old = card_schemas((remote.read(CARD, oid) or b"").decode(errors="replace"))
        new = card_schemas((folder / CARD).read_text(encoding="utf-8"))
        schema = tuple(str(change) for change in schema_changes(old, new))
    return Plan(added, changed, removed, rows, schema, version)


def differences(folder: Path, there: Mapping[str, RemoteFile]) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Files to add, to change and to remove so that the hub holds exactly the folder; path to bytes."""
    local = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
    added = {name: path.stat().st_size for name, path in local.items() if name not in there}
    changed = {
        name: path.stat().st_size for name, path in local.items() if name in there and not is_same(path, there[name])
    }
    removed = {name: file.size for name, file in there.items() if name not in local and name not in KEPT}
    return added, changed, removed


def is_same(path: Path, file: RemoteFile) -> bool:
    """Whether a local file is the hub's, by the digest the hub gives."""
    if path.stat().st_size != file.size:
        return False
    if file.sha256 is not None:
        return file_digest(path) == file.sha256
    data = path.read_bytes()
    return sha1(b"blob %d\x00" % len(data) + data, usedforsecurity=False).hexdigest() == file.oid
