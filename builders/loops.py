"""What hundreds of requests in flight need of Python: a fast event loop, and a collector that stays out of the way."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

COLLECT_AFTER = 20_000
"""New objects that start a collection of the youngest; Python's own 700 are less than one window of requests."""


@contextmanager
def few_collections() -> Iterator[None]:
    """Keep Python's cycle collector from walking over all that was imported, again and again: a request makes hundreds
    of objects that live for as long as the model takes, which is what starts it. It was a quarter of a build's CPU."""
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        if not frozen:  # else somebody wants these objects frozen
            gc.unfreeze()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop, which costs a third less CPU a request; asyncio's own where it is not installed."""
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    return uvloop.new_event_loop
