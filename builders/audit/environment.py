"""The Argilla server's own environment: made once from the package registries, kept in the user's cache.

The server pins versions that cannot live beside ours, so it gets a virtual environment of its own, named by what is in
it. A marker written last says that it is whole.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

from specdistill.errors import AuditError

REQUIREMENTS = Path(__file__).parent / "server" / "requirements.txt"
MARKER = ".complete"


def environment_path(cache: Path | None = None) -> Path:
    """Where it is or will be: `~/.cache/specdistill/argilla-VERSION-DIGEST-pyXY`, under $XDG_CACHE_HOME if set."""
    base = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "specdistill"
    text = REQUIREMENTS.read_text()
    version = next(line.partition("==")[2] for line in text.splitlines() if line.startswith("argilla-server=="))
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    return base / f"argilla-{version}-{blake2b(text.encode(), digest_size=4).hexdigest()}-{python}"


def server_python(say: Callable[[str], None], cache: Path | None = None) -> Path:
    """The Python of the server's environment, which is made if it is not there (some 440 MB).

    Args:
        say: told what is done and where.

    Raises:
        AuditError: it cannot be made.
    """
    folder = environment_path(cache)
    python = folder / "bin" / "python"
    if (folder / MARKER).exists():
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(folder.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second process waits here and finds it made
        if (folder / MARKER).exists():
            return python
        say(f"Installing the Argilla server into {folder} (once; some 440 MB).")
        shutil.rmtree(folder, ignore_errors=True)
        for command in commands(folder, python):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                shutil.rmtree(folder, ignore_errors=True)
                lines = (done.stderr or done.stdout).strip().splitlines()
                raise AuditError(
                    f"The Argilla server could not be installed: {' '.join(lines[-3:])}",
                    "Check that the package registry can be reached, or use another Argilla with --url and --api-key.",
                    file=folder,
                )
        (folder / MARKER).touch()
    return python


def commands(folder: Path, python: Path) -> list[list[str]]:
    """Make the environment: by uv where there is one, else by venv and pip."""
    uv = shutil.which("uv")
    if uv:
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--quiet", "--python", str(python), "--no-deps", "-r", str(REQUIREMENTS)],
        ]
    return [
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(REQUIREMENTS)],
    ]
