"""Model calls through the ledger: what is there is not asked again, what comes back is journalled at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from specdistill.builders.engines.base import Completion, Engine, Messages, Request
from specdistill.builders.ledger import Call, Ledger
from specdistill.schemas.digest import digest
from specdistill.schemas.text import storable
from specdistill.schemas.vocabulary import FinishReason

SHORT_ASKS = 3
"""Requests for one row while the server sends fewer samples than asked."""


class Caller:
    """Asks one engine on behalf of one stage.

    State: whether the engine is loaded. The first call that the ledger cannot answer loads it.
    """

    def __init__(
        self,
        stage: str,
        engine: Engine,
        ledger: Ledger,
        window: asyncio.Semaphore,
        asking: dict[str, asyncio.Event] | None = None,
    ) -> None:
        """`window` bounds the requests in flight of all callers of the engine; `asking` is what all callers of the
        ledger are asking just now, since two samples may read the same and are the same question to a judge."""
        self.stage, self.engine, self.ledger, self.window = stage, engine, ledger, window
        self.asking = {} if asking is None else asking
        self.identity = [engine.model_name, engine.sampling]
        self._loading = asyncio.Lock()
        self._loaded = False

    async def complete(
        self, messages: Messages, schema: dict[str, Any] | None, indexes: Sequence[int]
    ) -> dict[int, Completion]:
        """The samples `indexes` of one conversation, from the ledger or the engine.

        Returns:
            Index to completion, all of `indexes`; a failed one says why in `error`.

        Raises:
            EngineUnreachable, EngineError: no row can succeed.
            Held: the run's token budget is spent.
            DiskError: the ledger cannot be written.
        """
        base = digest("call", self.identity, messages, schema)
        while (same := self.asking.get(base)) is not None:
            await same.wait()  # then the ledger has what it brought
        ended = self.asking[base] = asyncio.Event()
        try:
            return await self._complete(messages, schema, {index: f"{base}-{index}" for index in indexes})
        finally:
            del self.asking[base]
            ended.set()

    async def _complete(
        self, messages: Messages, schema: dict[str, Any] | None, keys: dict[int, str]
    ) -> dict[int, Completion]:
        """`complete`, where nobody else asks the same."""
        known = self.ledger.lookup(list(keys.values()))
        found = {index: completion_from(known[key]) for index, key in keys.items() if key in known}
        for _ in range(SHORT_ASKS):
            missing = [index for index in keys if index not in found]
            if not missing:
                break
            found |= await self.ask(messages, schema, missing, keys)
        for index in keys:
            if index not in found:
                found[index] = failed("the server sent fewer samples than asked, again and again")
                self.journal(keys[index], found[index], 0.0)
        return found

    async def ask(
        self, messages: Messages, schema: dict[str, Any] | None, indexes: Sequence[int], keys: dict[int, str]
    ) -> dict[int, Completion]:
        """One request for the given samples; what came back, journalled.

        Raises:
            Held: the run's token budget is spent.
        """
        budget = self.ledger.budget
        if budget is not None:
            budget.ask()  # a spent budget starts no engine
        await self.load()
        async with self.window:
            if budget is not None:
                budget.ask()
            self.ledger.mark_sent([keys[index] for index in indexes])
            started = time.monotonic()
            completions = await self.engine.complete(Request(messages, len(indexes), schema, seed=indexes[0]))
            seconds = time.monotonic() - started
        came = dict(zip(indexes, completions, strict=False))
        for position, (index, completion) in enumerate(came.items()):
            # The request is one: its prompt tokens and its time are counted with its first sample only.
            self.journal(keys[index], completion, seconds if position == 0 else 0.0, first=position == 0)
            if budget is not None:
                budget.add(completion, first=position == 0)
        return came

    async def load(self) -> None:
        """Load the engine once, off the event loop: a vLLM start takes half a minute."""
        if self._loaded:
            return
        async with self._loading:
            if not self._loaded:
                await asyncio.to_thread(self.engine.load)
                self._loaded = True

    def journal(self, key: str, completion: Completion, seconds: float, first: bool = True) -> None:
        """Write one call into the ledger."""
        self.ledger.record(
            Call(
                key=key,
                stage=self.stage,
                ok=completion.error is None,
                result=completion_as_dict(completion),
                prompt_tokens=completion.prompt_tokens if first else 0,
                completion_tokens=completion.completion_tokens,
                seconds=seconds,
            )
        )


def failed(error: str) -> Completion:
    """A call that brought nothing."""
    return Completion("", None, FinishReason.ERROR, None, None, error=error)


def completion_as_dict(completion: Completion) -> dict[str, Any]:
    """As the ledger keeps it."""
    return {
        "text": storable(completion.text),
        "reasoning": None if completion.reasoning is None else storable(completion.reasoning),
        "finish_reason": FinishReason(completion.finish_reason).value,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "error": None if completion.error is None else storable(completion.error),
    }


def completion_from(data: dict[str, Any]) -> Completion:
    """As it was before the ledger."""
    return Completion(
        text=data["text"],
        reasoning=data["reasoning"],
        finish_reason=FinishReason(data["finish_reason"]),
        prompt_tokens=data["prompt_tokens"],
        completion_tokens=data["completion_tokens"],
        error=data["error"],
    )
