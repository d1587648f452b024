"""A client process for the release tests: one JSON request a line in, one JSON answer a line out.

The real client libraries, with the environment they were started with; only waiting between attempts is cut short.
"""

from __future__ import annotations

import json
import sys
import time as real_time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.utils._http as hub_http

from specdistill.cards import remote
from specdistill.cards.plan import Target
from specdistill.cards.publishing import publish_run
from specdistill.cards.reading import fetch_release
from specdistill.cards.release import release
from specdistill.cards.remote import Remote
from specdistill.cards.tree import Ask
from specdistill.errors import SpecdistillError
from specdistill.schemas.layout import RunLayout

hub_http.time = SimpleNamespace(**{**vars(real_time), "sleep": lambda seconds: real_time.sleep(min(seconds, 0.01))})
remote.PACK = 150_000  # so that one file of the tests is sent by itself, as shards of real releases are


def short(seconds: float) -> None:
    """Wait, but not long."""
    real_time.sleep(min(seconds, 0.05))


def tree(asked: dict[str, Any]) -> dict[str, Any]:
    """Release a tree that exists."""
    target = Target(asked["version"], asked.get("branch", "main"), pull_request=asked.get("pull_request", False))
    folder = Path(asked["folder"])
    outcome = release(
        Remote(asked["repo"]),
        target,
        lambda before: folder,
        tries=asked.get("tries", 8),
        wait=short,
        dry_run=asked.get("dry_run", False),
    )
    return {"status": outcome.status, "oid": outcome.oid, "url": outcome.url}


def run(asked: dict[str, Any]) -> dict[str, Any]:
    """Publish a run, from scan to tag."""
    published = publish_run(
        RunLayout(Path(asked["run"])),
        Ask(asked["version"], "CC0-1.0", repo=asked["repo"], languages=("en",)),
        target=Target(asked["version"], private=asked.get("private", False)),
        scanned=asked.get("scan", False),
        accept_findings=asked.get("accept", False),
        dry_run=asked.get("dry_run", False),
    )
    outcome = published.outcome
    assert outcome is not None
    return {
        "status": outcome.status,
        "oid": outcome.oid,
        "added": list(outcome.plan.added),
        "changed": list(outcome.plan.changed),
        "removed": list(outcome.plan.removed),
        "schema": list(outcome.plan.schema),
        "rows": dict(outcome.plan.rows),
        "previous": outcome.plan.previous,
        "changes": published.manifest.release.changes if published.manifest and published.manifest.release else [],
    }


def fetch(asked: dict[str, Any]) -> dict[str, Any]:
    """Read a release back."""
    return {"folder": str(fetch_release(asked["repo"], asked["revision"]))}


def load(asked: dict[str, Any]) -> dict[str, Any]:
    """`load_dataset`, whole and streamed."""
    from datasets import load_dataset

    place = (asked["repo"], asked["config"])
    whole = load_dataset(*place, revision=asked["revision"])
    streamed = load_dataset(*place, revision=asked["revision"], split="train", streaming=True)
    assert next(iter(streamed)) == whole["train"][0]
    return {
        "rows": {split: rows.num_rows for split, rows in whole.items()},
        "features": {split: str(rows.features) for split, rows in whole.items()},
        "streamed": sum(1 for _ in streamed),
        "fingerprint": [row["id"] for row in whole["train"]],
    }


def main() -> None:
    """Answer until the input ends."""
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"tree": tree, "run": run, "fetch": fetch, "load": load}[asked.pop("do")](asked)
        except SpecdistillError as exc:
            answer = {"error": type(exc).__name__, "message": str(exc)}
        except Exception as exc:
            answer = {"error": f"unexpected {type(exc).__name__}", "message": str(exc)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
