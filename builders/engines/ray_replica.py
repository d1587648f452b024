"""What runs on the nodes of a Ray cluster: one engine's backend in an actor."""

from __future__ import annotations

import asyncio

from specdistill.builders.engines.backend import Backend
from specdistill.builders.engines.base import Engine
from specdistill.builders.engines.exchange import Completion, Request, Sampling
from specdistill.errors import EngineUnreachable


class Replica:
    """One copy of a model. An asynchronous Ray actor: many requests at a time, on one event loop.

    It is there before the model is loaded, so that a replica without a node and one that loads can be told apart.

    Args:
        engine: not loaded; its fields travel, not its state.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._backend: Backend | None = None
        self._starting = asyncio.Lock()

    async def where(self) -> str:
        """Id of the node this is on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    async def start(self) -> None:
        """Load the model; at once where it is loaded. See `Backend.start` for what it raises."""
        async with self._starting:
            if self._backend is not None:
                return
            backend = self._engine.make_backend()
            try:
                await asyncio.to_thread(backend.start)
            except BaseException:
                await asyncio.to_thread(backend.close)
                raise
            self._backend = backend

    async def complete(self, request: Request, sampling: Sampling) -> list[Completion]:
        """See `Engine.complete`. A model that is gone is let go, for `start` to load it again."""
        if (backend := self._backend) is None:
            raise EngineUnreachable("The replica has lost its model.", "Run the same command again.")
        try:
            return await backend.complete(request, sampling)
        except EngineUnreachable:
            if self._backend is backend:
                await self.stop()
            raise

    async def stop(self) -> None:
        """Let the model go: what it holds of a GPU is free when this returns."""
        backend, self._backend = self._backend, None
        if backend is not None:
            await asyncio.to_thread(backend.close)
