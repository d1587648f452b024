"""Reading a manifest, and proving that a folder is what its manifest says: the check before anything is loaded."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path, PurePosixPath

import polars as pl
from pydantic import ValidationError

from specdistill.errors import RunError, SchemaError
from specdistill.schemas.manifest import FileEntry, Manifest

MANIFEST = "manifest.json"
MAX_BYTES = 64_000_000
"""A manifest is small; a larger file is something else."""
NOT_LISTED = frozenset({MANIFEST, "README.md", ".gitattributes"})
"""Files of a release that the manifest does not list: it cannot hold its own digest, and the card quotes it."""


def read_manifest(path: Path) -> Manifest:
    """Read `manifest.json`.

    Raises:
        RunError: there is none (the run or release is not complete), or another version wrote it.
    """
    if not path.is_file():
        raise RunError(
            "There is no manifest.json: the run is not complete.",
            "Run `specdistill build` on the folder until it ends.",
            file=path,
        )
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes is too large for a manifest")
        return Manifest.model_validate_json(path.read_bytes())
    except (ValidationError, ValueError, OSError) as exc:
        first = exc.errors()[0] if isinstance(exc, ValidationError) else None
        what = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}" if first else str(exc)
        raise RunError(
            f"The manifest cannot be read ({what}).",
            "It was written by another version or changed by hand; fetch it again or build anew.",
            file=path,
        ) from exc


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex, read in pieces."""
    state = sha256()
    with open(path, "rb") as handle:
        while piece := handle.read(1 << 20):
            state.update(piece)
    return state.hexdigest()


def file_entry(path: Path) -> FileEntry:
    """Checksum and size of a file, and rows where it is Parquet."""
    rows = pl.scan_parquet(path).select(pl.len()).collect().item() if path.suffix == ".parquet" else None
    return FileEntry(sha256=file_digest(path), bytes=path.stat().st_size, rows=rows)


def verify_tree(folder: Path, *, allow_unlisted: bool = False) -> Manifest:
    """Prove that a release folder agrees with its manifest: every file there, of this size and digest, and no other.

    Args:
        folder: a tree made by `publish --to-dir`, or a download of a release.
        allow_unlisted: accept further files (a download cache may hold some).

    Returns:
        The manifest.

    Raises:
        SchemaError: naming the file that disagrees.
        RunError: no manifest, or one of another version.
    """
    manifest = read_manifest(folder / MANIFEST)
    remedy = "Fetch the release again; if it still disagrees, the release itself was changed after it was made."
    for name, entry in manifest.files.items():
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name:
            raise SchemaError(
                f"The manifest names a path outside the folder: '{name}'.", remedy, file=folder / MANIFEST
            )
        path = folder / name
        if not path.is_file():
            raise SchemaError("The manifest lists this file, but it is missing.", remedy, file=path)
        size = path.stat().st_size
        if size != entry.bytes:
            raise SchemaError(f"The file has {size} bytes; the manifest says {entry.bytes}.", remedy, file=path)
        if file_digest(path) != entry.sha256:
            raise SchemaError("The file's SHA-256 is not the one in the manifest.", remedy, file=path)
    if not allow_unlisted:
        known = set(manifest.files) | NOT_LISTED
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if path.is_file() and not hidden and name not in known:
                raise SchemaError("The manifest does not list this file.", remedy, file=path)
    return manifest
