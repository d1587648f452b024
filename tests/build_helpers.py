"""Builds in a process of their own, so that they can be killed, and ways to compare what they leave."""

import atexit
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import polars as pl
from forked_cli import ForkedCLI

RECIPE = """
name: t
spec: safety
prompts: [{{library: seeds, per_category: {per_category}}}]
generator: {{engine: openai, base_url: "{url}", model: fake, samples: 3, reasoning: guided, concurrency: 8,
             max_tokens: 300, timeout: 5, retries: {retries}}}
contrast: {{samples: 1}}
judge: {{engine: openai, base_url: "{url}", model: fake, k: 3, threshold: 0.3, aggregate: mean, min_votes: 1,
         concurrency: 8, max_tokens: 300, timeout: 5, retries: {retries}}}
preference: {{min_margin: 0.01}}
"""


def write_recipe(folder: Path, url: str, per_category: int = 2, retries: int = 1) -> Path:
    """A small recipe against a server."""
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(url=url, per_category=per_category, retries=retries))
    return path


def command(recipe: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "specdistill.cli.app", "build", str(recipe), "--out", str(out), *more]


@lru_cache(maxsize=1)
def shared_cli() -> ForkedCLI:
    """One command line for all that need no start of their own; it ends with the tests."""
    folder = tempfile.mkdtemp(prefix="specdistill-cli-")
    cli = ForkedCLI(Path(folder), apart=True).__enter__()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(cli.__exit__)
    return cli


def run(*words: str | Path) -> subprocess.CompletedProcess:
    """A whole command, forked from a process that has imported everything."""
    done = shared_cli().run(*words)
    return subprocess.CompletedProcess(words, done.code, done.output, done.errors)


def build(recipe: Path, out: Path, *more: str) -> subprocess.CompletedProcess:
    """A whole build, forked."""
    return run("build", recipe, "--out", out, *more)


def build_alone(recipe: Path, out: Path, *more: str, timeout: float = 300) -> subprocess.CompletedProcess:
    """A whole build that starts as a user's does."""
    return subprocess.run(command(recipe, out, *more), capture_output=True, text=True, timeout=timeout, check=False)


def start(recipe: Path, out: Path, *more: str) -> subprocess.Popen:
    """A build that goes on in the background, in a process group of its own."""
    return subprocess.Popen(
        command(recipe, out, *more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def kill_group(process: subprocess.Popen) -> None:
    """SIGKILL for the build and its engine; nothing if it has ended."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for_calls(out: Path, count: int, process: subprocess.Popen, seconds: float = 240) -> int:
    """Wait until the ledger holds that many finished calls, or the build has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        if len(finished(out)) >= count:
            break
        time.sleep(0.05)
    return len(finished(out))


def finished(out: Path) -> dict[str, int]:
    """Key of every finished call to the session that brought it."""
    try:
        connection = sqlite3.connect(f"file:{out / 'ledger.sqlite'}?mode=ro", uri=True, timeout=10)
        try:
            return dict(connection.execute("SELECT key, session FROM calls WHERE ok = 1"))
        finally:
            connection.close()
    except sqlite3.OperationalError:  # not there yet
        return {}


def sent(out: Path) -> list[tuple[str, int]]:
    """(key, session) of every call that went out."""
    connection = sqlite3.connect(f"file:{out / 'ledger.sqlite'}?mode=ro", uri=True, timeout=10)
    try:
        return list(connection.execute("SELECT key, session FROM sent"))
    finally:
        connection.close()


def keys(out: Path) -> dict[str, list[str]]:
    """Sorted row keys of the stored tables; doubled ones stay doubled."""
    return {
        table: sorted(pl.read_parquet(out / table / "part-*.parquet")[key].to_list())
        for table, key in (("prompts", "prompt_id"), ("candidates", "candidate_id"), ("judgments", "judgment_id"))
        if list((out / table).glob("part-*.parquet"))
    }


def different(one: Path, other: Path) -> list[str]:
    """What differs between the stored rows of two runs: each row's table and key, with both values of each field."""
    found = []
    for table, key in (("candidates", "candidate_id"), ("judgments", "judgment_id")):
        rows = [
            {row[key]: row for row in pl.read_parquet(run / table / "part-*.parquet").iter_rows(named=True)}
            for run in (one, other)
        ]
        for number in sorted(rows[0].keys() | rows[1].keys()):
            left, right = rows[0].get(number, {}), rows[1].get(number, {})
            fields = [name for name in left | right if left.get(name) != right.get(name)]
            found += [f"{table} {number} {name}: {left.get(name)!r} | {right.get(name)!r}" for name in fields]
    return found
