"""Every error a user can meet. Each message has a cause and a remedy; the CLI prints both without a traceback.

Each class is also the builtin a library caller would expect (`ValueError`, `OSError`, ...), so
`except ValueError` around our functions works as anywhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class SpecdistillError(Exception):
    """Base of our errors.

    Args:
        cause: what is wrong, in one sentence.
        remedy: what to do about it, in one sentence.
        file: the file the error is in, if any.
        line: 1-based line in `file`.
        key: dotted key in `file`, for configuration.
    """

    exit_code = 1

    def __init__(
        self,
        cause: str,
        remedy: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        key: str | None = None,
    ) -> None:
        self.cause, self.remedy = cause, remedy
        self.file, self.line, self.key = (str(file) if file is not None else None), line, key
        super().__init__(f"{self.place}{cause} {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Whole on the other side of a process boundary, whatever a class's own arguments are."""
        return _restored, (type(self), self.args, self.__dict__)

    @property
    def place(self) -> str:
        """`file:line: key: ` as far as known, else an empty string."""
        where = self.file or ""
        if self.file and self.line is not None:
            where += f":{self.line}"
        parts = [part for part in (where, self.key) if part]
        return "".join(f"{part}: " for part in parts)


def _restored(kind: type[SpecdistillError], args: tuple[Any, ...], state: dict[str, Any]) -> SpecdistillError:
    error = kind.__new__(kind, *args)
    error.args = args  # OSError leaves them to __init__
    error.__dict__.update(state)
    return error


class UsageError(SpecdistillError, ValueError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class RecipeError(SpecdistillError, ValueError):
    """A recipe that cannot be read or that contradicts itself."""


class SpecError(SpecdistillError, ValueError):
    """A policy document that cannot be read, or a category or clause that is not in it."""


class PromptError(SpecdistillError, ValueError):
    """A prompt source that cannot be read, or a row of it that cannot be used."""


class EngineError(SpecdistillError, RuntimeError):
    """A model engine that cannot be started or configured as asked."""


class EngineUnreachable(EngineError):
    """A model server that does not answer at all, as opposed to one that refuses a single row."""


class RunError(SpecdistillError, RuntimeError):
    """A run folder that is missing, damaged or does not fit the recipe."""


class RunLocked(RunError):
    """Another process is building in the same run folder."""


class BudgetSpent(RunError):
    """The run's token budget is spent. What is there is kept, and the run can be resumed with a larger one."""


class DiskError(SpecdistillError, OSError):
    """The disk is full or the folder cannot be written."""


class SelectionError(SpecdistillError, ValueError):
    """Rows that cannot be turned into the datasets asked for."""


class QuotaShort(SelectionError):
    """Fewer accepted rows than a strict quota asks for. The run is whole; only the number is not met."""


class SchemaError(SpecdistillError, ValueError):
    """A frame or file that does not have the columns, types or values its schema promises."""


class InvariantError(SpecdistillError, ValueError):
    """Rows that break a promise every published set makes (leak, invented clause, shared prompts, ...)."""


class PublishError(SpecdistillError, RuntimeError):
    """A release that cannot be made or does not agree with what is there."""


class TrainError(SpecdistillError, RuntimeError):
    """A training run that must not start, or that learned nothing."""


class AuditError(SpecdistillError, RuntimeError):
    """An audit that cannot go on: the server refuses, a dataset is gone, there are no answers."""


class AuditUnreachable(AuditError):
    """An Argilla server that does not answer at all, or stopped answering."""


class MissingExtra(SpecdistillError, ImportError):
    """An optional part that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs packages that are not installed.",
            f"Install them with: uv pip install 'specdistill[{extra}]'.",
        )
