"""From a run to a release: scan, tree, hub. What `specdistill publish` calls."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from specdistill.cards.apart import build_tree_apart, scan_apart
from specdistill.cards.memory import frugal
from specdistill.cards.release import Outcome, Target, release
from specdistill.cards.remote import Remote
from specdistill.cards.scan import Find, counts, refuse_finds
from specdistill.cards.tree import Ask, build_tree, release_of, swap, target_is_free
from specdistill.errors import MissingExtra, UsageError
from specdistill.schemas.files import disk_error, working_folder
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.manifest import Manifest

WORK = ".release-"
"""Folders in a run where trees are put together; they belong to the process whose number they carry."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Published:
    """What `publish` did.

    Attributes:
        manifest: of the tree; None where nothing was built.
        folder: the tree, if it was kept.
        outcome: what the hub holds now; None without a hub.
        findings: of the scan; None where it was not run.
    """

    manifest: Manifest | None
    folder: Path | None
    outcome: Outcome | None
    findings: list[Find] | None


def publish_run(
    layout: RunLayout,
    ask: Ask,
    *,
    to_dir: Path | None = None,
    target: Target | None = None,
    endpoint: str | None = None,
    dry_run: bool = False,
    scanned: bool = True,
    accept_findings: bool = False,
    say: Say = lambda text: None,
) -> Published:
    """Make a release of a run.

    Args:
        ask: the release; `ask.repo` names the dataset on the hub.
        to_dir: keep the tree there.
        target: how it goes to the hub; None for a folder only.
        endpoint: the hub, when not the environment's.
        scanned: look for secrets and personal data; without it the card says so.
        accept_findings: release although the scan found something.

    Raises:
        UsageError, RunError, InvariantError, PublishError, DiskError, MissingExtra: see `build_tree` and `release`.
    """
    frugal()
    release_of(ask, layout, None)
    if to_dir is not None:
        to_dir = place_for(to_dir)
    if target is None and to_dir is None:
        raise UsageError("There is nowhere to publish to.", "Give --repo org/name, --to-dir FOLDER, or both.")
    findings = look(layout, scanned=scanned, needed=target is not None, say=say)
    if findings is not None:
        ask = replace(ask, scan=counts(findings))
        if target is not None and not accept_findings and not dry_run:
            refuse_finds(findings)
    if target is None or ask.repo is None:
        assert to_dir is not None
        say("Checking the sets and writing the tree.")
        return Published(build_tree(layout, to_dir, ask), to_dir, None, findings)

    with working_folder(layout.root, WORK) as work:
        built: dict[str | None, Manifest] = {}

        def build(before: Manifest | None) -> Path:
            """The tree after a given release; made once for each."""
            name = before.release.version if before and before.release else None
            folder = work / (name or "first")
            if name not in built:
                say("Checking the sets and writing the tree.")
                built[name] = build_tree_apart(layout.root, folder, ask, previous=before)
            return folder

        outcome = release(Remote(ask.repo, endpoint), target, build, dry_run=dry_run, say=say)
        made = built.get(outcome.plan.previous)
        if to_dir is not None and made is not None:
            keep(work / (outcome.plan.previous or "first"), to_dir)
        return Published(made, to_dir, outcome, findings)


def look(layout: RunLayout, *, scanned: bool, needed: bool, say: Say) -> list[Find] | None:
    """Run the scan; None where it is switched off, or not installed and nothing leaves the machine."""
    if not scanned:
        return None
    say("Looking for secrets and personal data.")
    try:
        return scan_apart(layout.root)
    except MissingExtra:
        if needed:
            raise
        say("The scan for secrets and personal data was left out: its packages are not installed.")
        return None


def place_for(to_dir: Path) -> Path:
    """Where a tree is to be kept, as an absolute path; its parent folder is there.

    Raises:
        UsageError: it is the folder we are in, which cannot be replaced under the feet of who is in it.
        PublishError: it holds something else.
        DiskError: its parent cannot be made.
    """
    place = Path(os.path.abspath(to_dir))
    if place == Path.cwd():
        raise UsageError("The tree would replace the folder you are in.", f"Name one in it: --to-dir {to_dir}/release.")
    target_is_free(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise disk_error(place, exc) from exc
    return place


def keep(tree: Path, to_dir: Path) -> None:
    """Move a finished tree to where it was asked for.

    Raises:
        DiskError: it cannot be written there.
    """
    try:
        if to_dir.parent.stat().st_dev == tree.stat().st_dev:
            swap(tree, to_dir)
            return
        beside = to_dir.with_name(f".{to_dir.name}.{os.getpid()}.building")
        shutil.copytree(tree, beside)
        swap(beside, to_dir)
    except OSError as exc:
        raise disk_error(to_dir, exc) from exc
