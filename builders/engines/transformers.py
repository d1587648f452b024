"""transformers in this process: the fallback where vLLM is not installed.

Starts in seconds and needs nothing else, and is slower beyond a few hundred requests. A thread of ours takes
what is waiting, up to `batch_size` samples, and decodes it together; what they share at the beginning, such
as a spec, is computed once a batch.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from specdistill.builders.engines.backend import Backend
from specdistill.builders.engines.base import Engine
from specdistill.builders.engines.chat import ChatRenderer, Rendered
from specdistill.builders.engines.embedded import quiet, resolve_model
from specdistill.builders.engines.exchange import (
    THINK_OPEN,
    Completion,
    Messages,
    Request,
    Sampling,
    failure,
    said,
)
from specdistill.errors import EngineError, MissingExtra
from specdistill.schemas.vocabulary import FinishReason

_GATHER = 0.02
"""Seconds to wait for company before a batch starts."""


class TransformersEngine(Engine):
    """A transformers model in this process.

    `options`: `device`, `dtype`, `batch_size` (samples decoded together, default 32), `max_model_len`,
    further arguments of `from_pretrained`; and for each request `sampling` (`top_k`, and what `generate`
    takes for a whole batch, such as `repetition_penalty`) and `chat_template_kwargs`. `timeout` and `retries`
    have no meaning here.
    """

    def make_backend(self) -> Backend:
        """A model, not loaded."""
        return TransformersBackend(self.model, self.load_options)


@dataclass
class _Job:
    """A request that waits for its batch."""

    request: Request
    sampling: Sampling
    rendered: Rendered
    grammar: Any
    answer: Future[list[Completion]]


class TransformersBackend(Backend):
    """One model and the thread that decodes with it.

    Args:
        model: hub id, folder, or `embedded`.
        options: see `TransformersEngine`.
    """

    def __init__(self, model: str, options: dict[str, Any]) -> None:
        self._name = model
        self._options = dict(options)
        self._batch_size: int = self._options.pop("batch_size", 32)
        self._device: str | None = self._options.pop("device", None)
        self._max_model_len: int | None = self._options.pop("max_model_len", None)
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._kept: _Job | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._model: Any = None
        self._chat: ChatRenderer | None = None
        self._compiler: Any = None
        self._ends: set[int] = set()

    def start(self) -> None:
        """See `Backend.start`."""
        loaded: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, args=(loaded,), name="transformers", daemon=True)
        self._thread.start()
        loaded.result()

    def _load(self) -> None:
        """Load model and tokenizer."""
        try:
            import torch
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError as exc:
            raise MissingExtra("Engine 'transformers'", "embedded") from exc
        device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        folder = resolve_model(self._name)
        try:
            with quiet():
                model: Any = AutoModelForCausalLM.from_pretrained(folder, **{"dtype": "bfloat16"} | self._options)
                tokenizer = AutoTokenizer.from_pretrained(folder)
            self._model = model.to(device).eval()
        except (OSError, ValueError, TypeError, AttributeError, RuntimeError) as exc:
            raise EngineError(
                f"transformers cannot load '{self._name}': {said(exc)}",
                "Check the model's name, that it can be downloaded, and `options`.",
            ) from exc
        if tokenizer.chat_template is None:
            raise EngineError(
                f"'{self._name}' has no chat template.", "Use an instruction-tuned model, not a base model."
            )
        config = self._model.config.get_text_config()
        self._max_model_len = self._max_model_len or getattr(config, "max_position_embeddings", None) or 2**31
        ends = self._model.generation_config.eos_token_id
        ends = tokenizer.eos_token_id if ends is None else ends
        self._ends = set(ends if isinstance(ends, list) else [ends])
        self._compiler = _compiler(tokenizer, config.vocab_size, self._ends)
        self._chat = ChatRenderer(tokenizer)

    def close(self) -> None:
        """End the batch in progress, fail what waits, and let go of the model."""
        self._closing.set()
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None
        self._model = None

    async def complete(self, request: Request, sampling: Sampling) -> list[Completion]:
        """See `Engine.complete`."""
        if self._chat is None or self._closing.is_set():
            raise EngineError(f"The engine for '{self._name}' is closed.", "Load it again.")
        try:
            rendered = await asyncio.to_thread(
                self._chat.render, request.messages, sampling.options.get("chat_template_kwargs")
            )
        except Exception as exc:  # noqa: BLE001 a template raises what it likes
            return failure(f"the chat template refuses the conversation: {said(exc)}", request)
        if len(rendered.ids) >= (longest := self._max_model_len or 0):
            found = f"the prompt has {len(rendered.ids)} tokens; max_model_len is {longest}, answer included"
            return failure(found, request)
        try:
            grammar = await asyncio.to_thread(self._grammar, request.schema)
        except EngineError:
            raise
        except (RuntimeError, ValueError) as exc:
            return failure(f"the schema cannot be used: {said(exc)}", request)
        job = _Job(request, sampling, rendered, grammar, Future())
        self._waiting.put(job)
        return await asyncio.wrap_future(job.answer)

    def count_tokens(self, text: str | Messages) -> int | None:
        """See `Backend.count_tokens`."""
        return self._chat.count(text) if self._chat else None

    def _grammar(self, schema: dict[str, Any] | None) -> Any:
        """The compiled grammar of a schema; None for none."""
        if schema is None:
            return None
        if self._compiler is None:
            raise EngineError(
                "JSON schemas with engine 'transformers' need the package xgrammar.",
                "Install it with: uv pip install xgrammar; or use engine 'vllm'.",
            )
        # Free whitespace in JSON is where small models loop until max_tokens.
        return self._compiler.compile_json_schema(
            orjson.dumps(schema).decode(), any_whitespace=False, separators=(",", ":")
        )

    def _work(self, loaded: Future[None]) -> None:
        """The thread: load, then batch after batch until closed. It does all the computing: a second thread
        that computed would bring its own pool of OpenMP threads, and the two would fight for the cores."""
        try:
            self._load()
        except BaseException as exc:  # noqa: BLE001 raised where start() waits
            loaded.set_exception(exc)
            return
        loaded.set_result(None)
        while not self._closing.is_set():
            if batch := self._next_batch():
                self._run(batch)
        while self._kept is not None or not self._waiting.empty():
            job, self._kept = self._kept or self._waiting.get(), None
            if job is not None and job.answer.set_running_or_notify_cancel():
                job.answer.set_exception(EngineError("The engine was closed.", "Load it again."))

    def _next_batch(self) -> list[_Job]:
        """Jobs that are decoded together: same options, at most `batch_size` samples unless one job alone has
        more."""
        batch: list[_Job] = []
        room = self._batch_size
        while room > 0:
            try:
                job = self._kept or self._waiting.get(timeout=_GATHER if batch else None)
            except queue.Empty:
                break
            self._kept = None
            if job is None:
                break
            if batch and (job.request.samples > room or _options(job) != _options(batch[0])):
                self._kept = job
                break
            if not job.answer.set_running_or_notify_cancel():
                continue  # the caller has given up
            batch.append(job)
            room -= job.request.samples
        return batch

    def _run(self, batch: list[_Job]) -> None:
        """Decode a batch. One that fails is tried in halves, so that one row's failure stays its own."""
        try:
            answers = self._decode(batch)
        except Exception as exc:  # noqa: BLE001 out of memory, or anything a model raises for one row
            if self._closing.is_set():
                for job in batch:
                    job.answer.set_exception(EngineError("The engine was closed.", "Load it again."))
            elif len(batch) == 1:
                batch[0].answer.set_result(failure(f"the model failed: {said(exc)}", batch[0].request))
            else:
                self._run(batch[: len(batch) // 2])
                self._run(batch[len(batch) // 2 :])
            return
        for job, answer in zip(batch, answers, strict=True):
            job.answer.set_result(answer)

    def _decode(self, batch: list[_Job]) -> list[list[Completion]]:
        """The completions of each job."""
        from specdistill.builders.engines.decoding import Row, decode

        rows = []
        for job in batch:
            room = (self._max_model_len or 0) - len(job.rendered.ids)
            for sample in range(job.request.samples):
                rows.append(
                    Row(
                        prompt=job.rendered.ids,
                        max_tokens=min(job.sampling.max_tokens, room),
                        temperature=job.sampling.temperature,
                        top_p=job.sampling.top_p,
                        top_k=(job.sampling.options.get("sampling") or {}).get("top_k", 0),
                        seed=_seed(job.rendered.ids, job.sampling.seed_of(job.request, sample)),
                        matcher=_matcher(job.grammar),
                    )
                )
        drawn = iter(decode(self._model, rows, self._ends, min(self._ends), self._closing.is_set, _options(batch[0])))
        if self._closing.is_set():
            raise EngineError("The engine was closed.", "Load it again.")
        limits = iter(row.max_tokens for row in rows)
        return [[self._completion(job, next(drawn), next(limits)) for _ in range(job.request.samples)] for job in batch]

    def _completion(self, job: _Job, tokens: list[int], limit: int) -> Completion:
        chat = self._chat
        if chat is None:
            raise EngineError("The engine was closed.", "Load it again.")
        text = chat.tokenizer.decode(tokens, skip_special_tokens=not chat.special_thoughts)
        if job.rendered.thinking and job.request.schema is None:
            text = THINK_OPEN + text
        finish = FinishReason.LENGTH if len(tokens) >= limit else FinishReason.STOP
        return Completion(text, None, finish, len(job.rendered.ids), len(tokens))


def _seed(prompt: list[int], seed: int) -> int:
    """A row's seed, of its prompt too: with one seed for all prompts, like prompts would draw like
    answers."""
    content = repr((seed, prompt)).encode()
    return int.from_bytes(blake2b(content, digest_size=7).digest(), "big")


def _options(job: _Job) -> dict[str, Any]:
    """What `generate` is given for a whole batch."""
    given = job.sampling.options.get("sampling") or {}
    return {name: value for name, value in given.items() if name != "top_k"}


def _compiler(tokenizer: Any, vocabulary: int, ends: set[int]) -> Any:
    """xgrammar's compiler of JSON schemas for this tokenizer; None where it is not installed."""
    try:
        import xgrammar
    except ImportError:
        return None
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary, stop_token_ids=sorted(ends))
    return xgrammar.GrammarCompiler(info)


def _matcher(grammar: Any) -> Any:
    """A fresh matcher of a compiled grammar; None for none."""
    if grammar is None:
        return None
    import xgrammar

    return xgrammar.GrammarMatcher(grammar)
