"""The rows and the policy of a run or of a release on disk, for `specdistill spec coverage`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from specdistill.errors import RunError
from specdistill.schemas.configs import SFT
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.rows import CANDIDATES
from specdistill.schemas.vocabulary import Arm
from specdistill.specs.loader import load_spec
from specdistill.specs.model import Spec


@dataclass(frozen=True)
class SpecRows:
    """What coverage is computed from.

    Attributes:
        spec: the policy as the rows were made with.
        accepted: rows of `sft`, all splits.
        candidates: `category`, `spec_digest` and `reasoning` of every candidate sampled with the policy; a
            release has those of `sft` and `rejected`.
    """

    spec: Spec
    accepted: pl.DataFrame
    candidates: pl.DataFrame

    def shown(self, digests: Sequence[str]) -> pl.DataFrame:
        """Candidates sampled with one of these rendered texts in view: not those of an older policy."""
        return self.candidates.filter(pl.col("spec_digest").is_in(list(digests)))


def rows_of(folder: Path) -> SpecRows:
    """Read them.

    Raises:
        RunError: the folder is neither a run nor a release, or a file of it cannot be read.
    """
    layout = RunLayout(folder)
    if not layout.spec.is_dir():
        raise RunError(f"'{folder}' holds no spec.", "Name a run folder or one made by publish --to-dir.", file=folder)
    spec = load_spec(layout.spec)
    if layout.candidates.is_dir():
        accepted = _read(layout.datasets / "sft", SFT.empty())
        candidates = _read(layout.candidates, CANDIDATES.empty()).filter(pl.col("arm") == Arm.SPEC.value)
        return SpecRows(spec, accepted, candidates)
    accepted = _read(folder / "sft", SFT.empty())
    rejected = _read(folder / "rejected", CANDIDATES.empty())
    reasoned = accepted.select(
        "category",
        "spec_digest",
        pl.col("completion").list.first().struct.field("reasoning_content").alias("reasoning"),
    )
    others = rejected.filter(pl.col("arm") == Arm.SPEC.value).select("category", "spec_digest", "reasoning")
    return SpecRows(spec, accepted, pl.concat([reasoned, others]))


def _read(folder: Path, empty: pl.DataFrame) -> pl.DataFrame:
    """All Parquet files of a folder as one frame; `empty` where there is none."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        return empty
    try:
        return pl.concat([pl.read_parquet(file) for file in files], how="diagonal_relaxed")
    except (pl.exceptions.PolarsError, OSError) as exc:
        raise RunError(
            f"The rows cannot be read: {exc}", "Build again, or fetch the files again.", file=folder
        ) from exc
