"""Starting and stopping vLLM: its arguments, environment and processes."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from specdistill.builders.engines.embedded import resolve_model
from specdistill.builders.engines.exchange import said
from specdistill.builders.engines.vllm_watchdog import MARK
from specdistill.errors import EngineError

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

GRACE = 20.0
"""Seconds an engine process may take to stop; on CPU it takes about 5, and vLLM kills it after 5 by
default."""
_SMALL = 4
"""Up to so many cores, none is kept free for vLLM's scheduler: 320 tokens/s became 560 on two."""


@contextmanager
def environment(mark: str = "") -> Iterator[None]:
    """Variables that vLLM and its processes are started with, where the user has set none: a log for a
    library, not for a server, and all cores of a small machine (vLLM reserves one for its scheduler; of two,
    that is half).

    Args:
        mark: what the processes can be known by, see `vllm_watchdog`.
    """
    # Spawned, not forked: this process has threads, and a forked one would not carry the mark.
    ours = {"VLLM_NO_USAGE_STATS": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    if "VLLM_LOGGING_LEVEL" not in os.environ:
        ours |= {"VLLM_LOGGING_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore"}
    if _cores() <= _SMALL:
        ours["VLLM_CPU_NUM_OF_RESERVED_CPU"] = "0"
    ours = {name: value for name, value in ours.items() if name not in os.environ} | {MARK: mark}
    os.environ.update(ours)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def join(engine: AsyncLLM) -> None:
    """Wait until the engine processes are gone: until then their memory is not free for the next engine."""
    manager = getattr(engine.engine_core.resources, "engine_manager", None)
    for process in getattr(manager, "processes", ()):
        process.join(GRACE)


async def cancel_all() -> None:
    """Cancel what is left on the running loop and see it end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def new_engine(model: str, options: dict[str, Any]) -> AsyncLLM:
    """A started engine on the running loop.

    Raises:
        EngineError: vLLM has no such option.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        configured = AsyncEngineArgs(**engine_arguments(resolve_model(model), options))
    except TypeError as exc:
        raise EngineError(
            f"vLLM takes no such option: {said(exc)}", "Correct `options` of the engine.", key="options"
        ) from exc
    return AsyncLLM.from_engine_args(configured)


def engine_arguments(model: str, options: dict[str, Any]) -> dict[str, Any]:
    """vLLM's engine arguments: our defaults for this machine, and the user's options over them."""
    from vllm.platforms import current_platform

    arguments: dict[str, Any] = {
        "model": model,
        "disable_log_stats": True,
        "enable_prefix_caching": True,
        "use_tqdm_on_load": False,
        # Free whitespace in JSON is where small models loop until max_tokens.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    }
    if current_platform.is_cpu():
        arguments |= {"dtype": "bfloat16", "enforce_eager": True}
        if not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
            arguments["kv_cache_memory_bytes"] = _cpu_kv_cache()
    return arguments | options


def _cpu_kv_cache() -> int:
    """Bytes of KV cache on CPU: a quarter of what is free, at most 4 GiB; vLLM's own default is nearly all
    memory."""
    import psutil

    return int(min(4 * 2**30, psutil.virtual_memory().available // 4))


def _cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def firstsaid(exc: BaseException) -> str:
    """The first line of an error, with its kind where the message alone says little."""
    text = (str(exc).strip().splitlines() or [""])[0][:300]
    return text if " " in text else f"{type(exc).__name__} {text}".strip()
