"""`publish --check`: does a release keep its promises, and do card, manifest and data say the same?"""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl

from specdistill import __version__
from specdistill.cards.card import card_text
from specdistill.cards.numbers import numbers
from specdistill.cards.report import numbers_json
from specdistill.cards.tree import CARD, shown_otherwise
from specdistill.errors import RunError, SchemaError
from specdistill.schemas.configs import TABLES
from specdistill.schemas.contract import card_schemas
from specdistill.schemas.invariants import Facts, check_sets, scan_frame
from specdistill.schemas.manifest import Manifest
from specdistill.schemas.verify import MANIFEST, verify_tree

SPLIT = re.compile(r"[a-z][a-z0-9_]{0,63}")


def check_release(folder: Path) -> list[str]:
    """What does not agree, in sentences; empty when everything does.

    Args:
        folder: a release tree, from `publish --to-dir` or `fetch_release`.
    """
    try:
        manifest = verify_tree(folder)
    except (SchemaError, RunError) as exc:
        return [str(exc)]
    wrong = []
    if manifest.release is None:
        wrong.append("The manifest names no release.")
    try:
        sets = release_sets(folder, manifest)
        clauses = scan_frame(folder / "spec" / "clauses.parquet").collect()
    except SchemaError as exc:
        return [str(exc)]
    counted = {config: {split: rows_of(frame) for split, frame in splits.items()} for config, splits in sets.items()}
    if counted != manifest.counts:
        wrong.append(f"The manifest counts {manifest.counts}, the files hold {counted}.")
    wrong += [
        f"spec/rendered/{name} is not what the manifest says the models were shown."
        for name in shown_otherwise(folder / "spec" / "rendered", manifest)
    ]
    facts = Facts(
        clauses=clauses,
        rendered=tuple(path.read_text(encoding="utf-8") for path in sorted((folder / "spec/rendered").glob("*.md"))),
        copied_words=manifest.recipe.get("screens", {}).get("copied_words", Facts.copied_words),
        threshold=manifest.recipe.get("judge", {}).get("threshold"),
    )
    wrong += [str(violation) for violation in check_sets(sets, facts)]
    return wrong + card_disagrees(folder, manifest, sets, clauses)


def card_disagrees(
    folder: Path, manifest: Manifest, sets: dict[str, dict[str, pl.LazyFrame]], clauses: pl.DataFrame
) -> list[str]:
    """Measure the release again and write its card again: both must come out as they are.

    Another version of specdistill may word a card differently; then only numbers and columns are compared.
    """
    measured = numbers(sets, manifest, clauses)
    if manifest.specdistill != __version__:
        stored = json.loads((folder / "report" / "numbers.json").read_bytes())
        differing = sorted(key for key, value in measured.items() if key in stored and stored[key] != value)
        return [f"report/numbers.json says otherwise about {', '.join(differing)}."] if differing else []
    wrong = []
    if (folder / "report" / "numbers.json").read_bytes() != numbers_json(measured):
        wrong.append("report/numbers.json is not what the files give.")
    plots = {path.name: b"" for path in sorted((folder / "report").glob("*.png"))}
    card = (folder / CARD).read_text(encoding="utf-8")
    again = card_text(folder, manifest, measured, plots)
    if card != again:
        line = next(
            (n for n, (a, b) in enumerate(zip(card.splitlines(), again.splitlines(), strict=False), 1) if a != b),
            min(len(card.splitlines()), len(again.splitlines())) + 1,
        )
        wrong.append(f"README.md is not the card of these files (first difference in line {line}).")
    if card_schemas(card) != card_schemas(again):
        wrong.append("README.md states other columns than the files have.")
    return wrong


def release_sets(folder: Path, manifest: Manifest) -> dict[str, dict[str, pl.LazyFrame]]:
    """The sets of a release, as the manifest counts them, not yet read.

    Raises:
        SchemaError: a file is missing or cannot be read.
    """
    sets: dict[str, dict[str, pl.LazyFrame]] = {}
    for config, splits in manifest.counts.items():
        for split in splits:
            if config not in TABLES or not SPLIT.fullmatch(split):
                raise SchemaError(
                    f"The manifest counts rows of {config!a}/{split!a}, which no release has.", "Fetch it again.",
                    file=folder / MANIFEST,
                )  # fmt: skip
            shards = sorted((folder / config).glob(f"{split}-*-of-*.parquet"))
            if not shards:
                raise SchemaError(
                    f"The manifest counts rows of {config}/{split}, but there is no file.", "Fetch the release again.",
                    file=folder / config,
                )  # fmt: skip
            sets.setdefault(config, {})[split] = pl.concat([scan_frame(shard) for shard in shards])
    return sets


def rows_of(frame: pl.LazyFrame) -> int:
    """Number of rows."""
    return int(frame.select(pl.len()).collect().item())
