"""Ctrl-C while the program is still being loaded: a stop like any other, no traceback."""

import os
import subprocess
import sys

import pytest

HERE = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for what they run behind
os.kill(os.getpid(), signal.SIGINT)
time.sleep(5)
"""
"""A module during whose import Ctrl-C comes."""
NATIVE = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
except KeyboardInterrupt as exc:
    raise ImportError("initialization failed") from exc
"""
"""The same in a native library, which makes its own error of it (pybind11 does)."""


def schema_list(first):
    """A short command that imports from a folder before anything else."""
    command = [sys.executable, "-m", "specdistill", "schema", "list"]
    env = os.environ | {"PYTHONPATH": str(first)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


@pytest.mark.parametrize(("library", "text"), [("typer", HERE), ("polars", HERE), ("polars", NATIVE)])
def test_ctrl_c_during_an_import_is_a_stop(tmp_path, library, text):
    (tmp_path / f"{library}.py").write_text(text)
    done = schema_list(tmp_path)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.strip() in ("Stopped.", "")


def test_an_import_that_fails_by_itself_is_still_an_error(tmp_path):
    (tmp_path / "polars.py").write_text("raise ImportError('initialization failed')")
    done = schema_list(tmp_path)
    assert done.returncode == 1
    assert "initialization failed" in done.stderr
