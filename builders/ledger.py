"""The call ledger: every finished model call, journalled at once, so that a rerun is answered from it.

SQLite in WAL mode: appended in small transactions by one thread, durable within `COMMIT_SECONDS`, looked up by key
without loading anything, and still readable after a kill at any moment. The messages of a request are not stored
(the spec's text would be stored a million times); their digest is part of the key.

A finished call is never replaced. A failed one is kept as failed and never answers a lookup.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from specdistill.errors import DiskError, RunError

if TYPE_CHECKING:
    from specdistill.builders.budget import TokenBudget

COMMIT_SECONDS = 0.25
"""Most seconds that a finished call waits for its commit."""
COMMIT_RECORDS = 8192
"""Most writes of one transaction."""
LOOKUP_CHUNK = 500

SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, stage TEXT NOT NULL, session INTEGER NOT NULL, ok INTEGER NOT NULL,
    finished REAL NOT NULL, prompt_tokens INTEGER, completion_tokens INTEGER, seconds REAL, result TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS sent (key TEXT NOT NULL, session INTEGER NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
    session INTEGER PRIMARY KEY, started REAL NOT NULL, seconds REAL NOT NULL DEFAULT 0, ended TEXT
);
"""

# ok only ever goes from 0 to 1: a finished call is final.
UPSERT = """
INSERT INTO calls VALUES (?,?,?,?,?,?,?,?,?)
ON CONFLICT(key) DO UPDATE SET stage=excluded.stage, session=excluded.session, ok=excluded.ok,
    finished=excluded.finished, prompt_tokens=excluded.prompt_tokens,
    completion_tokens=excluded.completion_tokens, seconds=excluded.seconds, result=excluded.result
WHERE calls.ok = 0
"""


SENT = "INSERT INTO sent VALUES (?,?,?)"
ENDED = "UPDATE sessions SET seconds = ?, ended = ? WHERE session = ?"
AT_ONCE = 32
"""Rows of one INSERT statement."""
Write = tuple[str, tuple[Any, ...]]
"""A statement and its values."""
Queued = Write | threading.Event | None
"""What the writing thread is told: a write, whom to tell when all before is on disk, or that nothing more comes."""


@dataclass(frozen=True)
class Call:
    """One finished or failed call of the ledger.

    Attributes:
        key: digest of model, messages, sampling, schema and sample index.
        stage: name of the step that asked.
        ok: False for a failed call.
        result: what the engine returned, as a JSON-able dict.
        seconds: wall seconds of the request that brought it.
    """

    key: str
    stage: str
    ok: bool
    result: dict[str, Any]
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float = 0.0


