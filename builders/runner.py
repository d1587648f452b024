"""Walks a distilabel pipeline's DAG in this process: a rolling window of requests, a ledger underneath.

distilabel's own engine hangs on resume and loses rows, so it is never on the path of a build. This runner keeps the
DAG, its validation and its steps, and replaces the execution:

- rows stream from step to step through bounded queues, so memory is flat and a slow row does not hold the others;
- every model call is answered from the ledger where it can be, and journalled at once where it cannot;
- one row's failure is that row's own; an engine that does not answer at all ends the run cleanly, to be resumed.

Steps with several predecessors and routing functions are refused: a build needs neither.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from distilabel.pipeline import Pipeline
from distilabel.steps.base import GeneratorStep, GlobalStep, Step

from specdistill.builders.budget import Held
from specdistill.builders.calls import Caller
from specdistill.builders.engines.base import Completion, Engine
from specdistill.builders.ledger import Ledger
from specdistill.builders.loops import few_collections, loop_factory
from specdistill.builders.tasks import SampledTask
from specdistill.errors import EngineError

Row = dict[str, Any]
T = TypeVar("T")
SAMPLES = "sample_indexes"
"""Optional key of a row: step name to the samples still wanted of it; a step that is not named wants none."""
QUEUE_ROWS = 512
STEP_BATCH = 256
END = None


@dataclass
class Hooks:
    """What the caller wants to see.

    Attributes:
        sinks: step name to a function that takes the step's output rows (to write parts).
        progress: called with (step name, output rows) as they come.
    """

    sinks: Mapping[str, Callable[[list[Row]], None]] = field(default_factory=dict)
    progress: Callable[[str, list[Row]], None] = lambda name, rows: None


@dataclass
class Node:
    """One step at work: its input queue and its successors' queues."""

    step: Any
    inbox: asyncio.Queue[Row | None]
    successors: list[asyncio.Queue[Row | None]]

    async def rows(self) -> AsyncIterator[Row]:
        """Input rows until the end mark."""
        while (row := await self.inbox.get()) is not END:
            yield row

    async def batches(self, size: int) -> AsyncIterator[list[Row]]:
        """Whatever waits, at most `size` rows at a time, never waiting to fill a batch."""
        ended = False
        while not ended:
            batch = []
            row = await self.inbox.get()
            while row is not END:
                batch.append(row)
                if len(batch) >= size or self.inbox.empty():
                    break
                row = self.inbox.get_nowait()
            ended = row is END
            if batch:
                yield batch

    async def give(self, rows: Iterable[Row]) -> None:
        """Hand rows to every successor; waits where a successor is behind."""
        for row in rows:
            for queue in self.successors:
                await queue.put(dict(row) if len(self.successors) > 1 else row)

    async def end(self) -> None:
        """Tell the successors that nothing more comes."""
        for queue in self.successors:
            await queue.put(END)


async def walk(
    pipeline: Pipeline,
    ledger: Ledger,
    hooks: Hooks,
    inject: Mapping[str, Iterable[Row]] | None = None,
) -> None:
    """Run a pipeline to its end.

    Args:
        pipeline: validated before anything runs.
        ledger: answers finished calls and journals new ones.
        hooks: where rows go.
        inject: step name to rows that enter at that step, before those of its predecessor.

    Raises:
        EngineError: the pipeline is of a kind this runner does not take, or an engine cannot be used.
        EngineUnreachable: an engine does not answer at all.
        BudgetSpent: the run's token budget held requests back; everything else is done.
    """
    nodes = build_nodes(pipeline)
    models = [node.step.llm for node in nodes.values() if isinstance(node.step, SampledTask)]
    engines = {id(model): model for model in models if isinstance(model, Engine)}
    windows = {key: asyncio.Semaphore(engine.concurrency) for key, engine in engines.items()}
    asking: dict[str, asyncio.Event] = {}
    try:
        async with asyncio.TaskGroup() as group:
            for name, node in nodes.items():
                early = (inject or {}).get(name, ())
                caller = None
                if id(getattr(node.step, "llm", None)) in windows:
                    caller = Caller(name, node.step.llm, ledger, windows[id(node.step.llm)], asking)
                group.create_task(run_node(name, node, caller, hooks, early), name=name)
    except BaseExceptionGroup as failures:
        raise first_of(failures) from None
    finally:
        for engine in engines.values():  # steps may share one, so none of them unloads it
            engine.unload()
    await asyncio.to_thread(ledger.flush)  # whoever walks next finds these calls
    if ledger.budget is not None:
        ledger.budget.check()


