"""An unforeseen error in any command ends with a traceback that shows no key of an option or the environment."""

import os
import subprocess
import sys

import polars as pl
import pytest
from forked_cli import ForkedCLI
from run_fixture import recipe, write_run

from specdistill.cli.crash import secrets_of, without_secrets

KEY = "canary-key-of-the-option-1"
ENV = {
    "ARGILLA_API_KEY": "canary-key-of-the-environment-1",
    "HF_TOKEN": "hf_canarytokenoftheenvironment",
    "OPENAI_API_KEY": "sk-canary-of-the-environment",
    "OUR_PASSWORD": "canary-password-of-ours",
}
FORESEEN_NOT = "specdistill did not foresee it"


def broken(folder):
    """A run whose clause table is a Parquet file of another table: nobody foresees that."""
    layout = write_run(folder / "run", prompts=6, recipe=recipe(name="broken"))
    pl.DataFrame({"a": [1]}).write_parquet(layout.clauses)
    layout.manifest.unlink()
    return layout.root


def test_secrets_are_known_by_their_names_and_masked_whole():
    words = [
        "specdistill",
        "audit",
        "push",
        "--api-key",
        "secret-one",
        "--hub-token=secret-one-two",
        "--rows",
        "123456",
    ]
    found = list(secrets_of({"MY_TOKEN": "abcdefgh", "SHORT_KEY": "1", "HOME": "/home/me"}, words))
    assert found == ["abcdefgh", "1", "secret-one", "secret-one-two"]
    text = "secret-one-two secret-one abcdefgh 123456 /home/me 1"
    assert without_secrets(text, found) == "*** *** *** 123456 /home/me 1"


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    """The command line with canaries in its environment."""
    with ForkedCLI(tmp_path_factory.mktemp("cli"), env=ENV) as forked:
        yield forked


@pytest.mark.integration
def test_a_crash_of_the_real_command_shows_no_key(tmp_path):
    run = broken(tmp_path)
    words = ["audit", "push", str(run), "--dry-run", "--url", "http://127.0.0.1:9", "--api-key", KEY]
    line = [sys.executable, "-m", "specdistill", *words]
    done = subprocess.run(line, env=os.environ | ENV, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ColumnNotFoundError" in done.stderr
    assert FORESEEN_NOT in done.stderr
    assert "locals" not in done.stderr
    said = done.stdout + done.stderr
    assert not [key for key in (KEY, *ENV.values()) if key in said]


@pytest.mark.integration
def test_a_crash_of_every_command_that_reads_a_run_shows_no_key(cli, tmp_path):
    run = broken(tmp_path)
    commands = [
        ("status", run),
        ("select", run),
        ("report", run),
        ("publish", run, "--to-dir", tmp_path / "release", "--version", "1.0.0"),
        ("audit", "push", run, "--dry-run", "--api-key", KEY),
        ("audit", "push", run, "--dry-run", f"--api-key={KEY}", "--url", f"http://{KEY}:9"),
    ]
    crashed = []
    for words in commands:
        done = cli.run(*words)
        assert not [key for key in (KEY, *ENV.values()) if key in done.output], words
        if FORESEEN_NOT in done.output:
            assert done.code == 1
            crashed.append(words[:2])
    assert len(crashed) >= 4, crashed


@pytest.mark.integration
def test_what_is_no_key_is_refused_without_being_shown(cli, tmp_path):
    run = write_run(tmp_path / "run", prompts=6, recipe=recipe(name="whole")).root
    done = cli.run("audit", "push", run, "--url", "http://127.0.0.1:9", "--api-key", f"{KEY}é")
    assert done.code == 2, done.output
    assert "no key has" in done.output
    assert KEY not in done.output
