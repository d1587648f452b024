"""Keys of rows: what decides a row, and so what makes it stale. No model's text is in them, nor where it ran."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from specdistill.builders.asking import TEMPLATE_VERSION
from specdistill.builders.judging import RUBRIC_VERSION
from specdistill.builders.rewriting import REWRITE_VERSION
from specdistill.schemas.digest import digest


def candidate_id(prompt_id: str, arm: str, generator: str, spec: str | None, index: int) -> str:
    """Key of a candidate: it does not depend on what was sampled, so a resumed run has the same keys."""
    return digest("candidate", prompt_id, arm, generator, spec, index)


def judgment_id(candidate: str, judge: str, spec: str, index: int) -> str:
    """Key of a judgment."""
    return digest("judgment", candidate, judge, spec, index)


def sampling_of(config: Any) -> dict[str, Any]:
    """What of an engine's configuration determines its text. Where it runs and how fast does not."""
    extra = dict(config.options) if config.engine == "openai" else {}
    return {
        "model": config.model,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "max_tokens": config.max_tokens,
        "seed": config.seed,
        "reasoning": config.reasoning,
        **({"options": extra} if extra else {}),
    }


def bounds_of(config: Any, *names: str) -> list[dict[str, int]]:
    """Bounds in characters that the schema of a guided text has, where they are not the default ones.

    Default bounds are in no key, so that runs from before they were in any keep their rows: a default that is changed
    needs another template or rubric version.

    Returns:
        One dict, or nothing where there is none to name.
    """
    defaults = {name: type(config).model_fields[name].default for name in names}
    bounds = {name: bound for name in names if (bound := getattr(config, name)) != defaults[name]}
    return [bounds] if bounds and config.reasoning == "guided" else []


def generator_digest(config: Any) -> str:
    """Digest on every candidate row: model, sampling, placement, template version, bounds of a guided text."""
    bounds = bounds_of(config, "reasoning_chars", "answer_chars")
    return digest("generator", sampling_of(config), config.placement, TEMPLATE_VERSION, *bounds)


def judge_digest(config: Any) -> str:
    """Digest on every judgment row: model, sampling, rubric version, whether a hint was shown, bound of a guided
    justification."""
    bounds = bounds_of(config, "justification_chars")
    return digest("judge", sampling_of(config), RUBRIC_VERSION, *(["hint"] if config.hint else []), *bounds)


def rewrite_digest(config: Any) -> str:
    """Digest on every rewritten candidate: the generator's, and the version of what it is asked."""
    return digest("rewrite", generator_digest(config), REWRITE_VERSION)


def missing_indexes(ids: Iterable[str], done: set[str]) -> list[int]:
    """Indexes of the samples that have no finished row."""
    return [index for index, key in enumerate(ids) if key not in done]
