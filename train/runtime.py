"""How a process is set up before torch is imported, so that a CPU trains as fast as it can."""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEEP = 1 << 30


def prepare_process() -> None:
    """Set what must be set before torch starts its threads; nothing the user has set is changed.

    Idle OpenMP threads that spin steal time from the others on few cores, and memory that is handed back to the
    system between steps has to be faulted in again: together 4.6 s against 3.3 s a step for a 135M model on 2 cores.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if sys.platform == "linux" and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except (OSError, AttributeError):  # not glibc
            return
        for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD, _M_TOP_PAD):
            mallopt(option, _KEEP if option != _M_TOP_PAD else 1 << 26)
