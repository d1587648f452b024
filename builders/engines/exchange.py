"""What goes into an engine and what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from specdistill.schemas.vocabulary import FinishReason

Messages = list[dict[str, str]]
"""A conversation: list of {role, content}, oldest first."""

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


@dataclass(frozen=True)
class Request:
    """One conversation to be completed `samples` times.

    Attributes:
        messages: the conversation; the last turn is the one to be answered.
        samples: completions wanted, from one request.
        schema: JSON schema the text must follow, or None for free text.
        seed: added to the engine's seed. Engines that can seed single samples (transformers) draw sample i
            with `engine.seed + seed + i`; a caller that asks again for samples 2 and 3 of a prompt sets
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
        options: the engine's options that go with each request (see `Engine.request_options`).
    """

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 4096
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

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


def one_line(text: str) -> str:
    """Somebody else's text on one line of at most 300 characters, without what a terminal would obey."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text[:2000]).split())[:300]


def said(exc: BaseException) -> str:
    """What an error says, on one line; with its kind where that alone says little."""
    text = one_line(str(exc))
    return text if " " in text else f"{type(exc).__name__} {text}".strip()
