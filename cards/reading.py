"""Reading a release back: tag to commit first, then every file by that commit, then the manifest's proof.

`load_dataset(…, revision=TAG)` quietly gives another revision from its cache when the hub cannot be reached. Here a tag
that cannot be resolved is an error.
"""

from __future__ import annotations

import re
from pathlib import Path

from specdistill.cards.remote import Passing, attempt
from specdistill.errors import PublishError, SchemaError
from specdistill.schemas.verify import verify_tree

RELEASE = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./+-]+))?")
"""`org/name@revision`."""
OID = re.compile(r"[0-9a-f]{40}")


def fetch_release(repo: str, revision: str, *, endpoint: str | None = None, cache_dir: Path | None = None) -> Path:
    """Download a release and prove it.

    Args:
        revision: a tag, branch or full commit id.
        cache_dir: where to keep it; default is the hub's cache. One folder a hub: names repeat between hubs.

    Returns:
        The folder, named after the commit.

    Raises:
        PublishError: the hub cannot be reached, or has no such repository or revision.
        SchemaError: a file is not what the manifest says, or the tag's version is not the manifest's.
        RunError: no manifest.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    api = HfApi(endpoint=endpoint)

    def resolve() -> str:
        try:
            return str(api.dataset_info(repo, revision=revision).sha)
        except (RepositoryNotFoundError, RevisionNotFoundError) as exc:
            what = "revision" if isinstance(exc, RevisionNotFoundError) else "repository"
            raise PublishError(
                f"The hub has no {what} '{repo}@{revision}'.",
                "Check the name, and that your token may see it.",
            ) from exc

    try:
        oid = attempt(f"find {repo}@{revision}", resolve)
        folder = attempt(
            "download the release",
            lambda: api.snapshot_download(repo, repo_type="dataset", revision=oid, cache_dir=cache_dir),
        )
    except Passing as exc:
        raise PublishError(
            exc.cause, "Try again when the hub can be reached. What the cache holds may be another revision."
        ) from exc
    path = Path(folder)
    if path.name != oid:
        raise PublishError(
            f"Asked for commit {oid}, the hub's client gave {path.name}.", "Try again when the hub can be reached."
        )
    manifest = verify_tree(path)
    version = manifest.release.version if manifest.release else None
    if revision.startswith("v") and re.fullmatch(r"v\d+\.\d+\.\d+", revision) and revision != f"v{version}":
        raise SchemaError(
            f"The tag {revision} points at version {version}.", "The tag was moved by hand; use the commit you trust.",
            file=path / "manifest.json",
        )  # fmt: skip
    return path
