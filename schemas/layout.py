"""Where things lie in a run folder. The one place that knows the names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_NUMBERED = re.compile(r"(.+)-\d{5}-of-\d{5}")


def shard_names(split: str, count: int) -> list[str]:
    """File names of a split's shards, as the Hub knows them."""
    return [f"{split}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]


SPEC_FILES = ("*.md", "categories/*.md", "rendered/*.md", "clauses.parquet")
"""What of a run's `spec/` is shipped."""


def split_of_file(path: Path) -> str:
    """The split that a Parquet file of a run or a release belongs to."""
    found = _NUMBERED.fullmatch(path.stem)
    return found[1] if found else path.stem


@dataclass(frozen=True)
class RunLayout:
    """Paths of one run folder.

    Attributes:
        root: the run folder.
    """

    root: Path

    @property
    def spec_files(self) -> list[Path]:
        """The files of `spec/` that are shipped, in order."""
        return sorted(path for pattern in SPEC_FILES for path in self.spec.glob(pattern))

    @property
    def recipe(self) -> Path:
        """`recipe.yaml`: exactly what was asked, resolved."""
        return self.root / "recipe.yaml"

    @property
    def spec(self) -> Path:
        """`spec/`: the spec as used, in our own folder layout."""
        return self.root / "spec"

    @property
    def clauses(self) -> Path:
        """`spec/clauses.parquet`: the clause table."""
        return self.spec / "clauses.parquet"

    @property
    def rendered(self) -> Path:
        """`spec/rendered/CATEGORY.md`: what the models were shown."""
        return self.spec / "rendered"

    @property
    def prompts(self) -> Path:
        """`prompts/`: parts of the prompts table."""
        return self.root / "prompts"

    @property
    def removed(self) -> Path:
        """`cleaning/removed.parquet`: prompts of the sources that are not in the set, each with its reason."""
        return self.root / "cleaning" / "removed.parquet"

    @property
    def cleaning(self) -> Path:
        """`cleaning/summary.json`: what became of the sources' rows, in numbers."""
        return self.root / "cleaning" / "summary.json"

    @property
    def cleaned_from(self) -> Path:
        """`cleaning/made_from.json`: what prompts, removals and numbers were made from, and their digests."""
        return self.root / "cleaning" / "made_from.json"

    @property
    def evaluation(self) -> Path:
        """`cleaning/evaluation.parquet`: prompts that are held out for evaluation."""
        return self.root / "cleaning" / "evaluation.parquet"

    @property
    def unsure(self) -> Path:
        """`audit/unlabelled_prompts.jsonl`: prompts without a sure category, for people to label; a prompt source."""
        return self.audit / "unlabelled_prompts.jsonl"

    @property
    def candidates(self) -> Path:
        """`candidates/`: parts of the candidates table."""
        return self.root / "candidates"

    @property
    def screens(self) -> Path:
        """`screens/RULES/`: what the screens said of each part of the candidates; derived, may be deleted."""
        return self.root / "screens"

    @property
    def judgments(self) -> Path:
        """`judgments/`: parts of the judgments table."""
        return self.root / "judgments"

    @property
    def comparisons(self) -> Path:
        """`comparisons/`: parts of the comparisons table."""
        return self.root / "comparisons"

    @property
    def audit(self) -> Path:
        """`audit/`: human verdicts."""
        return self.root / "audit"

    @property
    def labels(self) -> Path:
        """`audit/labels.parquet`: one human label a candidate, which calibration reads."""
        return self.audit / "labels.parquet"

    @property
    def audit_records(self) -> Path:
        """`audit/records.parquet`: what people are asked."""
        return self.audit / "records.parquet"

    @property
    def audit_responses(self) -> Path:
        """`audit/responses.parquet`: what they answered."""
        return self.audit / "responses.parquet"

    @property
    def audit_verdicts(self) -> Path:
        """`audit/verdicts.parquet`: what follows, derived."""
        return self.audit / "verdicts.parquet"

    @property
    def audit_server(self) -> Path:
        """`audit/server.json`: which Argilla datasets hold this run's records."""
        return self.audit / "server.json"

    @property
    def audit_summary(self) -> Path:
        """`audit/summary.json`: what the audit measured, for report and card."""
        return self.audit / "summary.json"

    @property
    def ledger(self) -> Path:
        """`ledger.sqlite`: every finished model call."""
        return self.root / "ledger.sqlite"

    @property
    def datasets(self) -> Path:
        """`datasets/CONFIG/SPLIT.parquet`: derived sets; a large one is `SPLIT-00000-of-0000N.parquet`."""
        return self.root / "datasets"

    def shards(self, config: str, split: str) -> list[Path]:
        """Every file of a derived set, in order."""
        found = sorted((self.datasets / config).glob(f"{split}*.parquet"))
        return [path for path in found if split_of_file(path) == split]

    @property
    def report(self) -> Path:
        """`report/`: plots and tables."""
        return self.root / "report"

    @property
    def manifest(self) -> Path:
        """`manifest.json`: written last; its existence means complete."""
        return self.root / "manifest.json"

    @property
    def lock(self) -> Path:
        """`.lock`: held by the process that builds."""
        return self.root / ".lock"
