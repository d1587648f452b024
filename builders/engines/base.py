"""What every engine is: one request in, its completions out, one row's failure its own.

An `Engine` is a distilabel `AsyncLLM`, so it goes into any distilabel pipeline; our own runner calls
`complete`. The heavy part (a vLLM process, model weights, an HTTP session) is a `Backend`, which several
engines may share: two roles with the same model and different sampling are two engines on one backend (see
`EnginePool` in `factory`).
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from abc import abstractmethod
from copy import deepcopy
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr

from specdistill.builders.engines.backend import Backend, SharedBackend
from specdistill.builders.engines.exchange import Completion, Messages, Request, Sampling, failure
from specdistill.errors import EngineError
from specdistill.schemas.vocabulary import FinishReason

# distilabel 1.5 declares its fields in a way that newer pydantic warns of, once for each derived class.
warnings.filterwarnings("ignore", message="The 'default' attribute with value None was provided to the `Field")
_hook = sys.excepthook
from distilabel.models.llms.base import AsyncLLM  # noqa: E402

sys.excepthook = _hook  # distilabel's own prints the locals of every frame, keys among them

__all__ = ["Backend", "Completion", "Engine", "Messages", "Request", "Sampling", "SharedBackend", "failure"]

PER_REQUEST = ("sampling", "chat_template_kwargs")
"""Engine options that may differ between roles on one backend."""


RUNTIME_OPTIONS = frozenset(
    {
        "batch_size",
        "disable_log_stats",
        "enable_prefix_caching",
        "enforce_eager",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "max_num_batched_tokens",
        "max_num_seqs",
        "pipeline_parallel_size",
        "tensor_parallel_size",
    }
)
"""Engine options that decide speed and memory but not what is sampled from; left out of `Engine.sampling`."""


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
    retries: int = Field(default=5, ge=0, description="Further tries of a request that failed for a passing reason.")
    options: dict[str, Any] = Field(default_factory=dict, description="Passed on to the engine.")

    computes: ClassVar[bool] = True
    """Whether the model runs on the machine that the engine is loaded on."""

    _shared: SharedBackend | None = PrivateAttr(default=None)
    _windows: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = PrivateAttr(default_factory=dict)

    @abstractmethod
    def make_backend(self) -> Backend:
        """A fresh, unstarted backend for these fields."""

    @property
    def request_options(self) -> dict[str, Any]:
        """The options that go with each request: `sampling` (further sampling parameters, by the engine's own
        names) and `chat_template_kwargs`."""
        return {name: self.options[name] for name in PER_REQUEST if name in self.options}

    @property
    def load_options(self) -> dict[str, Any]:
        """The other options, which the backend is made with."""
        return {name: value for name, value in self.options.items() if name not in self.request_options}

    @property
    def backend_key(self) -> tuple[Any, ...]:
        """Engines with equal keys can share a backend."""
        return (type(self).__name__, self.model, _frozen(self.load_options))

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
        shared: SharedBackend | None = self._private("_shared")
        if shared is None or shared.backend is None:
            raise EngineError(f"The engine for '{self.model}' is not loaded.", "Call load() first.")
        return shared.backend

    async def complete(self, request: Request) -> list[Completion]:
        """Complete one conversation.

        Args:
            request: what to complete.

        At temperature 0 all samples are the same, so one is drawn and repeated; the repetitions cost no
        tokens.

        Returns:
            `request.samples` completions, or fewer where a server sent fewer. A failure of this row alone is
            a completion with finish_reason ERROR and its reason in `error`.

        Raises:
            EngineUnreachable: the engine does not answer at all, after all retries.
            EngineError: the configuration is at fault (unknown model, refused key), so no row can succeed.
        """
        backend = self.backend
        async with self._window():  # whoever calls: distilabel's own pipeline sends whole batches
            sampling = Sampling(self.temperature, self.top_p, self.max_tokens, self.seed, self.request_options)
            if self.temperature > 0 or request.samples == 1:
                return await backend.complete(request, sampling)
            [drawn, *_] = await backend.complete(replace(request, samples=1), sampling)
            return [drawn] + [replace(drawn, completion_tokens=0)] * (request.samples - 1)

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

    def _window(self) -> asyncio.Semaphore:
        """At most `concurrency` requests in flight on the running loop."""
        loop = asyncio.get_running_loop()
        windows: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = self._private("_windows")
        if (window := windows.get(loop)) is None:
            self._windows = {other: kept for other, kept in windows.items() if not other.is_closed()}
            window = self._windows[loop] = asyncio.Semaphore(self.concurrency)
        return window

    def _private(self, name: str) -> Any:
        """A private attribute, past pydantic's `__getattr__`: that costs 10 µs, several times a request."""
        return (self.__pydantic_private__ or {})[name]

    def __getstate__(self) -> dict[Any, Any]:
        """Fields only: distilabel pickles its LLMs into subprocesses, where `load` starts a backend of its
        own."""
        state = super().__getstate__()
        private = dict(state.get("__pydantic_private__") or {})
        return state | {"__pydantic_private__": private | _unloaded()}

    def __copy__(self) -> Self:
        """An unloaded engine with the same fields: changed fields may need another backend."""
        copied = super().__copy__()
        for name, value in _unloaded().items():
            setattr(copied, name, value)
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """As `__copy__`, with copies of the fields."""
        copied = self.__copy__()
        copied.__dict__.update(deepcopy(self.__dict__, memo))
        return copied


def _unloaded() -> dict[str, Any]:
    """The private state of an engine that was never loaded."""
    return {"_shared": None, "_windows": {}, "_event_loop": None, "_new_event_loop": False}


def _frozen(value: Any) -> Any:
    """A hashable form of JSON-like values."""
    if isinstance(value, dict):
        return tuple(sorted((key, _frozen(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    return value
