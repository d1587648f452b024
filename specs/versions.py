"""Opening a policy as it was at some time: a git revision, a run, a release."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from specdistill.errors import SpecError
from specdistill.specs.loader import OVERVIEW, libraries, load_spec
from specdistill.specs.model import Spec

_REVISION = re.compile(r"^(?P<rev>[^:\s]+):(?P<path>.+)$")


def open_version(source: str) -> Spec:
    """A policy from a library name, folder, file, `REVISION:path` of the git repository here, run or release.

    In a run or release folder it is the `spec/` in it. A git path is relative to the repository's root, or to the
    current folder if it starts with `./`. `hub:org/name@v1.0.0` opens a release on the hub.

    Raises:
        SpecError: nothing is there under that name, or it cannot be read.
    """
    if source.startswith("hub:"):
        return _from_hub(source)
    path = Path(source)
    match = _REVISION.match(source)
    if source not in libraries() and not path.exists() and match:
        return _from_git(match["rev"], match["path"], source)
    if path.is_dir() and not (path / OVERVIEW).is_file() and (path / "spec" / OVERVIEW).is_file():
        return load_spec(path / "spec")
    return load_spec(source)


def _from_git(revision: str, path: str, source: str) -> Spec:
    if revision.startswith("-"):
        raise SpecError(f"'{revision}' is no git revision.", "Write REVISION:path, e.g. HEAD~1:specs/safety.")
    clean = path.rstrip("/")
    clean = "./" if clean == "." else clean  # as git writes the folder it is in
    kind = _git(["cat-file", "-t", f"{revision}:{clean}"], source).decode().strip()
    with TemporaryDirectory() as scratch:
        place = Path(scratch, Path(clean).name if Path(clean).name not in ("", ".", "..") else "spec")
        if kind == "tree":
            tree = _git(["rev-parse", f"{revision}:{clean}"], source).decode().strip()
            # With the repository named, git takes any folder for its top: in a subfolder it would archive only that.
            here = _git(["rev-parse", "--absolute-git-dir"], source).decode().rstrip("\n")
            with tarfile.open(fileobj=io.BytesIO(_git(["--git-dir", here, "archive", tree], source))) as archive:
                archive.extractall(place, filter="data")
        else:
            place.write_bytes(_git(["cat-file", "blob", f"{revision}:{clean}"], source))
        if place.is_dir() and not (place / OVERVIEW).is_file() and (place / "spec" / OVERVIEW).is_file():
            return _named(load_spec(place / "spec"), str(place), source)
        return _named(load_spec(place), str(place), source)


def _git(arguments: Sequence[str], source: str) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    except OSError as exc:
        raise SpecError(f"git cannot be run to open '{source}': {exc}.", "Install git, or name a folder.") from exc
    if done.returncode:
        reason = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it failed"])[0]
        raise SpecError(
            f"There is no spec '{source}': git says: {reason}.",
            "Name a folder or file, or REVISION:path of the git repository you are in.",
        )
    return done.stdout


def _named(spec: Spec, place: str, source: str) -> Spec:
    """The spec with the scratch folder replaced by its source in every place."""

    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: source + item.removeprefix(place)
                if key in ("file", "root") and isinstance(item, str)
                else rename(item)
                for key, item in value.items()
            }
        return [rename(item) for item in value] if isinstance(value, list | tuple) else value

    return Spec.model_validate(rename(spec.model_dump()))


def _from_hub(source: str) -> Spec:
    """The `spec/` of a release on the hub, by the commit its tag points to now, never by what is cached."""
    from huggingface_hub import HfApi, snapshot_download

    name, _, revision = source.removeprefix("hub:").partition("@")
    try:
        commit = HfApi().dataset_info(name, revision=revision or None).sha
        folder = snapshot_download(name, repo_type="dataset", revision=commit, allow_patterns="spec/*")
    except Exception as exc:  # the client raises its own, httpx's and builtin errors
        raise SpecError(
            f"The spec of '{source}' cannot be fetched: {exc}",
            "Check the id, the tag and the connection, or name a local folder.",
        ) from exc
    return _named(load_spec(Path(folder) / "spec"), str(Path(folder) / "spec"), source)
