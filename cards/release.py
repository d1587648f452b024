"""A release on the hub: one commit with everything, then its tag, whatever happens in between.

Every attempt reads the hub first and does only what is missing, so a lost reply, a refused request, a killed process
or several publishers at once end in exactly one release or none:

1. the tag is there: with our content we are done, with other content we refuse;
2. the branch's head holds exactly our files: only the tag is missing;
3. else one commit on that head (the hub refuses it if the head has moved), then the tag on that very commit.

A branch that is not there yet starts at main, so what main holds is what a release on it follows.

The tag is only ever set on a commit that holds the whole content, so a tag without its content cannot be.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError

from specdistill.cards.interrupts import noted
from specdistill.cards.plan import Plan, Target, differences, first_plan, plan_of
from specdistill.cards.remote import HubState, Overtaken, Passing, Remote
from specdistill.errors import PublishError
from specdistill.schemas.manifest import Manifest
from specdistill.schemas.verify import MANIFEST, file_digest

TRIES = 8
PATIENCE = 3
"""Attempts in which another publisher's commit of the same version is given time to get its tag."""
LONGEST_WAIT = 60.0
"""Seconds between two attempts at most."""


class Status(StrEnum):
    """How it ended."""

    RELEASED = "released"
    """A commit and its tag were made."""
    FINISHED = "finished"
    """The commit was there; its tag was made."""
    UNCHANGED = "unchanged"
    """Both were there."""
    PROPOSED = "proposed"
    """A pull request holds the content; it has no tag before it is merged."""
    PLANNED = "planned"
    """Nothing was done, as asked."""


@dataclass(frozen=True)
class Outcome:
    """What became of a release.

    Attributes:
        oid: the commit that holds it; None for a plan.
        url: page of the release or pull request.
    """

    status: Status
    oid: str | None
    url: str
    plan: Plan


Build = Callable[[Manifest | None], Path]
"""Makes the tree for a given release before it, and returns its folder."""
Say = Callable[[str], None]


