"""The hub as a release needs it: read its state, make a commit, set a tag. Every failure is either passing or final.

`huggingface_hub` retries uploads and listings by itself, but not the commit, the tag or the creation of a repository;
what may be tried again is for the caller to decide after reading the hub's state anew.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from specdistill.errors import PublishError

T = TypeVar("T")
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 522, 524})
"""HTTP statuses after which the same request may succeed."""
CONFLICTS = frozenset({409, 412})
"""Somebody else was faster."""
TRANSFER = {
    "HF_XET_DATA_MAX_CONCURRENT_FILE_INGESTION": "1",
    "HF_XET_CLIENT_AC_INITIAL_UPLOAD_CONCURRENCY": "1",
    "HF_XET_CLIENT_AC_MAX_UPLOAD_CONCURRENCY": "1",
}
"""Settings of `hf_xet` unless the user has their own. It packs 64 MB at a time, and holds a pack for each file being
read and two for each upload at work: by itself up to 8 files and 64 uploads (huggingface_hub issue 4145). One of each
keeps it below 250 MB; measured with 1.8.0, as fast against a hub on the same machine. With a hub far away more uploads
at a time may be faster: set the last two, and count 128 MB for each."""
PACK = 64_000_000
"""Bytes of a file from which on it is sent by itself."""
_SECRET = re.compile(r"(?:hf_[A-Za-z0-9]{8,}|(?<=proof=)[^&\s'\"]+|(?<=[Bb]earer )\S+|(?<=Signature=)[^&\s'\"]+)")


class Passing(PublishError):
    """A failure after which the same thing may succeed.

    Args:
        wait: seconds the hub asks to wait.
    """

    def __init__(self, cause: str, wait: float | None = None) -> None:
        super().__init__(cause, "Run the same command again: it finishes what is missing and repeats nothing.")
        self.wait = wait


class Overtaken(Passing):
    """The hub has another head, tag or repository than a moment ago."""


@dataclass(frozen=True)
class RemoteFile:
    """A file at a revision: its git name, and its SHA-256 where the hub tells it (LFS and Xet files)."""

    oid: str
    sha256: str | None
    size: int


@dataclass(frozen=True)
class HubState:
    """A dataset repository now.

    Attributes:
        head: the branch's commit; None when the branch does not exist.
        main: the default branch's commit; None without a repository.
        tags: tag to commit.
        pulls: `refs/pr/N` to commit.
    """

    exists: bool
    head: str | None
    main: str | None
    tags: Mapping[str, str]
    pulls: Mapping[str, str]
    private: bool
    gated: bool


class Remote:
    """One dataset repository on a hub.

    State: a client. The token comes from the environment or the hub's own login, and is never kept or shown.
    """

    def __init__(self, repo: str, endpoint: str | None = None) -> None:
        for name, value in TRANSFER.items():
            os.environ.setdefault(name, value)
        from huggingface_hub import HfApi

        self.repo = repo
        self.api = HfApi(endpoint=endpoint)
        self.url = f"{self.api.endpoint}/datasets/{repo}"

    def state(self, branch: str) -> HubState:
        """Read the repository's refs and settings."""
        from huggingface_hub.errors import RepositoryNotFoundError

        def read() -> HubState:
            try:
                info = self.api.dataset_info(self.repo)
                refs = self.api.list_repo_refs(self.repo, repo_type="dataset", include_pull_requests=True)
            except RepositoryNotFoundError:
                return HubState(False, None, None, {}, {}, False, False)
            heads = {ref.name: ref.target_commit for ref in refs.branches}
            return HubState(
                True,
                heads.get(branch),
                heads.get("main"),
                {ref.name: ref.target_commit for ref in refs.tags},
                {ref.ref: ref.target_commit for ref in refs.pull_requests or []},
                bool(info.private),
                bool(info.gated),
            )

        return attempt("read the repository", read)

    def tree(self, revision: str) -> dict[str, RemoteFile]:
        """All files at a commit."""
        from huggingface_hub.hf_api import RepoFile

        def read() -> dict[str, RemoteFile]:
            listed = self.api.list_repo_tree(self.repo, recursive=True, revision=revision, repo_type="dataset")
            return {
                item.path: RemoteFile(item.blob_id, item.lfs.sha256 if item.lfs else None, item.size)
                for item in listed
                if isinstance(item, RepoFile)
            }

        return attempt("list the files", read)

    def read(self, path: str, revision: str) -> bytes | None:
        """A small file at a commit, or None where there is none. Not through the shared cache: that one does not
        know which hub a file came from."""
        from huggingface_hub.errors import EntryNotFoundError

        def read() -> bytes | None:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    found = self.api.hf_hub_download(
                        self.repo, path, revision=revision, repo_type="dataset", cache_dir=folder
                    )
                except EntryNotFoundError:
                    return None
                return Path(found).read_bytes()

        return attempt(f"read {path}", read)

    def create(self, *, private: bool) -> None:
        """Create the repository; nothing happens when it exists."""
        attempt(
            "create the repository",
            lambda: self.api.create_repo(self.repo, repo_type="dataset", private=private, exist_ok=True),
        )

    def gate(self) -> None:
        """Let readers ask for access."""
        attempt(
            "set the access rule",
            lambda: self.api.update_repo_settings(self.repo, repo_type="dataset", gated="manual"),
        )

    def branch(self, name: str, start: str) -> None:
        """Create a branch; nothing happens when it exists."""
        attempt(
            "create the branch",
            lambda: self.api.create_branch(self.repo, repo_type="dataset", branch=name, revision=start, exist_ok=True),
        )

    def commit(
        self,
        add: Mapping[str, Path],
        remove: Iterable[str],
        *,
        branch: str,
        parent: str,
        title: str,
        description: str,
        pull_request: bool = False,
    ) -> tuple[str, str | None]:
        """One commit with every change, on exactly this parent.

        Returns:
            Its oid, and the pull request's URL.

        Raises:
            Overtaken: the branch has another head by now.
            Passing: it may or may not have been made; read the state again.
            PublishError: the hub refuses it.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations: list[Any] = [CommitOperationAdd(name, str(path)) for name, path in sorted(add.items())]
        for operation in operations:
            if operation.upload_info.size > PACK:
                self._send(operation, branch, pull_request=pull_request)
        operations += [CommitOperationDelete(name, is_folder=False) for name in sorted(remove)]
        made = attempt(
            "commit",
            lambda: self.api.create_commit(
                self.repo,
                operations,
                commit_message=title,
                commit_description=description,
                repo_type="dataset",
                revision=branch,
                parent_commit=parent,
                create_pr=pull_request,
            ),
        )
        return made.oid, made.pr_url

    def _send(self, operation: Any, branch: str, *, pull_request: bool) -> None:
        """Send a large file by itself, ahead of the commit that will name it. Together, `hf_xet` would keep what each
        file left over beside what it reads of the next."""
        attempt(
            f"take {operation.path_in_repo}",
            lambda: self.api.preupload_lfs_files(
                self.repo, [operation], repo_type="dataset", revision=branch, create_pr=pull_request
            ),
        )

    def tag(self, name: str, oid: str, message: str) -> None:
        """Tag a commit.

        Raises:
            Overtaken: the tag exists by now.
        """
        attempt(
            "set the tag",
            lambda: self.api.create_tag(
                self.repo, tag=name, revision=oid, tag_message=message, repo_type="dataset", exist_ok=False
            ),
        )


def attempt(what: str, do: Callable[[], T]) -> T:
    """Do something on the hub; its errors become ours.

    Raises:
        Overtaken, Passing, PublishError: see there. No message holds a token.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return do()
    except HfHubHTTPError as exc:
        status = exc.response.status_code if exc.response is not None else None
        cause = f"The hub could not {what} (HTTP {status}): {told(exc)}"
        if status in CONFLICTS:
            raise Overtaken(cause) from exc
        if status is None or status in PASSING:
            raise Passing(cause, retry_after(exc)) from exc
        raise PublishError(cause, remedy_for(status)) from exc
    except (httpx2.HTTPError, ConnectionError, TimeoutError) as exc:
        raise Passing(f"The hub could not be reached to {what}: {told(exc)}") from exc
    except (RuntimeError, OSError) as exc:  # what the upload libraries raise when a transfer breaks
        raise Passing(f"Could not {what}: {told(exc)}") from exc
    except ValueError as exc:
        raise PublishError(
            f"The hub could not {what}: {told(exc)}", "Look at the message; trying again will not help."
        ) from exc


def told(exc: BaseException) -> str:
    """An error's words on one line, without tokens or signed links."""
    text = " ".join((str(exc) or type(exc).__name__).split())
    return _SECRET.sub("***", text)[:600]


def retry_after(exc: Any) -> float | None:
    """Seconds the hub asks to wait."""
    with suppress(AttributeError, TypeError, ValueError):
        return float(exc.response.headers.get("Retry-After"))
    return None


def remedy_for(status: int) -> str:
    """What to do about a final refusal."""
    if status in (401, 403):
        return "Log in with `hf auth login`, or set HF_TOKEN to a token that may write to this repository."
    if status == 404:
        return "Check the repository's name, and that your token may see it."
    return "Look at the message; trying again will not help."
