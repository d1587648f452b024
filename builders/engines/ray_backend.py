"""Replicas of one engine on a Ray cluster, seen from the process that runs the build.

Replicas come and go: each waits for a node with room, loads, serves, and when it dies is started again by Ray, on
another node if need be. A request whose replica died goes to another one; the caller sees one answer.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from specdistill.builders.engines.backend import Backend
from specdistill.builders.engines.balancing import Balancer, Member, prefix_of
from specdistill.builders.engines.base import Engine
from specdistill.builders.engines.exchange import Completion, Request, Sampling, failure, said
from specdistill.builders.engines.ray_replica import Replica
from specdistill.errors import EngineError, EngineUnreachable, SpecdistillError

if TYPE_CHECKING:
    from specdistill.builders.engines.ray_cluster import RayHost

DEATHS = 5
"""Replicas that may die over one request before the request is taken for the reason. Nodes that are taken back die
several at a time, so a few deaths say nothing about what they were working on."""
_GRACE = 30.0
"""Seconds a replica may take to let its model go."""
_MANY = 4096
"""Most requests at one replica; what limits them is the engines' windows."""
_LOOK = 1.0
"""Seconds between two looks at whether waiting makes sense."""


class State(StrEnum):
    """Where a replica is in its life."""

    PENDING = "pending"
    """It has no node yet, or its node is being looked for."""
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    """Its model cannot be loaded."""


@dataclass(eq=False)
class Seat:
    """One replica's place.

    Attributes:
        member: its place in the balancing.
        actor: Ray's handle, the same through all restarts.
        node: id of the node it was last seen on.
        life: counts up each time it is lost, so that news of an earlier life can be told apart.
        served: it was ready at some time.
        error: why it failed.
        lost: set when it is to be looked for.
    """

    member: Member
    actor: Any
    state: State = State.PENDING
    node: str = ""
    life: int = 0
    served: bool = False
    error: BaseException | None = None
    lost: asyncio.Event = field(default_factory=asyncio.Event)


