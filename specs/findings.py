"""What is wrong with a policy document, as rows with a place: made by the parser and by lint alike."""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["error", "warning"]


class Finding(NamedTuple):
    """One fault of a document.

    Attributes:
        file: the file it is in; None for a spec that was not read from files.
        line: 1-based line; None where the fault is a missing thing.
        code: short stable name, for machines and for silencing.
        message: what is wrong and what to do.
        severity: `error` for what would put wrong rows into a dataset, `warning` for what is incomplete.
    """

    file: str | None
    line: int | None
    code: str
    message: str
    severity: Severity = "error"

    def __str__(self) -> str:
        place = f"{self.file or '-'}:{self.line if self.line is not None else '-'}"
        return f"{place}: {self.severity} {self.code}: {self.message}"


def in_order(findings: list[Finding]) -> list[Finding]:
    """Sorted by file, line and code, each once."""
    return sorted(set(findings), key=lambda f: (f.file or "", f.line or 0, f.code, f.message))
