"""Files written whole: complete or not at all."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
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
