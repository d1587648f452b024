"""A real Argilla server on this machine: where it keeps its things, its accounts, starting and stopping it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from specdistill.builders.audit.environment import server_python
from specdistill.errors import AuditError, UsageError

LAUNCHER = Path(__file__).parent / "server" / "launch.py"
WORKSPACE = "audit"
OWNER = "owner"
START_SECONDS = 120.0
FIT_FOR = (
    "It is fit for a team on one machine or behind a tunnel: it was tried with some twenty people at once and ten "
    "thousand records. It listens on the loopback interface without TLS, keeps everything in one SQLite file, and has "
    "no similarity search and no Hub import. For more, use another Argilla with --url and --api-key."
)


@dataclass(frozen=True)
class Account:
    """An account as it is shown once.

    Attributes:
        role: `owner` (pushes and pulls) or `annotator` (answers).
    """

    username: str
    role: str
    password: str
    api_key: str


@dataclass
class Server:
    """A running server.

    Attributes:
        new: accounts whose credentials were made in this start; nobody can show them again.
        process: the server itself, in a process group of its own; it ends when its standard input closes.
    """

    url: str
    home: Path
    process: subprocess.Popen[str]
    new: list[Account] = field(default_factory=list)
    lock: IO[str] | None = None

    def stop(self, seconds: float = 10.0) -> None:
        """Stop in good order, or at once when that takes too long."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self.release()

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.release()

    def release(self) -> None:
        """Let another server have the folder."""
        if self.lock:
            self.lock.close()
            self.lock = None


def default_home() -> Path:
    """`~/.local/share/specdistill/argilla`, under $XDG_DATA_HOME if set."""
    base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "specdistill" / "argilla"


def start(
    home: Path,
    *,
    port: int = 6900,
    annotators: Sequence[str] = ("annotator",),
    new_credentials: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Server:
    """Start the server; returns once it answers.

    Args:
        home: its database, keys and temporary files; made if missing, kept afterwards.
        port: on the loopback interface; 0 takes a free one.
        annotators: usernames to exist; those that are missing are made.
        new_credentials: make new passwords and keys for all accounts (the old ones stop working).

    Raises:
        UsageError: a username is none Argilla takes.
        AuditError: it cannot be installed or does not start, or another server uses the folder.
    """
    for name in annotators:
        if not name.replace("-", "").replace("_", "").isalnum() or name != name.lower() or name == OWNER:
            raise UsageError(
                f"'{name}' cannot be an annotator's name.", "Use lower-case letters, digits, dashes and underscores."
            )
    python = server_python(say)
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    lock = hold(home)
    temporary = home / "tmp"  # every start unpacks a copy of the web pages there
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    known = known_accounts(home)
    wanted = {OWNER: "owner"} | dict.fromkeys(annotators, "annotator")
    made = [
        Account(name, role, secrets.token_urlsafe(12), secrets.token_urlsafe(32))
        for name, role in (known | wanted).items()
        if new_credentials or name not in known
    ]
    log = open(home / "server.log", "w", encoding="utf-8")  # noqa: SIM115 (the child keeps it)
    process = subprocess.Popen(
        [str(python), str(LAUNCHER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=environment(home, temporary),
        start_new_session=True,
    )
    log.close()
    ask = {"host": "127.0.0.1", "port": port, "workspace": WORKSPACE, "accounts": [vars(a) for a in made]}
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(ask) + "\n")
        process.stdin.flush()
    server = Server("", home, process, made, lock)
    server.url = f"http://127.0.0.1:{listening(server, port)}"
    write_private(home / "accounts.json", json.dumps(known | wanted, indent=1))
    return server


def hold(home: Path) -> IO[str]:
    """Keep a second server out of the folder.

    Raises:
        AuditError: one is there.
    """
    lock = open(home / ".lock", "w")  # noqa: SIM115 (held as long as the server)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        lock.close()
        raise AuditError(
            "Another server runs from this folder.", "Use that one, or give another folder with --home.", file=home
        ) from exc
    return lock


def known_accounts(home: Path) -> dict[str, str]:
    """Username to role of the accounts made so far; no secrets are kept outside the server's database."""
    path = home / "accounts.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def write_private(path: Path, text: str) -> None:
    """A file for this user only."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)


def environment(home: Path, temporary: Path) -> dict[str, str]:
    """The server's environment variables: its folder, its session key, and no call to the outside."""
    key = home / "session.key"
    if not key.exists():
        write_private(key, secrets.token_hex(32))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ARGILLA_", "PYTHON"))}
    return kept | {
        "ARGILLA_HOME_PATH": str(home),
        "ARGILLA_SEARCH_ENGINE": "sqlite",
        "ARGILLA_AUTH_SECRET_KEY": key.read_text(),
        "ARGILLA_DATABASE_SQLITE_TIMEOUT": "30",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(temporary / "huggingface"),
        "TMPDIR": str(temporary),
    }


def listening(server: Server, port: int) -> int:
    """Wait until the server says that it listens, and on which port.

    Raises:
        AuditError: it ended, or took too long.
    """
    output = server.process.stdout
    assert output is not None
    until = time.monotonic() + START_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while time.monotonic() < until:
            if not selector.select(timeout=0.5):
                continue
            line = output.readline()
            if line.startswith("ready "):
                return int(line.split()[1])
            if not line:
                break
    server.kill()
    log = (server.home / "server.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if any("Address already in use" in line for line in log):
        raise AuditError(f"Port {port} is in use.", "Give another with --port, or 0 for a free one.")
    raise AuditError(
        f"The Argilla server did not start: {log[-1] if log else 'it said nothing'}.",
        "The log has the whole story.",
        file=server.home / "server.log",
    )
