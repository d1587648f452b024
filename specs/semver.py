"""What the next version number of a policy should be, by what changed in it.

Reworded is a patch, added is minor, removed or re-outcomed is major: rows made before teach a rule that is no longer
there, or the opposite of it. Renamed is major too, since citations of the old anchor cite nothing. A clause moved to
another category is minor: it is shown for other prompts than before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

from specdistill.specs.diff import ChangeKind, ClauseChange, PartChange, SpecDiff

_VERSION = re.compile(r"^v?(\d+)\.(\d+)(?:\.(\d+))?(?:[-+].*)?$")


class Level(IntEnum):
    """How large a step of the version is; the largest of several counts."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3


@dataclass(frozen=True)
class Advice:
    """What to do with the version.

    Attributes:
        level: the step that the changes ask for.
        reasons: the changes that ask for this step, in words.
        current: version of the older policy.
        stated: version of the newer policy.
        needed: least version the newer one should have; None where `current` is no semantic version.
        enough: whether `stated` is at least `needed`; None where one of them is no semantic version.
    """

    level: Level
    reasons: tuple[str, ...]
    current: str
    stated: str
    needed: str | None
    enough: bool | None


def advise(changes: SpecDiff) -> Advice:
    """The version the newer policy should have."""
    graded = [(_of_clause(change), _words(change)) for change in changes.clauses]
    graded += [(_of_part(part), f"{part.part} {part.kind}") for part in changes.parts if not _is_version(part)]
    level = max((level for level, _ in graded), default=Level.NONE)
    current, stated = changes.before.version, changes.after.version
    needed = next_version(current, level)
    old, new = _numbers(needed or ""), _numbers(stated)
    return Advice(
        level=level,
        reasons=tuple(reason for grade, reason in graded if grade is level and level),
        current=current,
        stated=stated,
        needed=needed,
        enough=None if old is None or new is None else new >= old,
    )


def next_version(version: str, level: Level) -> str | None:
    """The version one step up; None if `version` is no semantic version."""
    numbers = _numbers(version)
    if numbers is None:
        return None
    major, minor, patch = numbers
    steps = {
        Level.NONE: (major, minor, patch),
        Level.PATCH: (major, minor, patch + 1),
        Level.MINOR: (major, minor + 1, 0),
        Level.MAJOR: (major + 1, 0, 0),
    }
    return ".".join(str(number) for number in steps[level])


def _numbers(version: str) -> tuple[int, int, int] | None:
    match = _VERSION.match(version.strip())
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def _is_version(part: PartChange) -> bool:
    return part.part == "front matter: version"


def _of_clause(change: ClauseChange) -> Level:
    kinds = set(change.kinds)
    if kinds & {ChangeKind.REMOVED, ChangeKind.RE_OUTCOMED, ChangeKind.RENAMED}:
        return Level.MAJOR
    if ChangeKind.ADDED in kinds:
        return Level.MINOR
    before, after = change.before, change.after
    elsewhere = before is not None and after is not None and before.category != after.category
    return Level.MINOR if elsewhere else Level.PATCH


def _of_part(part: PartChange) -> Level:
    if part.part == f"category {part.category}":
        return Level.MAJOR if part.kind is ChangeKind.REMOVED else Level.MINOR
    return Level.PATCH


def _words(change: ClauseChange) -> str:
    return f"[{change.anchor}] {' and '.join(change.kinds)}"
