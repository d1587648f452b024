"""The manifest: what a run or a release holds, written last. Its existence means complete."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Loose(BaseModel):
    """Unknown keys are refused: an unknown key means another version wrote the file."""

    model_config = ConfigDict(extra="forbid")


class FileEntry(Loose):
    """One file of a run or release."""

    sha256: str
    bytes: int
    rows: int | None = None
    """Rows, for Parquet files."""


class SpecEntry(Loose):
    """The policy the rows were made with."""

    id: str
    title: str
    version: str
    licence: str | None
    digest: str
    """Digest of the whole spec."""
    rendered: dict[str, str] = Field(default_factory=dict)
    """Category id to digest of the text the models were shown."""


class ModelEntry(Loose):
    """One model and how it was sampled."""

    role: str
    """`generator`, `contrast`, `repair`, `constitution`, or `judge` (one for each judge of a panel)."""
    model: str
    engine: str
    digest: str
    """generator_digest or judge_digest, as on the rows."""
    sampling: dict[str, Any] = Field(default_factory=dict)


class StageEntry(Loose):
    """What one stage did, over all sessions of the run."""

    rows: int
    calls: int = 0
    failed_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    """Wall seconds spent in the stage, over all sessions."""


class Release(Loose):
    """Set when the manifest is part of a release: what the card says beside what the files themselves show."""

    version: str
    repo: str | None = None
    licence: str | None = None
    """SPDX id of the whole set, or `other`."""
    licence_link: str | None = None
    """Where the text of an `other` licence is."""
    title: str | None = None
    languages: list[str] = Field(default_factory=list)
    """ISO 639-1 codes; empty where nobody stated one."""
    authors: list[str] = Field(default_factory=list)
    gated: bool = False
    previous: str | None = None
    """Version of the release before this one, in the same repository."""
    scan: dict[str, int] | None = None
    """Findings of the scan for secrets and personal data that were accepted, by kind; None where it was not run."""
    changes: list[str] = Field(default_factory=list)
    """Differences from `previous`, one sentence each."""


class AuditEntry(Loose):
    """What people said about the rows; nobody is named."""

    records: int
    """Rows and pairs that somebody answered."""
    responses: int
    """Submitted answers that count."""
    annotators: int
    finals: dict[str, int] = Field(default_factory=dict)
    """`row/confirmed`, `pair/rejected`, …: how many."""
    lines: list[str] = Field(default_factory=list)
    """Agreement and what the control slice shows, in sentences, for the card."""


class Manifest(Loose):
    """`manifest.json`."""

    format: int = 1
    name: str
    created: str
    """UTC, ISO 8601."""
    specdistill: str
    """Version that wrote it."""
    schemas: dict[str, str]
    """Config to schema version."""
    recipe: dict[str, Any]
    spec: SpecEntry
    models: list[ModelEntry]
    stages: dict[str, StageEntry]
    counts: dict[str, dict[str, int]]
    """Config to split to rows."""
    files: dict[str, FileEntry]
    """Path relative to the manifest to its entry."""
    calibration: dict[str, Any] = Field(default_factory=dict)
    """What human labels say about the judge; empty without labels. The labels themselves stay in the run."""
    order: dict[str, Any] = Field(default_factory=dict)
    """How much the order of two answers decides the judge's pairwise verdicts; empty where none were made."""
    packages: dict[str, str] = Field(default_factory=dict)
    """Versions of the packages that matter."""
    audit: AuditEntry | None = None
    """The human audit, where there was one."""
    prompts: dict[str, Any] = Field(default_factory=dict)
    """What became of the sources' rows: `cleaning/summary.json` of the run; empty where an older version built it."""
    quota: list[dict[str, Any]] = Field(default_factory=list)
    """One entry a quota: category, outcome, wanted, accepted, candidates, state, main_reason."""
    release: Release | None = None
