"""Ends vLLM's processes when the process that started them is gone.

vLLM's engine process does not notice that its parent was killed: it goes on computing, and holds a GPU for
ever. So this small process stands by. It is run by its file name, imports nothing of ours, and knows the
engine's processes by a mark in their environment, so it also catches those that were only being started.

Usage: vllm_watchdog.py PARENT_PID MARK
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

MARK = "SPECDISTILL_VLLM"
"""Environment variable that the engine's processes carry."""


def watch(mark: str) -> subprocess.Popen[bytes]:
    """A watchdog for processes of this one that carry the mark; terminate it when they have ended in
    order."""
    command = [sys.executable, __file__, str(os.getpid()), mark]
    # A session of its own: Ctrl-C is for the parent to handle.
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)


def _marked(mark: str) -> Iterator[object]:
    """Processes that carry the mark."""
    import psutil

    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                yield process
        except (psutil.Error, OSError):  # gone meanwhile, or somebody else's
            continue


def main(parent: int, mark: str) -> None:
    """Wait for the parent's end, then end what carries the mark."""
    import psutil

    while os.getppid() == parent:
        time.sleep(0.5)
    for _ in range(20):  # more than once: one may just be starting another
        left = list(_marked(mark))
        for process in left:
            # It may have ended since it was listed; that must not keep the others from being ended.
            with suppress(psutil.NoSuchProcess):
                process.kill()  # type: ignore[attr-defined]
        if not left:
            return
        time.sleep(0.5)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
