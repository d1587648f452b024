"""Same recipe, same seed, same recorded model outputs: the same bytes, whatever the machine was doing."""

import os
import shutil
from hashlib import sha256

import pytest
from fake_openai_server import FakeOpenAI
from fault_harness import write_recipe
from forked_cli import ForkedCLI

pytestmark = pytest.mark.integration


def digests(run, pattern):
    """SHA-256 of every file of a kind."""
    found = {str(path.relative_to(run)): sha256(path.read_bytes()).hexdigest() for path in sorted(run.glob(pattern))}
    assert found
    return found


def test_recorded_outputs_give_byte_identical_datasets_and_release(tmp_path):
    run, again = tmp_path / "run", tmp_path / "again"
    with FakeOpenAI(latency=0.02) as server:
        recipe = write_recipe(tmp_path, server.url)
        recipe.write_text(recipe.read_text() + "split: {test: 0.3}\nlicences: {dataset: CC-BY-4.0}\n")
        with ForkedCLI(tmp_path / "cli", env={"PYTHONHASHSEED": "1", "POLARS_MAX_THREADS": "2"}) as cli:
            assert cli.run("build", recipe, "--out", run).code == 0
    again.mkdir()
    for name in ("ledger.sqlite", "ledger.sqlite-wal"):  # the record, and nothing else
        if (run / name).exists():
            shutil.copy(run / name, again / name)
    # One request at a time, other hash seeds, other threads, and no server to ask: only the record is left.
    recipe.write_text(recipe.read_text().replace("concurrency: 8", "concurrency: 1"))
    with ForkedCLI(
        tmp_path / "cli2", env={"PYTHONHASHSEED": "77", "POLARS_MAX_THREADS": "1", "TZ": "Asia/Tokyo"}
    ) as cli:
        done = cli.run("build", recipe, "--out", again)
        assert done.code == 0, done.output
        for out in (run, again):
            words = ("publish", out, "--to-dir", f"{out}-release", "--version", "1.0.0")
            assert cli.run(*words, "--no-scan").code == 0
    assert digests(run, "datasets/*/*.parquet") == digests(again, "datasets/*/*.parquet")
    assert digests(run, "spec/**/*.*") == digests(again, "spec/**/*.*")
    first, second = (tmp_path / f"{out.name}-release" for out in (run, again))
    assert digests(first, "*/*.parquet") == digests(second, "*/*.parquet")
    assert os.listdir(first) == os.listdir(second)