class Ledger:
    """The ledger of one run. One process writes at a time (the run's lock sees to that).

    State: a connection for reading, a thread with its own connection for writing.
    """

    def __init__(self, path: Path, budget: TokenBudget | None = None) -> None:
        """Open or create. `budget` is what callers ask before a request and tell of what came.

        Raises:
            RunError: the file is damaged or is not a ledger.
            DiskError: it cannot be created.
        """
        self.path, self.budget = path, budget
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._reader = connect(path)
            with self._reader:
                self._reader.executescript(SCHEMA)
                row = self._reader.execute(
                    "INSERT INTO sessions(started) VALUES (?) RETURNING session", (time.time(),)
                ).fetchone()
        except (sqlite3.Error, OSError, UnicodeDecodeError) as exc:
            raise ledger_error(path, exc) from exc
        self.session: int = row[0]
        self._started = time.monotonic()
        self._queue: queue.SimpleQueue[Queued] = queue.SimpleQueue()
        self._uncommitted: dict[str, dict[str, Any]] = {}
        self._hurry = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._thread.start()

    def lookup(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Results of the finished calls among `keys`, as soon as they are recorded; failed and unknown ones are absent.

        Raises:
            RunError: the file is damaged.
        """
        # Before the file is read, else a commit in between would hide a call from both looks.
        found = {key: self._uncommitted[key] for key in keys if key in self._uncommitted}
        for start in range(0, len(keys), LOOKUP_CHUNK):
            chunk = keys[start : start + LOOKUP_CHUNK]
            marks = ",".join("?" * len(chunk))
            asked = f"SELECT key, result FROM calls WHERE ok = 1 AND key IN ({marks})"
            try:
                found.update((key, json.loads(result)) for key, result in self._reader.execute(asked, list(chunk)))
            except (sqlite3.Error, ValueError) as exc:
                raise ledger_error(self.path, exc) from exc
        return found

    def mark_sent(self, keys: Sequence[str]) -> None:
        """Note that these calls go out now; after a kill, they are the ones that may be repeated."""
        self._check()
        now = time.time()
        for key in keys:
            self._queue.put((SENT, (key, self.session, now)))

    def record(self, call: Call) -> None:
        """Journal one call; durable within `COMMIT_SECONDS`.

        Raises:
            DiskError: an earlier write failed.
        """
        self._check()
        if call.ok:
            self._uncommitted.setdefault(call.key, call.result)
        values = (
            call.key,
            call.stage,
            self.session,
            int(call.ok),
            time.time(),
            call.prompt_tokens,
            call.completion_tokens,
            call.seconds,
            orjson.dumps(call.result).decode(),
        )
        self._queue.put((UPSERT, values))

    def flush(self) -> None:
        """Wait until what was recorded is on disk, where `lookup` finds it.

        Raises:
            DiskError: it could not be written.
        """
        written = threading.Event()
        self._queue.put(written)
        self._hurry.set()
        while not written.wait(COMMIT_SECONDS) and self._thread.is_alive():
            pass
        self._check()

    def close(self, ended: str = "done") -> None:
        """Commit everything and close.

        Args:
            ended: how the session ended, for `status`: `done`, `stopped` or `failed`.

        Raises:
            DiskError: something could not be written.
        """
        seconds = time.monotonic() - self._started
        self._queue.put((ENDED, (seconds, ended, self.session)))
        self._queue.put(None)
        self._hurry.set()
        self._thread.join()
        self._reader.close()
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise ledger_error(self.path, self._failure) from self._failure

    def _write(self) -> None:
        """The writing thread: group commits."""
        try:
            connection = connect(self.path)
            try:
                while self._commit_some(connection):
                    pass
            finally:
                connection.close()
        except (sqlite3.Error, OSError, UnicodeDecodeError) as exc:
            self._failure = exc

    def _commit_some(self, connection: sqlite3.Connection) -> bool:
        """One transaction of what comes in within `COMMIT_SECONDS`. False when the ledger is being closed.

        The thread sleeps meanwhile: waking for each write would take the interpreter's lock from the event loop
        thousands of times a second.
        """
        taken = [self._queue.get()]
        if isinstance(taken[0], tuple):
            self._hurry.wait(COMMIT_SECONDS)
        self._hurry.clear()
        with suppress(queue.Empty):
            while isinstance(taken[-1], tuple) and len(taken) < COMMIT_RECORDS:
                taken.append(self._queue.get_nowait())
        writes: dict[str, list[tuple[Any, ...]]] = {}
        for item in taken:
            if isinstance(item, tuple):
                writes.setdefault(item[0], []).append(item[1])
        with connection:
            for statement, rows in writes.items():
                insert(connection, statement, rows)
        for key, *_ in writes.get(UPSERT, ()):
            self._uncommitted.pop(key, None)
        if isinstance(taken[-1], threading.Event):
            taken[-1].set()
        return taken[-1] is not None


def insert(connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write many rows of one kind, up to `AT_ONCE` with one step of SQLite.

    Each step gives the interpreter's lock away and has to win it back from the event loop, which is what a row at a
    time costs most.
    """
    values = f"({','.join('?' * len(rows[0]))})"
    many = statement.replace(values, ",".join([values] * AT_ONCE), 1)
    whole = 0 if many == statement else len(rows) - len(rows) % AT_ONCE
    for start in range(0, whole, AT_ONCE):
        connection.execute(many, [value for row in rows[start : start + AT_ONCE] for value in row])
    connection.executemany(statement, rows[whole:])


def connect(path: Path) -> sqlite3.Connection:
    """A connection with the ledger's settings: WAL, and a commit is on disk when it returns."""
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


DAMAGE = ("malformed", "not a database", "unsupported file format", "could not decode")
"""Words of SQLite about a file whose bytes are not what it wrote."""


def ledger_error(path: Path, exc: Exception) -> DiskError | RunError:
    """What went wrong with the ledger, in words."""
    text = str(exc).lower()
    if isinstance(exc, ValueError) or (isinstance(exc, sqlite3.Error) and any(word in text for word in DAMAGE)):
        return RunError(
            f"The call ledger is damaged ({exc}).",
            "Move it aside and run the build again: rows in parts are kept, only later calls are repeated.",
            file=path,
        )
    cause = "The disk is full" if "full" in text else f"The call ledger cannot be written ({exc})"
    return DiskError(f"{cause}.", "Free some space or make the folder writable, then run again: it resumes.", file=path)


def stage_totals(path: Path) -> dict[str, dict[str, Any]]:
    """Per stage: finished and failed calls, tokens, seconds of requests. Empty when there is no ledger.

    Raises:
        RunError: the file is damaged.
    """
    if not path.exists():
        return {}
    rows = read(
        path,
        "SELECT stage, SUM(ok), SUM(1 - ok), SUM(prompt_tokens), SUM(completion_tokens), SUM(seconds)"
        " FROM calls GROUP BY stage ORDER BY stage",
    )
    names = ("calls", "failed_calls", "prompt_tokens", "completion_tokens", "seconds")
    return {row[0]: {name: value or 0 for name, value in zip(names, row[1:], strict=True)} for row in rows}


def session_seconds(path: Path) -> float:
    """Wall seconds of all sessions that ended in good order; a killed one is counted to its last finished call."""
    if not path.exists():
        return 0.0
    # MAX: the wall clock may have been set back between the two readings.
    rows = read(
        path,
        "SELECT SUM(CASE WHEN ended IS NOT NULL THEN seconds ELSE MAX(0, COALESCE("
        " (SELECT MAX(finished) FROM calls WHERE calls.session = sessions.session) - started, 0)) END) FROM sessions",
    )
    return float(rows[0][0] or 0.0)


def read(path: Path, query: str) -> list[tuple[Any, ...]]:
    """All rows of a query, read-only: safe beside a running build.

    Raises:
        RunError: the file is damaged.
        DiskError: it cannot be read.
    """
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()
    except (sqlite3.Error, UnicodeDecodeError) as exc:  # the latter where SQLite quotes what is damaged
        raise ledger_error(path, exc) from exc
