"""Files written whole: complete or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from specdistill.errors import DiskError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file (temporary file, fsync, rename, fsync of the folder), making its folder.

    Raises:
        DiskError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as exc:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise disk_error(path, exc) from exc


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def disk_error(path: Path, exc: OSError) -> DiskError:
    """What went wrong on disk, in words."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskError("The disk is full.", "Free some space and run the same command again.", file=path)
    return DiskError(
        f"Cannot write ({exc.strerror or exc}).",
        "Make the folder writable, then run the same command again.",
        file=path,
    )


@contextmanager
def working_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder of this process for the time of a block; what killed processes left of the same kind goes.

    Raises:
        DiskError: it cannot be made.
    """
    for old in parent.glob(f"{prefix}*"):
        owner = old.name.removeprefix(prefix).partition("-")[0]
        if not (owner.isdigit() and alive(int(owner))):
            shutil.rmtree(old, ignore_errors=True)
    try:
        place = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=parent))
    except OSError as exc:
        raise disk_error(parent, exc) from exc
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def alive(process: int) -> bool:
    """Whether a process of this number exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