class RayBackend(Backend):
    """Replicas of an engine's own backend.

    Args:
        engine: not loaded.
        host: the cluster.
    """

    def __init__(self, engine: Engine, host: RayHost) -> None:
        self._engine, self._host = engine, host
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._seats: dict[str, Seat] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._need = ""

    def start(self) -> None:
        """Join the cluster and ask for the replicas. Does not wait for one: requests do, and can be stopped.

        Raises:
            MissingExtra: Ray is not installed.
            EngineUnreachable, EngineError: see `RayHost.connect`.
        """
        self._host.connect()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ray-replicas", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._launch(), self._loop).result()

    async def _launch(self) -> None:
        import ray

        need, count = self._host.room(self._engine)
        self._need = str(need)
        remote = ray.remote(Replica).options(
            num_cpus=need.cpus,
            num_gpus=need.gpus,
            max_restarts=-1,
            max_concurrency=_MANY,
            scheduling_strategy="SPREAD",
        )
        self._balancer = Balancer([f"replica {number}" for number in range(1, count + 1)])
        self._since, self._news = time.monotonic(), asyncio.Event()
        for member in self._balancer.members:
            self._balancer.away(member)
            seat = self._seats[member.name] = Seat(member, remote.remote(self._engine))
            self._tasks.append(asyncio.create_task(self._tend(seat)))

    async def _tend(self, seat: Seat) -> None:
        """The life of one replica, again and again."""
        from ray.exceptions import ActorUnavailableError, RayError, RayTaskError

        while True:
            if seat.state is not State.PENDING:
                self._move(seat, State.PENDING)
            seat.lost.clear()
            try:
                seat.node = await seat.actor.where.remote()  # waits until there is room for a new one
            except ActorUnavailableError:  # it is being started again, as soon as there is room
                await asyncio.sleep(_LOOK)
                continue
            except RayError as exc:
                seat.error = EngineError(
                    f"A replica of '{self._engine.model}' cannot be made on the cluster: {said(exc)}",
                    "Install the same specdistill, with its engine, on every node.",
                )
                return self._move(seat, State.FAILED)
            self._move(seat, State.LOADING)
            try:
                await seat.actor.start.remote()
            except RayTaskError as exc:
                seat.error = exc.cause
                self._host.note(f"{seat.member.name.capitalize()} cannot load its model: {said(exc.cause)}")
                return self._move(seat, State.FAILED)
            except RayError:  # it died while it loaded
                continue
            self._host.note(
                f"{seat.member.name.capitalize()} of {self._engine.model} is ready on node {seat.node[:8]}."
            )
            seat.served = True
            self._balancer.back(seat.member)
            self._move(seat, State.READY)
            await seat.lost.wait()

    def _move(self, seat: Seat, state: State) -> None:
        seat.state = state
        self._since = time.monotonic()
        self._news.set()
        self._news = asyncio.Event()

    def _lose(self, seat: Seat, life: int, why: str) -> None:
        """Look for a replica that did not answer, and for all on its node: a node dies with all of them, and a request
        must not be sent from one dead replica to the next."""
        if seat.life != life:
            return
        self._host.note(f"{seat.member.name.capitalize()} of {self._engine.model} is lost: {why}")
        for other in self._seats.values():
            if other is seat or (other.node == seat.node and other.state is State.READY):
                other.life += 1
                self._balancer.away(other.member)
                self._move(other, State.PENDING)
                other.lost.set()

    def close(self) -> None:
        """Let the models go and end the replicas."""
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()

    async def _stop(self) -> None:
        import ray

        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        stopping = [
            asyncio.ensure_future(seat.actor.stop.remote())
            for seat in self._seats.values()
            if seat.state in (State.READY, State.LOADING)
        ]
        if stopping:
            await asyncio.wait(stopping, timeout=_GRACE)
            await asyncio.gather(*(one for one in stopping if one.done()), return_exceptions=True)
        for seat in self._seats.values():
            with suppress(ray.exceptions.RayError):
                ray.kill(seat.actor)

    async def complete(self, request: Request, sampling: Sampling) -> list[Completion]:
        """See `Engine.complete`."""
        if self._loop is None:
            raise EngineError(f"The replicas of '{self._engine.model}' are closed.", "Load the engine again.")
        work = asyncio.run_coroutine_threadsafe(self._complete(request, sampling), self._loop)
        return await asyncio.wrap_future(work)

    async def _complete(self, request: Request, sampling: Sampling) -> list[Completion]:
        """`complete`, on the backend's own loop."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        prefix, last = prefix_of(request), Exception()
        for _ in range(DEATHS):
            seat = await self._turn(prefix)
            life = seat.life
            asked = seat.actor.complete.remote(request, sampling)
            try:
                found: list[Completion] = await asked
            except RayTaskError as exc:
                if not isinstance(exc.cause, EngineUnreachable):
                    raise (exc.cause if isinstance(exc.cause, SpecdistillError) else exc) from None
                last = exc.cause
            except RayError as exc:
                last = exc
            except asyncio.CancelledError:
                ray.cancel(asked)
                raise
            else:
                return found
            finally:
                self._balancer.done(seat.member)
            self._lose(seat, life, last.cause if isinstance(last, EngineUnreachable) else type(last).__name__)
        if isinstance(last, EngineUnreachable):
            raise last
        return failure(f"{DEATHS} replicas died while they worked on this request: {said(last)}", request)

    async def _turn(self, prefix: str) -> Seat:
        """The replica that gets the request, as soon as there is one.

        Raises:
            EngineError: no replica can be started.
            EngineUnreachable: there was no room for one for too long.
        """
        while (member := self._balancer.take(prefix)) is None:
            self._give_up()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _LOOK)
        return self._seats[member.name]

    def _give_up(self) -> None:
        """Raise where waiting for a replica makes no sense."""
        for task in self._tasks:
            if task.done():
                task.result()  # a replica that failed has ended its task in order; anything else is ours to show
        seats = list(self._seats.values())
        if any(seat.state in (State.READY, State.LOADING) for seat in seats):
            return
        errors = [seat.error for seat in seats if seat.error is not None and seat.state is State.FAILED]
        if errors and not any(seat.served for seat in seats if seat.state is State.PENDING):
            raise errors[0]
        if time.monotonic() - self._since > self._host.patience:
            nodes = self._host.nodes()
            raise EngineUnreachable(
                f"The Ray cluster has had no room for a replica of '{self._engine.model}' for"
                f" {self._host.patience:g} s: each takes {self._need} of one node, and there are"
                f" {len(nodes)} nodes with {sum(node.get('CPU', 0) for node in nodes):g} CPU and"
                f" {sum(node.get('GPU', 0) for node in nodes):g} GPU.",
                "Start nodes, then run the same command again; finished work is kept.",
            )
