"""Ends vLLM's processes when the process that started them is gone.

vLLM's engine process does not notice that its parent was killed: it goes on computing, and holds a GPU for ever. So
this small process stands by. It is run by its file name, imports nothing of ours, and knows the engine's processes
by a mark in their environment. That can only be read until they give themselves a title (which overwrites it), so it
looks while the parent lives and remembers.

Usage: vllm_watchdog.py PARENT_PID MARK
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

MARK = "SPECDISTILL_VLLM"
"""Environment variable that the engine's processes carry."""
_OFTEN, _SELDOM, _STARTING = 0.5, 2.0, 300.0
"""Seconds between two looks while an engine may be starting, and later; seconds that this may take."""


def watch(mark: str) -> subprocess.Popen[bytes]:
    """A watchdog for processes of this one that carry the mark; terminate it when they have ended in order."""
    command = [sys.executable, __file__, str(os.getpid()), mark]
    # A session of its own: Ctrl-C is for the parent to handle.
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)


def _marked(process: psutil.Process, mark: str) -> bool:
    import psutil

    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):  # gone meanwhile
        return False


def _below(processes: set[psutil.Process]) -> set[psutil.Process]:
    """These processes and all that they started."""
    import psutil

    found = set(processes)
    for process in processes:
        try:
            found.update(process.children(recursive=True))
        except psutil.NoSuchProcess:
            continue
    return found


def main(parent: int, mark: str) -> None:
    """Remember the engine's processes until the parent is gone, then end them."""
    import psutil  # comes with vLLM

    known: set[psutil.Process] = set()
    started = time.monotonic()
    while os.getppid() == parent:
        own = psutil.Process()
        others = _below({psutil.Process(parent)}) - known - {own} if psutil.pid_exists(parent) else set()
        known = _below(known | {process for process in others if _marked(process, mark)})
        time.sleep(_OFTEN if time.monotonic() - started < _STARTING else _SELDOM)
    for process in _below(known):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
