"""The code that something was made by, as part of a key: what was kept is not used when the code has changed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from pathlib import Path

from specdistill.schemas.digest import digest


@cache
def code_digest(here: Path, patterns: tuple[str, ...], packages: tuple[str, ...] = ()) -> str:
    """Digest of the texts of some files and the versions of some packages.

    Args:
        patterns: of files, seen from `here`.
    """
    files = sorted({path.resolve() for pattern in patterns for path in here.glob(pattern)})
    return digest([digest(path.read_text()) for path in files], [version(name) for name in packages])