def release(
    remote: Remote,
    target: Target,
    build: Build,
    *,
    dry_run: bool = False,
    tries: int = TRIES,
    say: Say = lambda text: None,
    wait: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Make a release, trying again after failures that pass.

    Args:
        build: called again only when the release before ours changes under us.
        say: told what is being done.

    Raises:
        PublishError: the hub refuses, the tag exists with other content, the version is not newer, or every try
            failed. Whatever was raised, running the same command again finishes what is missing.
    """
    last: Passing | None = None
    with noted() as stop:
        for number in range(tries):
            stop()
            try:
                return one_attempt(
                    remote, target, build, dry_run=dry_run, say=say, patient=number < PATIENCE, stop=stop
                )
            except Passing as exc:
                last = exc
                if number + 1 < tries:
                    seconds = pause(number, exc)
                    say(f"{exc.cause} Reading the hub again in {seconds:.0f} s.")
                    wait(seconds)
    assert last is not None
    raise PublishError(
        f"{tries} attempts did not finish the release. Last: {last.cause}",
        "Nothing is half-published. Run the same command again: it finishes what is missing.",
    ) from last


def pause(number: int, failure: Passing) -> float:
    """Seconds before the next attempt: what the hub asks for, or doubling with jitter; little after a lost race."""
    if failure.wait is not None:
        return min(max(failure.wait, 0.0), LONGEST_WAIT)
    if isinstance(failure, Overtaken):
        return random.uniform(0.05, 0.5)
    return min(LONGEST_WAIT, 2.0**number) * random.uniform(0.5, 1.0)


def one_attempt(
    remote: Remote,
    target: Target,
    build: Build,
    *,
    dry_run: bool,
    say: Say,
    patient: bool = False,
    stop: Callable[[], None] = lambda: None,
) -> Outcome:
    """Read the hub, then do what is missing.

    Args:
        patient: wait when the head is another publisher's commit of this version, which may still get its tag.
        stop: raises KeyboardInterrupt if Ctrl-C came; asked between steps.

    Raises:
        Passing: try again. PublishError: do not.
    """
    state = remote.state(target.branch)
    agree(state, target)
    if target.tag in state.tags:
        return tagged(remote, target, build, state)
    if not state.exists:
        if dry_run:
            return Outcome(Status.PLANNED, None, remote.url, first_plan(build(None), target))
        remote.create(private=target.private)
        state = remote.state(target.branch)
    start = state.head or state.main
    if start is None:
        raise Overtaken("The default branch is not there yet.")
    there = remote.tree(start)
    head = parsed(remote.read(MANIFEST, start))
    before = release_before(remote, target, state, head)
    folder = build(before)
    plan = plan_of(remote, folder, there, before, state)
    newer(target, before, plan)
    same = not (plan.added or plan.changed or plan.removed)
    if dry_run:
        plan = replace(plan, note=preparations(target, state))
        return Outcome(Status.PLANNED, start if same else None, remote.url, plan)
    prepare(remote, target, state, start)
    if same:
        say(f"The commit {start[:8]} holds this release; setting the tag {target.tag}.")
        remote.tag(target.tag, start, f"Release {target.version}")
        return Outcome(Status.FINISHED, start, f"{remote.url}/tree/{target.tag}", plan)
    if patient and head and head.release and head.release.version == target.version:
        raise Passing(f"Another publisher's commit of version {target.version} has no tag yet.", wait=2.0)
    if target.pull_request and (found := proposed(remote, folder, state)):
        return Outcome(
            Status.PROPOSED, state.pulls[found], f"{remote.url}/discussions/{found.rpartition('/')[2]}", plan
        )
    say(f"Sending {len(plan.added) + len(plan.changed)} files.")
    oid, page = remote.commit(
        {name: folder / name for name in (*plan.added, *plan.changed)},
        plan.removed,
        branch=target.branch,
        parent=start,
        title=f"Release {target.version}",
        description=f"manifest.json has SHA-256 {file_digest(folder / MANIFEST)}",
        pull_request=target.pull_request,
    )
    stop()
    if target.pull_request:
        return Outcome(Status.PROPOSED, oid, page or remote.url, plan)
    say(f"Setting the tag {target.tag}.")
    remote.tag(target.tag, oid, f"Release {target.version}")
    return Outcome(Status.RELEASED, oid, f"{remote.url}/tree/{target.tag}", plan)


def agree(state: HubState, target: Target) -> None:
    """Refuse a repository that is more open than asked for.

    Raises:
        PublishError: it is public and was asked to be private.
    """
    if state.exists and target.private and not state.private:
        raise PublishError(
            "The repository exists and is public, but --private was asked for.",
            "Make it private on the hub first, or leave --private out.",
        )


def preparations(target: Target, state: HubState) -> tuple[str, ...]:
    """What `prepare` does, in sentences for the plan."""
    notes = [] if state.head else [f"The branch {target.branch} will be created, starting at main."]
    if target.gated and not state.gated:
        notes.append("Readers will have to ask for access.")
    return tuple(notes)


def prepare(remote: Remote, target: Target, state: HubState, start: str) -> None:
    """Set the access rule and make the branch: before any content comes, and after all that may be refused here."""
    if target.gated and not state.gated:
        remote.gate()
    if state.head is None:
        remote.branch(target.branch, start)


def tagged(remote: Remote, target: Target, build: Build, state: HubState) -> Outcome:
    """The tag exists: done if it holds our content.

    Raises:
        PublishError: it holds other content.
    """
    oid = state.tags[target.tag]
    theirs = parsed(remote.read(MANIFEST, oid))
    before = previous_of(remote, theirs, state) if theirs else None
    folder = build(before)
    plan = plan_of(remote, folder, remote.tree(oid), before, state)
    if not (plan.added or plan.changed or plan.removed):
        return Outcome(Status.UNCHANGED, oid, f"{remote.url}/tree/{target.tag}", plan)
    names = sorted((*plan.added, *plan.changed, *plan.removed))
    raise PublishError(
        f"Version {target.version} is already released with other content ({len(names)} files differ, "
        f"e.g. {', '.join(names[:3])}).",
        "A release is never changed: give the next version.",
    )


def parsed(raw: bytes | None) -> Manifest | None:
    """A manifest from the hub; None for none or one that is not ours."""
    if raw is None:
        return None
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError:
        return None


def release_before(remote: Remote, target: Target, state: HubState, head: Manifest | None) -> Manifest | None:
    """The release that ours follows on the branch; a commit without its tag is no release.

    Args:
        head: the manifest at the branch's head.
    """
    if head is None or head.release is None:
        return None
    if head.release.version == target.version or f"v{head.release.version}" not in state.tags:
        return previous_of(remote, head, state)
    return head


def previous_of(remote: Remote, manifest: Manifest, state: HubState) -> Manifest | None:
    """The release a manifest names as the one before it."""
    if manifest.release is None or manifest.release.previous is None:
        return None
    oid = state.tags.get(f"v{manifest.release.previous}")
    return parsed(remote.read(MANIFEST, oid)) if oid else None


def newer(target: Target, before: Manifest | None, plan: Plan) -> None:
    """Refuse a version that is not newer, or a breaking change without a major version.

    Raises:
        PublishError: either.
    """
    if before is None or before.release is None:
        return
    ours, theirs = (tuple(map(int, version.split("."))) for version in (target.version, before.release.version))
    if ours <= theirs:
        raise PublishError(
            f"Version {target.version} is not newer than {before.release.version}, which it would follow on "
            f"{target.branch}.",
            "Give a higher version. For one of an older line, make a branch on the hub that starts at that line's "
            "last tag, and name it with --branch: a branch that a release makes starts at main.",
        )
    breaking = [line for line in plan.schema if line.startswith("breaking")]
    if breaking and ours[0] == theirs[0]:
        raise PublishError(
            f"Readers of version {before.release.version} would break: {'; '.join(breaking[:10])}.",
            f"Give a new major version: {theirs[0] + 1}.0.0.",
        )


def proposed(remote: Remote, folder: Path, state: HubState) -> str | None:
    """The pull request that already holds exactly these files."""
    for ref, oid in sorted(state.pulls.items()):
        if not any(differences(folder, remote.tree(oid))):
            return ref
    return None
