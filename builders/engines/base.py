"""What every engine is: one request in, its completions out, one row's failure its own.

An `Engine` is a distilabel `AsyncLLM`, so it goes into any distilabel pipeline; our own runner calls
`complete`. The heavy part (a vLLM process, model weights, an HTTP session) is a `Backend`, which several
engines may share: two roles with the same model and different sampling are two engines on one backend (see
`EnginePool` in `factory`).
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from distilabel.models.llms.base import AsyncLLM
from pydantic import Field, PrivateAttr

from specdistill.errors import EngineError
from specdistill.schemas.vocabulary import FinishReason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Messages = list[dict[str, str]]
"""A conversation: list of {role, content}, oldest first."""

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"

RUNTIME_OPTIONS = frozenset(
    {
        "batch_size",
        "cpu_kv_cache_gib",
        "disable_log_stats",
        "enable_prefix_caching",
        "enforce_eager",
        "gpu_memory_utilization",
        "max_num_batched_tokens",
        "max_num_seqs",
        "pipeline_parallel_size",
        "tensor_parallel_size",
    }
)
"""Engine options that decide speed and memory but not what is sampled from; left out of `Engine.sampling`."""


@dataclass(frozen=True)
class Request:
    """One conversation to be completed `samples` times.

    Attributes:
        messages: the conversation; the last turn is the one to be answered.
        samples: completions wanted, from one request.
        schema: JSON schema the text must follow, or None for free text.
        seed: added to the engine's seed. Sample i is drawn with seed `engine.seed + seed + i` where the
            engine can do so; a caller that asks again for samples 2 and 3 of a prompt therefore sets
            `seed=2`.
    """

    messages: Messages
    samples: int = 1
    schema: dict[str, Any] | None = None
    seed: int = 0


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: 0 is greedy.
        top_p: smallest set of tokens with this probability mass is drawn from.
        max_tokens: most tokens of one sample, reasoning included.
        seed: seed of the first sample of a request whose own seed is 0.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 4096
    seed: int = 0

    def seed_of(self, request: Request, sample: int = 0) -> int:
        """Seed of one sample, within the 31 bits every engine takes."""
        return (self.seed + request.seed + sample) % 2**31


@dataclass(frozen=True)
class Completion:
    """One sample.

    Attributes:
        text: what the model said; without the reasoning where `reasoning` is given.
        reasoning: the reasoning where the engine returns it apart, else None (it may still be inside `text`).
        finish_reason: why generation ended. ERROR means that there is no usable text.
        prompt_tokens: tokens of the request, None where unknown.
        completion_tokens: tokens generated for this sample, None where unknown.
        cached_tokens: prompt tokens answered from a prefix cache, None where unknown.
        error: why the call failed, in one sentence, where finish_reason is ERROR.
    """

    text: str
    reasoning: str | None
    finish_reason: FinishReason
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None = None
    error: str | None = None

    def canonical(self) -> str:
        """The whole text as one string, reasoning in `<think>` tags: what distilabel's `generations` carry.

        Reasoning that was cut before it ended has no closing tag, so reading it gives `truncated` and no
        answer.
        """
        if self.reasoning is None:
            return self.text
        if not self.text and self.finish_reason is not FinishReason.STOP:
            return THINK_OPEN + self.reasoning
        return f"{THINK_OPEN}{self.reasoning}{THINK_CLOSE}{self.text}"


def failure(error: str, request: Request) -> list[Completion]:
    """One failed completion for each sample asked for."""
    failed = Completion("", None, FinishReason.ERROR, None, None, error=error)
    return [failed] * request.samples


class Backend(ABC):
    """The heavy half of an engine. Safe to use from several event loops and threads."""

    @abstractmethod
    def start(self) -> None:
        """Make it ready.

        Raises:
            MissingExtra: a package is not installed.
            EngineError: the model or the options cannot be used.
            EngineUnreachable: the server does not answer.
        """

    @abstractmethod
    def close(self) -> None:
        """Release everything; leaves no process behind. Safe to call twice."""

    @abstractmethod
    async def complete(self, request: Request, sampling: Sampling) -> list[Completion]:
        """See `Engine.complete`."""

    def count_tokens(self, text: str | Messages) -> int | None:
        """Tokens of a text, or of a conversation as the chat template renders it; None without a tokenizer at
        hand."""
        return None


class SharedBackend:
    """A backend and who uses it: started by the first that needs it, closed when the last one is done.

    Args:
        make: gives a fresh, unstarted backend.
    """

    def __init__(self, make: Callable[[], Backend]) -> None:
        self._make = make
        self._users: set[int] = set()
        self._lock = threading.Lock()
        self.backend: Backend | None = None

    def reserve(self, user: object) -> None:
        """Keep the backend alive for `user`, without starting it yet."""
        with self._lock:
            self._users.add(id(user))

    def acquire(self, user: object) -> Backend:
        """The started backend, kept alive for `user`."""
        with self._lock:
            if self.backend is None:
                backend = self._make()
                try:
                    backend.start()
                except BaseException:
                    backend.close()
                    raise
                self.backend = backend
            self._users.add(id(user))
            return self.backend

    def release(self, user: object) -> None:
        """`user` is done; the last one closes the backend."""
        with self._lock:
            self._users.discard(id(user))
            if not self._users:
                self._close()

    def close(self) -> None:
        """Close whoever still uses it."""
        with self._lock:
            self._users.clear()
            self._close()

    def _close(self) -> None:
        backend, self.backend = self.backend, None
        if backend is not None:
            backend.close()


class Engine(AsyncLLM):
    """A model and how to sample from it, as a distilabel LLM. Fields mean what they mean in a recipe."""

    model: str = Field(description="Hub id, local folder, name on the server, or `embedded`.")
    reasoning: Literal["native", "prompted", "guided"] = Field(
        default="native", description="How reasoning is had; decides how callers ask for it and read it."
    )
    temperature: float = Field(default=0.7, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    max_tokens: int = Field(default=4096, ge=1, description="Most tokens of one sample, reasoning included.")
    seed: int = 0
    concurrency: int = Field(default=64, ge=1, description="Requests in flight at once.")
    timeout: float = Field(default=600.0, gt=0, description="Seconds for one try of one request to a server.")
    retries: int = Field(
        default=5, ge=0, description="Further tries of a request that failed for a passing reason."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Passed on to the engine.")

    _shared: SharedBackend | None = PrivateAttr(default=None)
    _windows: Any = PrivateAttr(default=None)

    @abstractmethod
    def make_backend(self) -> Backend:
        """A fresh, unstarted backend for these fields."""

    @property
    def backend_key(self) -> tuple[Any, ...]:
        """Engines with equal keys can share a backend."""
        return (type(self).__name__, self.model, _frozen(self.options))

    @property
    def model_name(self) -> str:
        """The model as configured."""
        return self.model

    @property
    def sampling(self) -> dict[str, Any]:
        """All that decides what is sampled; JSON-able, part of the keys of rows and ledger."""
        options = {name: value for name, value in self.options.items() if name not in RUNTIME_OPTIONS}
        return {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "options": options,
        }

    def load(self) -> None:
        """Make the engine ready. Idempotent; see `Backend.start` for what it raises."""
        super().load()
        if self._shared is None:
            self._shared = SharedBackend(self.make_backend)
        self._shared.acquire(self)

    def unload(self) -> None:
        """Let go of the backend, which is closed when no other engine shares it. Idempotent."""
        if self._shared is not None:
            self._shared.release(self)

    def share(self, shared: SharedBackend) -> None:
        """Use a backend that other engines use too. It stays alive until every one of them is unloaded."""
        shared.reserve(self)
        self._shared = shared

    @property
    def backend(self) -> Backend:
        """The started backend.

        Raises:
            EngineError: the engine is not loaded.
        """
        if self._shared is None or self._shared.backend is None:
            raise EngineError(f"The engine for '{self.model}' is not loaded.", "Call load() first.")
        return self._shared.backend

    async def complete(self, request: Request) -> list[Completion]:
        """Complete one conversation.

        Args:
            request: what to complete.

        Returns:
            `request.samples` completions, or fewer where a server sent fewer. A failure of this row alone is
            a completion with finish_reason ERROR and its reason in `error`.

        Raises:
            EngineUnreachable: the engine does not answer at all, after all retries.
            EngineError: the configuration is at fault (unknown model, refused key), so no row can succeed.
        """
        backend = self.backend
        async with self._window():
            sampling = Sampling(self.temperature, self.top_p, self.max_tokens, self.seed)
            return await backend.complete(request, sampling)

    async def agenerate(self, input: Any, num_generations: int = 1) -> Any:
        """distilabel's way in: a conversation, or (conversation, {"schema": JSON schema}).

        Args:
            input: the conversation, alone or with its structured output.
            num_generations: samples wanted.

        Returns:
            distilabel's GenerateOutput: canonical texts, None for a failed sample, always `num_generations`
            of them; token counts, finish reasons and errors under `statistics`.
        """
        messages, structured = input if isinstance(input, tuple) else (input, None)
        schema = (structured or {}).get("schema")
        if schema is not None and not isinstance(schema, dict):
            schema = schema.model_json_schema()
        found = await self.complete(Request(messages, num_generations, schema))
        if missing := num_generations - len(found):
            short = f"the server sent {len(found)} of {num_generations} samples"
            found = found + failure(short, Request(messages, missing))
        failed = FinishReason.ERROR
        return {
            "generations": [None if one.finish_reason is failed else one.canonical() for one in found],
            "statistics": {
                "input_tokens": [one.prompt_tokens or 0 for one in found],
                "output_tokens": [one.completion_tokens or 0 for one in found],
                "finish_reason": [str(one.finish_reason) for one in found],
                "error": [one.error or "" for one in found],
            },
        }

    def count_tokens(self, text: str | Messages) -> int | None:
        """Tokens of a text, or of a conversation as the chat template renders it; None without a tokenizer at
        hand."""
        return self.backend.count_tokens(text)

    @asynccontextmanager
    async def _window(self) -> AsyncIterator[None]:
        """At most `concurrency` requests in flight, whoever calls: distilabel's own pipeline sends whole
        batches."""
        if self._windows is None:
            self._windows = WeakKeyDictionary()
        loop = asyncio.get_running_loop()
        window = self._windows.get(loop)
        if window is None:
            window = self._windows[loop] = asyncio.Semaphore(self.concurrency)
        async with window:
            yield

    def __getstate__(self) -> dict[Any, Any]:
        """Fields only: distilabel pickles its LLMs into subprocesses, where `load` starts a backend of its
        own."""
        state = super().__getstate__()
        private = dict(state.get("__pydantic_private__") or {})
        private |= {"_shared": None, "_windows": None, "_event_loop": None, "_new_event_loop": False}
        return state | {"__pydantic_private__": private}


def _frozen(value: Any) -> Any:
    """A hashable form of JSON-like values."""
    if isinstance(value, dict):
        return tuple(sorted((key, _frozen(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    return value
