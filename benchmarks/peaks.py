"""Seconds and peak memory of a command of specdistill, run in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

MEASURED = """
import os, pathlib, re, resource
from specdistill.cli.app import main
try:
    main()
finally:
    status = pathlib.Path('/proc/self/status').read_text()
    own = re.search(r'VmHWM:\\s+(\\d+)', status)[1]
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    pathlib.Path(os.environ['PEAK']).write_text(f'{own} {child}')
"""
"""Runs the command and leaves its own peak in the file that PEAK names. (What `wait4` gives the parent would count the
parent's memory at the time of the fork.)"""


def measure(command: Sequence[str], env: Mapping[str, str], note: Path) -> tuple[float, float, float]:
    """Run a command; gives the peak resident memory in MB of it and of its largest child, and seconds.

    Args:
        note: file that the figures pass through.
    """
    started = time.perf_counter()
    whole = [sys.executable, "-c", MEASURED, *command]
    subprocess.run(whole, env={**env, "PEAK": str(note)}, stdout=subprocess.DEVNULL, check=True)
    own, child = (int(kilobytes) / 1024 for kilobytes in note.read_text().split())
    return own, child, time.perf_counter() - started
