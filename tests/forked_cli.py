"""The real command line in forked processes: a start costs tens of milliseconds, so hundreds of crashes can be tried.

`ForkedCLI` starts one process that imports everything once and then forks for each command. The child is a process
like any other: it can be killed, and what it leaves on disk is what a killed `specdistill` leaves. Where a test asks
for it, the operating system is made to fail inside the child (never our own code): see `Trouble`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Trouble:
    """What goes wrong in one command.

    Attributes:
        kill_at: a signal just before this durable operation (a rename or an fsync), counted from 1; 0 for never.
        signal: which signal.
        log_operations: write the durable operations to this file, one a line.
        file_bytes: no file can grow beyond this (what a full disk looks like to a writer); 0 for no limit.
        clock_jump: seconds by which the wall clock jumps, every quarter of a second to and fro.
        user: run as this user id (files of other users are read-only then); 0 to stay.
    """

    kill_at: int = 0
    signal: int = signal.SIGKILL
    log_operations: str = ""
    file_bytes: int = 0
    clock_jump: float = 0.0
    user: int = 0


@dataclass
class Done:
    """How a command ended: exit code (negative for a signal) and what it printed; `errors` where it was kept apart."""

    code: int
    output: str
    errors: str = ""


@dataclass
class ForkedCLI:
    """Runs commands one after the other. State: the forking process and the files that take the output.

    Attributes:
        apart: keep standard error apart from standard output.
    """

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    apart: bool = False
    _process: subprocess.Popen[str] | None = None
    pid: int = 0
    """Of the command at work."""

    def __enter__(self) -> ForkedCLI:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"COLUMNS": "200"} | self.env,
        )
        assert self._read() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def start(self, *words: str | Path, trouble: Trouble | None = None) -> int:
        """Begin a command; the process id."""
        assert self._process is not None
        assert self._process.stdin is not None
        asked = {"words": list(map(str, words)), "out": str(self._output), "trouble": asdict(trouble or Trouble())}
        if self.apart:
            asked["errors"] = str(self._errors)
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        self.pid = int(self._read())
        return self.pid

    def wait(self) -> Done:
        """Wait for the command at work."""
        code = int(self._read())
        self.pid = 0
        errors = self._errors.read_text(errors="replace") if self.apart else ""
        return Done(code, self._output.read_text(errors="replace"), errors)

    def run(self, *words: str | Path, trouble: Trouble | None = None) -> Done:
        """A whole command."""
        self.start(*words, trouble=trouble)
        return self.wait()

    def stop(self, seconds: float, number: int = signal.SIGKILL) -> Done:
        """Send the command at work a signal after some seconds, or see it end before that."""
        time.sleep(seconds)
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)
        return self.wait()

    @property
    def _output(self) -> Path:
        return self.folder / "output.txt"

    @property
    def _errors(self) -> Path:
        return self.folder / "errors.txt"

    def _read(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def make_trouble(trouble: Trouble) -> None:
    """Arm the faults of one child."""
    if trouble.file_bytes:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (trouble.file_bytes, resource.RLIM_INFINITY))
    if trouble.clock_jump:
        real, began = time.time, time.monotonic()
        # No two neighbouring readings need be in order.
        time.time = lambda: real() + (trouble.clock_jump if int((time.monotonic() - began) * 4) % 2 else 0.0)
    if trouble.kill_at or trouble.log_operations:
        count_operations(trouble)
    if trouble.user:
        os.setgid(trouble.user)
        os.setuid(trouble.user)


def count_operations(trouble: Trouble) -> None:
    """Count renames and fsyncs, log them, and die at the one that was asked for."""
    count = 0

    def counted(name: str, real: Any) -> Any:
        def operation(*args: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            if trouble.log_operations:
                what = args[1] if name == "replace" else os.readlink(f"/proc/self/fd/{args[0]}")
                with open(trouble.log_operations, "a") as log:
                    log.write(f"{name} {what}\n")
            if count == trouble.kill_at:
                os.kill(os.getpid(), trouble.signal)
            return real(*args, **more)

        return operation

    os.replace, os.fsync = counted("replace", os.replace), counted("fsync", os.fsync)


def child(asked: dict[str, Any]) -> None:
    """Become the command."""
    os.setsid()
    out = os.open(asked["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    errors = os.open(asked["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) if "errors" in asked else out
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(errors, 2)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    sys.argv = ["specdistill", *asked["words"]]
    code = 1
    try:
        make_trouble(Trouble(**asked["trouble"]))
        from specdistill.__main__ import main

        signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Import, then fork for every line of standard input. Prints the child's id, then its exit code."""

    import specdistill.builders.shim as shim

    shim.quiet_distilabel()
    import aiohttp  # noqa: F401
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401

    import specdistill.builders.build
    import specdistill.builders.engines.openai
    import specdistill.builders.status
    import specdistill.cards.publishing
    import specdistill.cards.report  # noqa: F401

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            child(json.loads(line))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