def first_of(group: BaseExceptionGroup[Any]) -> BaseException:
    """The first real exception in a group of groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def build_nodes(pipeline: Pipeline) -> dict[str, Node]:
    """A node a step, wired as the DAG says.

    Raises:
        EngineError: the DAG has a step with several predecessors, or is not valid.
    """
    dag = pipeline.dag
    try:
        dag.validate()
    except ValueError as exc:
        raise EngineError(f"The pipeline is not valid: {exc}", "Mend the step that is named.") from exc
    inboxes: dict[str, asyncio.Queue[Row | None]] = {name: asyncio.Queue(QUEUE_ROWS) for name in dag}
    nodes = {}
    for name in dag:
        step = dag.get_step(name)["step"]
        if len(list(dag.get_step_predecessors(name))) > 1:
            raise EngineError(
                f"Step '{name}' has several predecessors, which this runner does not take.",
                "Give each branch its own step.",
            )
        nodes[name] = Node(step, inboxes[name], [inboxes[to] for to in dag.get_step_successors(name)])
    return nodes


async def run_node(name: str, node: Node, caller: Caller | None, hooks: Hooks, early: Iterable[Row]) -> None:
    """One step from its first row to its last; `caller` is there for a task with one of our engines."""

    async def out(rows: list[Row]) -> None:
        if rows:
            if sink := hooks.sinks.get(name):
                sink(rows)
            hooks.progress(name, rows)
            await node.give(rows)

    step = node.step
    if caller is not None:
        # Its engine is loaded by the first call that the ledger cannot answer: a finished run starts no engine.
        await sample(name, step, node, caller, early, out)
    else:
        step.load()
        try:
            if isinstance(step, GeneratorStep):
                async for [(rows, _)] in drawn(step.process_applying_mappings(), 1):
                    await out(rows)
            else:
                await transform(step, node, early, out)
        finally:
            step.unload()
    await node.end()


async def transform(step: Step, node: Node, early: Iterable[Row], out: Callable[[list[Row]], Any]) -> None:
    """A step without one of our engines: whole batches, every `yield` kept. A global step gets all rows at once."""
    if isinstance(step, GlobalStep):
        if held := [*early, *[row async for row in node.rows()]]:
            for made in step.process_applying_mappings(held):
                await out(made)
        return
    for batches in (drawn(early, STEP_BATCH), node.batches(STEP_BATCH)):
        async for batch in batches:
            for made in step.process_applying_mappings(batch):
                await out(made)


async def drawn(rows: Iterable[T], size: int) -> AsyncIterator[list[T]]:
    """`rows`, up to `size` at a time, drawn in a thread: they may come from disk."""
    left = iter(rows)
    while batch := await asyncio.to_thread(lambda: list(islice(left, size))):
        yield batch


async def sample(
    name: str,
    task: SampledTask,
    node: Node,
    caller: Caller,
    early: Iterable[Row],
    out: Callable[[list[Row]], Any],
) -> None:
    """A model task: up to `concurrency` rows at once; the next row starts when any of them ends."""
    window = asyncio.Semaphore(caller.engine.concurrency)

    async def one(row: Row, wanted: list[int]) -> None:
        try:
            given = task.format_input(row)
            messages, structured = given if isinstance(given, tuple) else (given, None)
            schema = (structured or {}).get("schema")
            found: dict[int, Completion] = {}
            while wave := task.wave(row, wanted, found):
                found |= await caller.complete(messages, schema, wave)
            await out(task.rows(row, found))
        except Held:  # the rest of the pipeline ends as usual; `walk` says why it is not whole
            pass
        finally:
            window.release()

    async with asyncio.TaskGroup() as group:

        async def take(row: Row) -> None:
            asked = row.pop(SAMPLES, None)
            wanted = list(range(task.num_generations)) if asked is None else asked.get(name, [])
            if wanted:
                await window.acquire()
                group.create_task(one(row, wanted))

        async for batch in drawn(early, STEP_BATCH):
            for row in batch:
                await take(row)
        async for row in node.rows():
            await take(row)


class Stopped(Exception):
    """The user asked for a stop (Ctrl-C or SIGTERM)."""


def run_to_end(work: Any) -> None:
    """Run a coroutine until it ends or a stop is asked for; then its tasks are cancelled and awaited.

    Raises:
        Stopped: SIGINT or SIGTERM came.
    """
    import signal

    async def guarded() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        asked = time.monotonic()

        def stop() -> None:
            nonlocal asked
            asked = -1.0
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, stop)
        try:
            await task
        except asyncio.CancelledError:
            if asked < 0:
                raise Stopped from None
            raise

    with signals_kept(), few_collections(), asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(guarded())


@contextmanager
def signals_kept() -> Iterator[None]:
    """Ctrl-C and SIGTERM mean afterwards what they meant before: uvloop's loop leaves them without effect."""
    import signal

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
