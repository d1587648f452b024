"""Which commit a hub dataset is at: asked once a build, then read by that commit.

A branch or tag can move while a build runs, and with the hub out of reach `datasets` answers with whatever it has
cached; a commit is what it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from specdistill.errors import PromptError

COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass
class Commits:
    """State: what was asked so far, (dataset, revision) to commit."""

    known: dict[tuple[str, str | None], str] = field(default_factory=dict)

    def of(self, dataset: str, revision: str | None) -> str:
        """The commit that a revision (None: the default branch) is at.

        Raises:
            PromptError: there is no such dataset or revision, or the hub does not answer.
        """
        if revision and COMMIT.fullmatch(revision):
            return revision
        if (dataset, revision) not in self.known:
            self.known[dataset, revision] = ask(dataset, revision)
        return self.known[dataset, revision]


def ask(dataset: str, revision: str | None) -> str:
    """Ask the hub."""
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(dataset, revision=revision).sha)
    except Exception as exc:  # the client raises its own, httpx's and builtin errors; wrapped where they enter
        raise PromptError(
            f"The hub dataset '{dataset}' at revision '{revision or 'main'}' cannot be found: {exc}.",
            "Check id and revision, and that the hub can be reached; HF_TOKEN is needed for private sets.",
        ) from exc


def split_id(hub: str, revision: str | None) -> tuple[str, str | None]:
    """(dataset, revision) of `id`, or `id@revision`; a revision of its own comes first."""
    name, _, tagged = hub.partition("@")
    return name, revision or tagged or None
