"""What the screens said of stored candidates, kept beside them: each is looked at once in the life of a run.

The findings of a part of candidates lie in `screens/RULES/`, under the part's own name, which is its content's digest.
RULES is the digest of everything else that a finding depends on: the facts of the spec, the limits, and the code. So
nothing that is kept can be out of date, and all of it may be deleted.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from specdistill.builders.code import code_digest
from specdistill.builders.parts import Part, content_mark, parquet_bytes
from specdistill.builders.screens import SCREENED, Screening, SpecFacts
from specdistill.builders.steps import Step, nobody
from specdistill.schemas.digest import digest
from specdistill.schemas.files import write_whole
from specdistill.schemas.recipe import Screens

if TYPE_CHECKING:
    from specdistill.builders.stored import Stored

HERE = Path(__file__).parent
CODE = (
    "filters.py",
    "language.py",
    "reasoning.py",
    "screens.py",
    "../schemas/citations.py",
    "../schemas/copying.py",
    "../schemas/leak.py",
    "../schemas/policy_talk.py",
    "../schemas/vocabulary.py",
)
"""Whose text decides what is found."""


class KeptScreens:
    """Findings of a run's candidates under one set of rules.

    State: the file of each part that has one, by the part's stem.

    Args:
        folder: `screens/` of the run.
    """

    def __init__(self, folder: Path, facts: SpecFacts, limits: Screens) -> None:
        self.folder = folder / rules_digest(facts, limits)
        found = (path for path in sorted(self.folder.glob("part-*.parquet")) if is_whole(path))
        self._files = {path.name.split(".")[0]: path for path in found}

    def of(self, parts: Sequence[Part]) -> tuple[pl.LazyFrame, list[Part]]:
        """(Findings of parts, not yet read; the parts that have none)."""
        files = [self._files[part.path.stem] for part in parts if part.path.stem in self._files]
        kept = pl.scan_parquet(files, schema=SCREENED) if files else pl.LazyFrame(schema=SCREENED)
        return kept, [part for part in parts if part.path.stem not in self._files]

    def keep(self, part: Path, findings: pl.DataFrame) -> None:
        """Write the findings of a part.

        Raises:
            DiskError: the disk is full or the folder cannot be written.
        """
        data = parquet_bytes(findings)
        self._files[part.stem] = path = self.folder / f"{part.stem}.{content_mark(data)}.parquet"
        write_whole(path, data)

    def drop_others(self) -> None:
        """Delete what was found under other rules."""
        for other in self.folder.parent.glob("*/"):
            if other != self.folder:
                shutil.rmtree(other)


def keep_screens(stored: Stored, step: Step = nobody) -> None:
    """Look at all stored candidates that have no kept findings and whose prompt is in the run.

    Raises:
        DiskError: the disk is full or the folder cannot be written.
    """
    stored.screens.drop_others()
    total, done = sum(part.rows for part in stored.screens.of(stored.candidate_parts)[1]), 0
    for part, rows in stored.unscreened():
        # One for each part: a call that failed and later succeeded has the same id in two of them.
        screening = Screening(stored.facts, stored.recipe.screens)
        stored.screens.keep(part.path, screening.frame(rows.iter_rows(named=True)))
        step("screening candidates", done := done + part.rows, total)


def rules_digest(facts: SpecFacts, limits: Screens) -> str:
    """Digest of all that a finding depends on besides the candidate and its prompt; Python has the Unicode tables."""
    rules = [sorted(facts.anchors), sorted(facts.shingles), limits.model_dump(mode="json")]
    return digest("screens", *rules, code_digest(HERE, CODE), sys.version_info[:3])


def is_whole(path: Path) -> bool:
    """Whether a file's bytes are those that its name says: Polars aborts the process on some damage."""
    return path.name.split(".")[1] == content_mark(path.read_bytes())
