"""Memory that goes back to the system once it is free.

A publisher of gigabytes passes many blocks of some megabytes through its hands, a few at a time. The C library raises
its limit for blocks of their own to the largest that was freed (glibc: up to 32 MB) and then keeps them in its heaps,
in pieces; Arrow's and Polars' allocators keep them on purpose. Measured for 2 GB: benchmarks/publish_memory.py.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

SETTINGS = {"ARROW_DEFAULT_MEMORY_POOL": "system", "POLARS_ROW_GROUP_PREFETCH_SIZE": "2"}
"""Unless the user has their own, and only for libraries that are loaded later. Polars reads several row groups ahead;
with texts of some kilobytes that is most of what it holds."""
BLOCK = 200_000
"""Blocks from this size on are the system's own mappings, which end when they are freed."""
M_MMAP_THRESHOLD = -3
"""`mallopt`'s name for it, in glibc and musl alike."""


def frugal() -> None:
    """Have this process give large blocks back at once. Where the C library has no such setting, nothing happens."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        with suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, BLOCK)
