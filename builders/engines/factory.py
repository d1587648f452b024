"""From the recipe's words to engines, and one backend for all roles that can share it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import methodcaller
from types import TracebackType
from typing import Any

from specdistill.builders.engines.backend import Backend, SharedBackend
from specdistill.builders.engines.base import Engine
from specdistill.builders.engines.foreign_code import check_foreign_code
from specdistill.schemas import recipe

Host = Callable[[Engine], Backend]
"""Where the backends of engines live; see `ray_cluster.RayHost`."""

_FIELDS = (
    "model",
    "reasoning",
    "temperature",
    "top_p",
    "max_tokens",
    "seed",
    "concurrency",
    "timeout",
    "retries",
    "options",
)


def make_engine(config: recipe.Engine) -> Engine:
    """The engine a recipe asks for, not loaded. Imports no engine package, so it is cheap.

    Raises:
        RecipeError: it could run foreign code, outside of a `with foreign_code(True)`.
    """
    check_foreign_code(config)
    fields: dict[str, Any] = {name: getattr(config, name) for name in _FIELDS}
    if config.engine == "openai":
        from specdistill.builders.engines.openai import OpenAIEngine

        return OpenAIEngine(base_url=config.base_url or "", api_key_env=config.api_key_env, **fields)
    if config.engine == "vllm":
        from specdistill.builders.engines.vllm import VLLMEngine

        return VLLMEngine(**fields)
    from specdistill.builders.engines.transformers import TransformersEngine

    return TransformersEngine(**fields)


def engines_of(asked: recipe.Recipe) -> list[recipe.Engine]:
    """Every engine that a recipe names: generator, each judge, classifier."""
    named = [asked.generator, *asked.judge.judges, asked.classifier]
    return [one for one in named if one is not None]


def two_offline_models(asked: recipe.Recipe) -> bool:
    """Whether generator and a judge are different models that both live on this machine."""
    generator, local = asked.generator, [one for one in asked.judge.judges if one.engine != "openai"]
    if generator.engine == "openai":
        return False
    return any(identity(generator) != identity(judge) for judge in local)


def identity(config: recipe.Engine) -> tuple[Any, ...]:
    """What makes two engines the same loaded model."""
    return config.engine, config.model, sorted(config.options.items(), key=str)


class EnginePool:
    """Engines of one run. Roles that name the same model and options share one backend.

    A backend is started by the first engine that is loaded and closed when every engine the pool gave out for
    it has been unloaded, so one engine process serves all stages, and a second model is not in memory before
    the first has gone. Leaving the pool closes what is left; with `keep` nothing is closed before.

        with EnginePool() as pool:
            generator, judge = pool.engine(recipe.generator), pool.engine(recipe.judge)

    Args:
        keep: close nothing before the pool is left.
        host: gives an engine's backend, not started; default is the engine's own, in this process.
    """

    def __init__(self, *, keep: bool = False, host: Host | None = None) -> None:
        self.keep, self._host = keep, host or methodcaller("make_backend")
        self._backends: dict[tuple[Any, ...], SharedBackend] = {}

    def engine(self, config: recipe.Engine) -> Engine:
        """An engine of its own sampling on a shared backend; not loaded."""
        engine = make_engine(config)
        key = engine.backend_key
        if key not in self._backends:
            self._backends[key] = SharedBackend(partial(self._host, engine))
        engine.share(self._backends[key])
        if self.keep:
            self._backends[key].reserve(self)
        return engine

    def __enter__(self) -> EnginePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for shared in self._backends.values():
            shared.close()
