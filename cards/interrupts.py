"""Ctrl-C that cannot be lost.

The native upload library (hf_xet) takes SIGINT for itself while it runs and drops one that comes as it ends. A release
notes every SIGINT and stops at its next step.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noted() -> Iterator[Callable[[], None]]:
    """Note Ctrl-C while the block runs.

    Yields:
        A function that raises KeyboardInterrupt if one came; to be called between steps. Outside the main thread,
        where Python allows no signal handlers, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        came.set()
        if callable(before):
            before(number, frame)

    def stop() -> None:
        if came.is_set():
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
