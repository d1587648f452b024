"""HTTP sessions that end with their event loop.

aiohttp sessions belong to one event loop, engines to whoever calls them: our runner, distilabel's own loops,
one `asyncio.run` after another. So each loop gets a session, held open by an async generator, which Python
closes when the loop shuts down (`loop.shutdown_asyncgens`, part of `asyncio.run`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp


class LoopSessions:
    """One session for each event loop.

    Args:
        make: opens a session on the running loop.
    """

    def __init__(self, make: Callable[[], aiohttp.ClientSession]) -> None:
        self._make = make
        self._held: dict[
            asyncio.AbstractEventLoop,
            tuple[aiohttp.ClientSession, AsyncGenerator[aiohttp.ClientSession, None]],
        ] = {}

    async def get(self) -> aiohttp.ClientSession:
        """The running loop's session."""
        loop = asyncio.get_running_loop()
        if (held := self._held.get(loop)) is None:
            self._held = {other: held for other, held in self._held.items() if not other.is_closed()}
            holder = self._hold()
            # Does not give way to other tasks: nothing is awaited before the first yield.
            held = self._held[loop] = (await anext(holder), holder)
        return held[0]

    async def _hold(self) -> AsyncGenerator[aiohttp.ClientSession, None]:
        session = self._make()
        try:
            yield session
        finally:
            await session.close()

    def close(self) -> None:
        """Close the sessions whose loop is still open. On the running loop they close as soon as it gets to
        it."""
        here = None
        with suppress(RuntimeError):
            here = asyncio.get_running_loop()
        for loop, (_, holder) in self._held.items():
            if loop is here:
                task = loop.create_task(holder.aclose())  # type: ignore[arg-type]
                self._closing = task  # a task that nobody holds may vanish before it is done
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(holder.aclose(), loop).result(timeout=10)
            elif here is None and not loop.is_closed():
                loop.run_until_complete(holder.aclose())
        self._held = {}
