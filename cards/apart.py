"""Scanning a run and writing its tree in a process of their own.

What Arrow, the scanners and the plots took goes back with that process, so that a publisher of gigabytes holds little
more than the transfer itself needs. It ends with its parent, whatever ends that.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from specdistill import errors
from specdistill.cards.memory import frugal
from specdistill.cards.scan import Find
from specdistill.cards.tree import Ask
from specdistill.errors import PublishError, SpecdistillError
from specdistill.schemas.manifest import Manifest

_CHILD = "from specdistill.cards.apart import answer; answer()"


def scan_apart(run: Path) -> list[Find]:
    """`scan.scan` on a run's sets.

    Raises:
        MissingExtra: the scanners are not installed.
        PublishError: the process was ended from outside.
    """
    return [Find(**find) for find in _asked({"do": "scan", "run": str(run)})]


def build_tree_apart(run: Path, to_dir: Path, ask: Ask, *, previous: Manifest | None = None) -> Manifest:
    """`tree.build_tree`, with the same arguments, result and errors.

    Raises:
        PublishError: the process was ended from outside.
    """
    before = previous.model_dump(mode="json") if previous else None
    asked = {"do": "build", "run": str(run), "to": str(to_dir), "ask": asdict(ask), "previous": before}
    return Manifest.model_validate(_asked(asked))


def _asked(request: dict[str, Any]) -> Any:
    command = [sys.executable, "-c", _CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with suppress(BrokenPipeError):  # it ended already; its status says how
                child.stdin.write(json.dumps(request).encode() + b"\n")
                child.stdin.flush()
            told = child.stdout.read()
        except BaseException:
            child.kill()
            raise
    if child.returncode or not told:
        raise PublishError(
            f"The process that prepared the release ended with status {child.returncode}.",
            "Nothing was published. If it ran out of memory, free some; then run the same command again.",
        )
    reply = json.loads(told)
    if "error" in reply:
        kind, found = reply["error"].pop("kind"), reply["error"]
        raise _error(getattr(errors, kind), **found)
    return reply["ok"]


def _error(kind: type[SpecdistillError], **fields: Any) -> SpecdistillError:
    """An error as it was raised in the other process, whatever arguments its class takes by itself."""
    made = kind.__new__(kind)
    SpecdistillError.__init__(made, **fields)
    return made


def answer() -> None:
    """The other process: one request from standard input, one reply to standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
    frugal()
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        reply: dict[str, Any] = {"ok": _done(request)}
    except SpecdistillError as exc:
        fields = {name: getattr(exc, name) for name in ("cause", "remedy", "file", "line", "key")}
        reply = {"error": {"kind": type(exc).__name__, **fields}}
    sys.stdout.buffer.write(json.dumps(reply).encode())
    sys.stdout.flush()


def _end_with_parent() -> None:
    if not os.read(0, 1):  # not through sys.stdin, whose lock the interpreter wants when it ends
        os._exit(1)


def _done(request: dict[str, Any]) -> Any:
    from specdistill.cards.scan import scan
    from specdistill.cards.tree import build_tree
    from specdistill.schemas.invariants import scan_sets
    from specdistill.schemas.layout import RunLayout

    layout = RunLayout(Path(request["run"]))
    if request["do"] == "scan":
        return [asdict(find) for find in scan(scan_sets(layout.datasets))]
    previous = Manifest.model_validate(request["previous"]) if request["previous"] else None
    made = build_tree(layout, Path(request["to"]), Ask(**request["ask"]), previous=previous)
    return made.model_dump(mode="json")
